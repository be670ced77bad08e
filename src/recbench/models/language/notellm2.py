"""NoteLLM-2 in its text form: a language model compresses an item's text into one word, whose state is the item; items that follow each other are
brought together [Zhang et al., KDD 2025, arXiv 2405.16789; NoteLLM, WWW 2024].

What is different about this model: it learns from pairs of items, not from users. A prompt asks for the text "in one word" (``text_prefix``), and
the state behind it goes through one linear map. It lends its item vectors (model.item_table.model=notellm2), and ranks by the last item alone.

    logits = e^tau cos(v_a, v_b) over all vectors of the step but one's own; loss = - log softmax at the partner, of both sides

Glossary (paper and released code -> here): item pairs from co-occurrence -> ``pairs_of``; tau -> ``scale``, learned from 3; embedding head ->
``head``.

Deviations, and why:
- No image: neither its tokens, nor the late fusion, nor the loss on its vectors. No data here hold text, image and order together.
- Pairs are events of one training window at most ``distance`` apart, drawn anew in every step, so a frequent pair counts as often as it occurs;
  the paper weighs co-occurrence over a week of private logs.
- ``pairs: random`` draws the partner among all events of the step: as popular, but of anybody. The control.
- Two vectors of the same item are no negatives of each other.
- ``tiny`` and encoders pool as ``model.pool`` says; the prompt with pool=last is for decoders.
- The paper: Qwen-VL and others of 1B to 7B, lr 3e-6, private notes; its figures can be held against nothing here.

Shapes: B windows, L positions, N pairs, E width of the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, drawn_places
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.language.item_encoder import ItemEncoder, ItemEncoderConfig
from recbench.models.registry import register

PAIRS = ("adjacent", "random")
SCALE_START, SCALE_MOST = 3.0, 4.6


@dataclass
class NoteLLM2Config(ItemEncoderConfig):
    """Keys of the tower, and which items are a pair."""

    name: str = "notellm2"
    width: int = 64
    pairs: str = "adjacent"
    distance: int = 1
    pairs_per_window: int = 4


@register("notellm2", NoteLLM2Config)
class NoteLLM2(ItemEncoder):
    """See the head of this file."""

    def __init__(self, config: NoteLLM2Config, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"pairs": PAIRS})
        check_counts(config, "width", "distance", "pairs_per_window")
        self.head = nn.Linear(self.tower.width, config.width, bias=False)
        self.scale = nn.Parameter(torch.tensor(SCALE_START))

    def asked(self, batch: Batch) -> Tensor:
        last = batch.items.gather(1, batch.lengths[:, None] - 1)[:, 0]
        return self.item_vectors()[last]

    def training_loss(self, batch: Batch) -> Tensor:
        return self.contrast(*self.pairs_of(batch))

    def pairs_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Items of one window [N], and others at most ``distance`` events later in it [N]."""
        assert batch.targets is not None
        device = batch.items.device
        row, first = drawn_places(batch, self.config.pairs_per_window)
        # targets[p] is the event behind position p.
        step = (torch.rand(len(row), device=device) * self.config.distance).long()
        last = torch.minimum(first + step, batch.lengths[row] - 1)
        partner = batch.targets[row, last]
        if self.config.pairs == "random":
            partner = partner[torch.randperm(len(partner), device=device)]
        return batch.items[row, first], partner

    def contrast(self, one: Tensor, other: Tensor) -> Tensor:
        """Items [N] and their partners [N] -> scalar, the same with sides changed. Raises UserError if no item has anything to be told from."""
        items = torch.cat([one, other])
        n = len(one)
        vectors = F.normalize(self.vectors_of(items), dim=-1)
        logits = self.scale.clamp(0.0, SCALE_MOST).exp() * vectors @ vectors.T
        place = torch.arange(2 * n, device=items.device)
        partner = (place + n) % (2 * n)
        out = (items[:, None] == items) | (items[partner][:, None] == items)
        out[place, partner] = False
        asked = items != items[partner]
        if not bool(((~out).sum(1) > 1)[asked].any()):
            raise UserError(
                "a step of 'notellm2' has nothing to tell its items from; raise model.pairs_per_window or training.batch_size"
            )
        return F.cross_entropy(logits.masked_fill(out, -torch.inf)[asked], partner[asked])
