"""Next number: the item whose number follows. It knows no items, only how they were numbered [LLM-RecSys-ID: Hua et al., SIGIR-AP 2023].

What is different about this model: nothing is learned. Items have the numbers that the run under ``tokenizer`` gave them, in the order of their
codes. First comes the item whose number is one above that of the last event, second the one above the largest number of the history, then the rest by
popularity. Where numbers were handed out walking over whole histories, as P5 did, this rule hits held-out items: whatever a model over such
numbers reaches must be held against it. Over numbers from training events alone it has little to say.

Glossary (here): ``number`` -> place of an item in the order of codes, from 1; ``follows`` -> the item of a number.

Deviations: the rule is ours; the leak was told in issue threads of P5 and in OpenP5.

Shapes: B rows, L events, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register
from recbench.nn.transformer.attention import at_position


@dataclass
class NextNumberConfig(ModelConfig):
    """The run that numbers the items."""

    name: str = "next_number"
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "sequential_ids"})


@register("next_number", NextNumberConfig)
class NextNumber(ClosedForm):
    """See the head of this file."""

    state_names: ClassVar[tuple[str, ...]] = ("number", "counts")
    number: Tensor  # [V] int64, 0 of the pad
    counts: Tensor  # [V] float32

    @classmethod
    def dependencies(cls, config: NextNumberConfig) -> dict[str, dict[str, Any]]:
        return {"tokenizer": config.tokenizer}

    def __init__(self, config: NextNumberConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        source: Any = context.dependencies.get("tokenizer")
        if source is not None and not hasattr(source, "codes"):
            raise UserError(
                f"model.tokenizer.model={source.config.name} numbers no items; name a tokenizer, such as sequential_ids"
            )
        self._codes = None if source is None else source.codes.cpu().numpy()

    def fit_to(self, train: TrainingData) -> None:
        assert self._codes is not None
        self.set_state("number", torch.from_numpy(numbers_of(self._codes)))
        self.set_state("counts", torch.from_numpy(train.item_counts()).float())

    def score(self, batch: Batch) -> Tensor:
        """[B, V]: 3 for the item after the last event's, 2 for the one after the largest, and shares of popularity below 1."""
        numbers = self.number[batch.items]
        shares = self.counts / (self.counts.max() + 1)
        scores = shares.expand(len(batch), -1).clone()
        follows = torch.zeros(self.n_items + 2, dtype=torch.int64, device=numbers.device)
        follows[self.number] = torch.arange(self.n_items + 1, device=numbers.device)
        for worth, number in ((2.0, numbers.amax(1)), (3.0, at_position(numbers[..., None], batch.lengths - 1)[:, 0])):
            item = follows[number + 1]
            row = torch.arange(len(batch), device=numbers.device)
            scores[row, item] = torch.where(item > 0, worth, scores[row, item])
        return scores


def numbers_of(codes: np.ndarray) -> np.ndarray:
    """codes [V, M], row 0 the pad's -> [V] int64: 1, 2, ... in the order of the codes, equal ones in item order; 0 of the pad.

    >>> numbers_of(np.array([[-1, -1], [1, 0], [0, 5], [0, 2]])).tolist()
    [0, 3, 2, 1]
    """
    order = np.lexsort(codes[1:].T[::-1])
    number = np.zeros(len(codes), dtype=np.int64)
    number[1 + order] = np.arange(1, len(codes))
    return number
