"""P5, with the indexings of OpenP5: one encoder-decoder reads a prompt in words around the codes of a history and spells the next item [Geng et al.,
RecSys 2022, arXiv 2203.13366; OpenP5: Xu et al., SIGIR 2024, arXiv 2306.07134].

What is different about this model: it is ``tiger`` (whose network and decoding these are) told in words what to do, by several prompts a task, of
which one is drawn at each step. All tokens of an item share a *whole-word* vector, that of the item's place in the history, so that a number in
pieces is seen as one thing. And an item may be asked for by the user alone (``direct``), without any history.

    x = [words of the prompt][user][codes of item 1 + w_1][codes of item 2 + w_2] ...        L = L_sequential + direct x L_direct + rating x L_rating

``rating`` above 0 adds the rating task: behind a prompt, a user and one item the answer is the word of a rating, one word for each value that
training events have. Its figures are test/rating_rmse and the like (``recbench.experiment.rating_figures``), beside what counting gives.

Items are numbered by the run under ``tokenizer``: OpenP5's are ``sequential_ids``, ``collaborative_ids`` and ``random_ids``; text makes the
others. P5's own numbering told the target (model.tokenizer.over=everything); hold it against model=next_number, which reads nothing else.

Glossary (paper and released code -> here): whole-word embedding -> ``whole_word``; personalised prompts -> ``prompts``, ``direct_prompts``;
sequential and straightforward recommendation -> the loss of ``tiger`` and ``direct``; unseen prompt -> ``unseen_prompt``; rating prediction ->
``rating``, ``rating_prompts`` (the first is asked in the test).

Deviations, and why:
- Three of P5's five task families, ``rating`` if it is asked for. Reviews and explanations are not built: they are free text, which this network from
  nothing, with hashed words, can neither spell nor be judged by.
- A rating is one word of its own, not the characters of a number, and every value can be answered. The released parser takes 1.0 to 4.9 alone, so
  its RMSE leaves out all answers "5.0", the commonest. test/rating_rmse is of the mean over the words' probabilities, the best answer to a squared
  error; test/rating_word_rmse of the likeliest word, as P5 answers.
- Not a pretrained T5: its network from nothing, with hashed words. What words of a prompt mean is learned here, and there is little to mean.
- A fixed prompt in the test (``test_prompt``), whatever is drawn in training. With decoder=exact the figures of ``unseen_prompt`` stand beside
  (unseen_prompt_*).
- Users are hashed to ``user_tokens`` vectors, as in ``tiger``; P5 numbers them like items.
- Beams follow the trie; P5's are free. Every prefix of a window is a target; P5 takes few targets near the end, from histories that start near the
  beginning.
- P5: T5-small or base, lr 1e-3, 10 epochs, batch 32 x 4; OpenP5: T5-small, 20 epochs, batch 64, 11 prompts.

Shapes: B rows, L items of a history, P tokens an item, W words of a prompt, M tokens in all, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch, drawn_places
from recbench.data.cases import flat_ranges
from recbench.data.training import TrainingData
from recbench.models.base import Control, ModelContext
from recbench.models.generative.tiger import TIGER, TIGERConfig
from recbench.models.registry import register
from recbench.nn.text.item_text import hashed_words
from recbench.nn.transformer.t5_blocks import initialise

#: Words of a prompt that are read.
PROMPT_WORDS = 24
PROMPTS = (
    "A user chose these items, oldest first. What comes next?",
    "Predict the item that follows this history.",
    "After all of these, which item does the user want?",
)
DIRECT_PROMPTS = ("What should be recommended to this user?", "Name an item that this user would like.")
RATING_PROMPTS = ("Which rating will this user give this item?", "How much does the user like the item?")
#: More different ratings than that are no words.
MOST_RATINGS = 100


@dataclass
class P5Config(TIGERConfig):
    """The keys of tiger, and the prompts."""

    name: str = "p5"
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "sequential_ids"})
    user_tokens: int = 2000
    prompts: list[str] = field(default_factory=lambda: list(PROMPTS))
    direct_prompts: list[str] = field(default_factory=lambda: list(DIRECT_PROMPTS))
    test_prompt: str = PROMPTS[0]
    unseen_prompt: str = "Given what was chosen so far, the following choice is"
    whole_words: bool = True
    direct: float = 1.0
    text_buckets: int = 512
    rating: float = field(default=0.0, metadata=LATER)  # weight of that task; needs ratings
    rating_prompts: list[str] = field(default_factory=lambda: list(RATING_PROMPTS), metadata=LATER)


@register("p5", P5Config)
class P5(TIGER):
    """See the head of this file. ``rating_values`` [R]: what the words of the rating task stand for; none without that task."""

    rating_values: Tensor

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        return cls.requires | ({"ratings"} if config.rating else frozenset())

    def __init__(self, config: P5Config, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        said = (
            *config.prompts,
            *config.direct_prompts * bool(config.direct),
            *config.rating_prompts * bool(config.rating),
        )
        if any(prompt.strip() for prompt in said):
            self.word_embedding = nn.Embedding(config.text_buckets + 1, config.hidden_size)
            self.word_embedding.apply(initialise)
        if config.whole_words:
            self.whole_word = nn.Embedding(context.max_length, config.hidden_size)
            self.whole_word.apply(initialise)
        #: Words of the prompt that is read now; None: of the test's.
        self._said: list[int] | None = None
        self._ratings: np.ndarray | None = None
        if config.rating:
            if context.train is not None:
                self._ratings = context.train.data.ratings
            self.register_buffer("rating_values", torch.empty(0) if context.train is None else values_of(context.train))
            self.rating_head = nn.Linear(config.hidden_size, len(self.rating_values), bias=False)
            self.rating_head.apply(initialise)

    def words_of(self, prompt: str) -> list[int]:
        """Numbered from 1."""
        words = hashed_words([prompt], self.config.text_buckets, PROMPT_WORDS)[0]
        return words[words > 0].tolist()

    @property
    def said(self) -> list[int]:
        """The words of the prompt that is read now."""
        return self.words_of(self.config.test_prompt) if self._said is None else self._said

    @contextmanager
    def saying(self, prompt: str) -> Iterator[None]:
        """While this is open, histories are read behind this prompt."""
        self._said = self.words_of(prompt)
        try:
            yield
        finally:
            self._said = None

    @property
    def tokens_before(self) -> int:
        return super().tokens_before + len(self.said)

    def inputs(self, items: Tensor, lengths: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        x, n_real = super().inputs(items, lengths, user)
        if self.config.whole_words and items.shape[1]:
            place = torch.arange(items.shape[1], device=items.device).repeat_interleave(self.tokens_per_item)
            first = super().tokens_before
            x = torch.cat([x[:, :first], x[:, first:] + self.whole_word(place)], 1)
        said = self.said
        if not said:
            return x, n_real
        words = self.word_embedding(torch.tensor(said, device=items.device)).expand(len(items), -1, -1)
        return torch.cat([words, x], 1), n_real + len(said)

    def training_loss(self, batch: Batch) -> Tensor:
        with self.saying(one_of(self.config.prompts)):
            loss = super().training_loss(batch)
        if self.config.direct:
            with self.saying(one_of(self.config.direct_prompts)):
                loss = loss + self.config.direct * self.direct_loss(batch)
        if self.config.rating:
            with self.saying(one_of(self.config.rating_prompts)):
                loss = loss + self.config.rating * self.rating_loss(batch)
        return loss

    def direct_loss(self, batch: Batch) -> Tensor:
        """Mean over windows of -log p(one of its targets, drawn | the user alone)."""
        assert batch.targets is not None
        targets = batch.targets[drawn_places(batch, 1)][:, None]
        memory = self.encode(batch.items[:, :0], torch.zeros_like(batch.lengths), batch.user)
        states, _ = self.decode(self._shifted(targets), memory, memory.real[:, None, None, :])
        return self.cross_entropy(states[:, 0], targets[:, 0]) / len(batch)

    def rating_loss(self, batch: Batch) -> Tensor:
        """Mean over windows of -log p(the rating of one of its events, drawn | the user and its item); an event without a rating counts 0."""
        assert batch.targets is not None
        assert batch.starts is not None
        assert self._ratings is not None
        events = torch.cat([batch.items[:, :1], batch.targets], 1)
        row = torch.arange(len(batch), device=events.device)
        place = (torch.rand(len(batch), device=events.device) * (batch.lengths + 1)).long()
        given = torch.from_numpy(np.asarray(self._ratings[(batch.starts + place).cpu().numpy()])).to(events.device)
        logits = self.rating_logits(batch.user, events[row, place])
        rated = ~given.isnan()
        word = (given[:, None] - self.rating_values).abs().argmin(1)
        return F.cross_entropy(logits[rated], word[rated], reduction="sum") / len(batch)

    def rating_logits(self, user: Tensor, items: Tensor) -> Tensor:
        """user [B], items [B] -> [B, R] behind the prompt that is said."""
        memory = self.encode(items[:, None], torch.ones_like(items), user)
        states, _ = self.decode(self.begin.expand(len(items), 1, 1, -1), memory, memory.real[:, None, None, :])
        logits: Tensor = self.rating_head(states[:, 0, 0])
        return logits.float()

    @property
    def gives_ratings(self) -> bool:
        return bool(self.config.rating)

    def ratings(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        with self.saying(self.config.rating_prompts[0]):
            chances = self.rating_logits(user, items).softmax(-1)
        return {"": chances @ self.rating_values, "word_": self.rating_values[chances.argmax(-1)]}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        if "rating_values" in state and len(state["rating_values"]) != len(self.rating_values):  # of other data
            self.rating_values = state["rating_values"].clone()
            self.rating_head = nn.Linear(self.config.hidden_size, len(self.rating_values), bias=False)
        super().load_stored_state(state)

    def controls(self) -> dict[str, Control]:
        """The scores behind a prompt that training never said; asked where scores are exact."""
        if self.gives_lists or not self.config.unseen_prompt:
            return {}

        def unseen(batch: Batch) -> Tensor:
            with self.saying(self.config.unseen_prompt):
                return self.score(batch)

        return {"unseen_prompt": (unseen, None)}


def one_of(prompts: Sequence[str]) -> str:
    """A drawn one; of a single one nothing is drawn."""
    return prompts[0] if len(prompts) == 1 else prompts[int(torch.randint(len(prompts), ()))]


def values_of(train: TrainingData) -> Tensor:
    """[R] float32: the different ratings of the training events, rising. Raises UserError where none are kept, or too many to be words."""
    if train.data.ratings is None:
        raise UserError("model.rating needs ratings; keep them with data.keep=[ratings], or set model.rating=0")
    _, place = flat_ranges(train.start, train.end)
    given = np.asarray(train.data.ratings[place])
    values = np.unique(given[~np.isnan(given)])
    if not 1 <= len(values) <= MOST_RATINGS:
        raise UserError(
            f"the training events have {len(values):,} different ratings, and each is a word of p5 (at most {MOST_RATINGS}); set model.rating=0"
        )
    return torch.from_numpy(values.astype(np.float32))


def _check(config: P5Config) -> None:
    if config.rating < 0:
        raise UserError(f"model.rating must be at least 0, not {config.rating:g}")
    if config.rating and (not config.rating_prompts or not config.user_tokens):
        raise UserError(
            'the rating task asks by prompt and user: give model.rating_prompts at least one, as in [""], and set model.user_tokens above 0'
        )
    if not config.prompts or (config.direct and not config.direct_prompts):
        raise UserError(
            'a task without a prompt: give model.prompts and model.direct_prompts at least one each, as in [""]'
        )
    if config.direct < 0 or config.text_buckets < 1:
        raise UserError("model.direct must be at least 0, and model.text_buckets at least 1")
    if config.direct and not config.user_tokens:
        raise UserError("the direct task asks by the user alone: set model.user_tokens above 0, or model.direct=0")
    if config.test_prompt.strip() and not any(prompt.strip() for prompt in config.prompts):
        raise UserError(
            "model.test_prompt has words, and model.prompts have none to learn them by: set model.test_prompt=''"
        )
