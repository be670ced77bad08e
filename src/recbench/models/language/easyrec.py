"""EasyRec: one encoder reads the text of a user and the text of an item, and brings together those that belong together [Ren and Huang, 2024,
arXiv 2408.08821].

What is different about this model: there is no sequence and no id, only two texts and a cosine. It lends its item vectors to models that read a table
(model.item_table.model=easyrec), where they are most useful.

    p = tanh(W e),  e the pooled states of a text
    loss of pair b = - log e^{cos(u_b, i_b) / t} / (sum over the items i of the batch and as many drawn ones of e^{cos(u_b, i) / t})

Glossary (paper and released code -> here): user profile -> ``user_texts``; item profile -> the item's text; tau -> ``temperature``; pooler MLP ->
``head``.

Deviations, and why:
- A user's text is the titles of the last ``recent`` items, the latest first, within ``user_text_tokens`` tokens. The paper's is a profile that a
  large model wrote from interactions and reviews, which nobody can make again; its zero-shot figures stand or fall with it. ``user_text=reviews``
  takes what the user wrote of these items (the title where that is nothing; data.keep=[reviews]), never of the target; ``profile`` a ready text
  of each user (data.users.text), such as one of the authors' own.
- ``mask_same``: an item that is the target of two rows is no negative of either. The released code takes it for one.
- No masked-word term beside (the paper's weighs .1).
- ``targets_per_window`` targets of each training window, drawn anew; the text of a user holds what comes before the target alone.
- head=none leaves out W and tanh: then the vectors start as the tower's own.
- The paper trains RoBERTa of 110M to 355M parameters on six Amazon categories, 64 tokens, and evaluates on others.

Shapes: B windows, N pairs of a step, K drawn items, T tokens, E width of the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch, drawn_prefixes
from recbench.data.meetings import FirstMeetings
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.language.item_encoder import ItemEncoder, ItemEncoderConfig
from recbench.models.registry import register
from recbench.nn.text.real_first import real_first

HEADS = ("tanh", "none")
#: What is read of a user, and what the data must offer for it.
USER_TEXTS: dict[str, frozenset[str]] = {
    "titles": frozenset(),
    "reviews": frozenset({"reviews"}),
    "profile": frozenset({"user_text"}),
}


@dataclass
class EasyRecConfig(ItemEncoderConfig):
    """Keys of the tower, of a user's text, and of the contrast."""

    name: str = "easyrec"
    head: str = "tanh"
    recent: int = 5
    user_text_tokens: int = 64
    temperature: float = 0.05
    n_negatives: int = 64
    targets_per_window: int = 4
    mask_same: bool = True
    user_text: str = field(default="titles", metadata=LATER)


@register("easyrec", EasyRecConfig)
class EasyRec(ItemEncoder):
    """See the head of this file."""

    #: Tokens of each event's review, or of each user's profile; int32, empty for titles.
    told: Tensor

    @classmethod
    def needs(cls, config: EasyRecConfig) -> frozenset[str]:
        return cls.requires | USER_TEXTS.get(config.user_text, frozenset())

    def __init__(self, config: EasyRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"head": HEADS, "user_text": tuple(USER_TEXTS)})
        check_counts(config, "recent", "user_text_tokens", "targets_per_window")
        if not config.temperature > 0 or config.n_negatives < 0:
            raise UserError("model.temperature must be positive, and model.n_negatives at least 0")
        if config.head == "tanh":
            self.head = nn.Sequential(nn.Linear(self.tower.width, self.tower.width), nn.Tanh())
        # Read again from the data whenever the model is built, so no part of a checkpoint.
        self.register_buffer("told", torch.zeros(0, 0, dtype=torch.int32), persistent=False)
        if config.user_text == "reviews":
            assert context.train is not None, "reviews stand in the data"
            data = context.train.data
            self._met = FirstMeetings(data)
            self.told = self.tower.tokens_of([text or "" for text in data.reviews().to_list()])
        elif config.user_text == "profile":
            self.told = self.tower.tokens_of(context.user_texts or [""], config.user_text_tokens)

    def user_texts(self, histories: Batch) -> Tensor:
        """[B, T] token rows: the texts of the last items, the latest first, or what was said by or of the user in their place."""
        back = torch.arange(min(self.config.recent, histories.items.shape[1]), device=histories.items.device)
        place = histories.lengths[:, None] - 1 - back
        items = histories.items.gather(1, place.clamp(min=0)) * (place >= 0)
        tokens = self.tower.tokens[items]
        if self.config.user_text == "reviews":
            place = torch.from_numpy(self._met.positions(histories.user.cpu().numpy(), items.cpu().numpy())).to(
                items.device
            )
            reviews = self.told[place.clamp(min=0, max=len(self.told) - 1)]
            tokens = torch.where((place >= 0)[..., None] & (reviews > 0).any(-1, keepdim=True), reviews, tokens)
        texts = real_first(tokens.flatten(1).long())[0][:, : self.config.user_text_tokens]
        if self.config.user_text != "profile":
            return texts
        known = (histories.user >= 0) & (histories.user < len(self.told))
        profiles = self.told[histories.user.clamp(min=0, max=len(self.told) - 1)].long() * known[:, None]
        texts = F.pad(texts, (0, profiles.shape[1] - texts.shape[1]))
        return torch.where((profiles > 0).any(1, keepdim=True), profiles, texts)

    def asked(self, batch: Batch) -> Tensor:
        return self.head(self.tower.read(self.user_texts(batch)))

    def training_loss(self, batch: Batch) -> Tensor:
        histories, targets = drawn_prefixes(batch, self.config.targets_per_window)
        others = torch.randint(1, self.n_items + 1, (self.config.n_negatives,), device=targets.device)
        return self.contrast(self.asked(histories), targets, others)

    def contrast(self, users: Tensor, targets: Tensor, others: Tensor) -> Tensor:
        """users [N, E], their items [N], further items [K] -> scalar. Raises UserError if no row has anything to be told from."""
        items = torch.cat([targets, others])
        logits = F.normalize(users, dim=-1) @ F.normalize(self.vectors_of(items), dim=-1).T / self.config.temperature
        own = torch.arange(len(targets), device=targets.device)
        same = targets[:, None] == items
        out = same if self.config.mask_same else torch.zeros_like(same)
        out[own, own] = False
        if logits.shape[1] < 2 or bool((out.sum(1) == len(items) - 1).all()):
            raise UserError(
                "a step of 'easyrec' has nothing to tell its items from; raise model.n_negatives or training.batch_size"
            )
        return F.cross_entropy(logits.masked_fill(out, -torch.inf), own)
