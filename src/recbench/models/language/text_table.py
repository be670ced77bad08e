"""Text table: an item's vector is the vector of its text. It learns nothing and ranks nothing; it lends its vectors to models that read a table.

What is different about this run: in place of a converged ID recommender it stands under ``model.item_table`` of ``slmrec`` and ``e4srec``, so that
the same body reads texts. E4SRec's free head over it is the frozen form of Lite-LLM4Rec [arXiv 2402.09617], whose item vectors come out of a language
model that reads each text once. Which vectors it has, ``data.text`` says: the encoder, the template, and ``data.text.shuffle`` for the control.

Where this deviates, and why:
- The vectors are computed once and stay as they are; Lite-LLM4Rec trains its item encoder along, as ``model=lite_llm4rec`` does.
- An item without text has the vector 0, as the pad has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register


@dataclass
class TextTableConfig(ModelConfig):
    """Nothing to set here; the keys are those of ``data.text``."""

    name: str = "text_table"


@register("text_table", TextTableConfig)
class TextTable(ClosedForm):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text_vectors"})
    ranks = False
    state_names: ClassVar[tuple[str, ...]] = ("vectors",)
    vectors: Tensor  # [n_items + 1, D]

    def __init__(self, config: TextTableConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self._given = context.text_vectors

    def fit_to(self, train: TrainingData) -> None:
        assert self._given is not None
        self.set_state("vectors", self._given)

    def item_vectors(self) -> Tensor:
        """[n_items + 1, D]: row 0, and that of an item without text, is 0."""
        return self.vectors

    def report(self, train: TrainingData) -> dict[str, Any]:
        known = self.vectors[1:].any(1)
        return {
            "text_table/width": self.vectors.shape[1],
            "text_table/items": len(known),
            "text_table/items_without_text": int((~known).sum()),
        }
