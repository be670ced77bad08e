"""Sequential item codes: items numbered as users meet them, so that items of one user have near numbers [Hua et al., SIGIR-AP 2023, sequential
indexing].

What is different about this tokenizer: the number of an item is when it first occurs in the training events, user after user; its digits to
a base are its codes, the most telling first. Items that never occur in training come last, in an order that is drawn (with a fixed seed),
so that nothing about held-out events can be in it: P5's first numbering walked over whole histories, which told the target.

``over: everything`` is that first numbering: it walks over validation and test events too, and so tells the target (model=next_number says how much).
It is here to show the leak, and for nothing else.

Where this deviates from OpenP5, and why: digits of a fixed base and number, so that every generator reads them; there, the pieces into
which a text tokenizer breaks the decimal number. The base is the smallest that suffices, and ``codebook_size`` its limit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import ItemTokenizer, TokenizerConfig

logger = logging.getLogger(__name__)

OVER = ("training", "everything")


@dataclass
class SequentialIdsConfig(TokenizerConfig):
    """Nothing but what all tokenizers have; codebook_size is the largest base."""

    name: str = "sequential_ids"
    #: Which events are walked over: training, or everything, which leaks.
    over: str = field(default="training", metadata=LATER)


@register("sequential_ids", SequentialIdsConfig)
class SequentialIds(ItemTokenizer):
    """See the head of this file."""

    uses_seed: ClassVar[bool] = False

    def __init__(self, config: SequentialIdsConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"over": OVER})
        if config.codebook_size**config.levels < context.n_items:
            raise UserError(
                f"{config.levels} digits to base {config.codebook_size} cannot number {context.n_items:,} items; "
                "raise model.levels or model.codebook_size"
            )

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        n, levels = train.n_items, self.config.levels
        base = smallest_base(n, levels)
        place = base ** np.arange(levels - 1, -1, -1, dtype=np.int64)
        return self._numbers(train)[:, None] // place % base, [base] * levels

    def _numbers(self, train: TrainingData) -> np.ndarray:
        if self.config.over == "training":
            return first_seen(train)
        logger.warning(
            "sequential_ids: model.over=everything numbers items by held-out events too, and so tells the target; for showing that leak alone"
        )
        return first_seen(TrainingData(train.data, train.data.offsets[:-1], train.data.offsets[1:]))


def first_seen(train: TrainingData) -> np.ndarray:
    """[n_items] int64: numbers 0, 1, ... of the items in the order in which the events first show them, user after user."""
    items, first = np.unique(train.flat()[1], return_index=True)
    seen = items[np.argsort(first)]
    rest = np.setdiff1d(np.arange(1, train.n_items + 1), seen)
    number = np.empty(train.n_items, dtype=np.int64)
    number[np.concatenate([seen, np.random.default_rng(0).permutation(rest)]) - 1] = np.arange(train.n_items)
    return number


def smallest_base(n: int, levels: int) -> int:
    """The smallest base in which ``levels`` digits number n items.

    >>> smallest_base(1000, 3), smallest_base(1001, 3)
    (10, 11)
    """
    base = max(1, round(n ** (1 / levels)) - 1)
    while base**levels < n:
        base += 1
    return base
