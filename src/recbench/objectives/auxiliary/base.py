"""What the auxiliaries of models of users and items share: they read the vectors of the step that is being trained.

The model's loss has made the vectors of all users and items by then, and leaves them in ``model.step`` with the rows of the batch; so a term costs
no further pass along the graph unless it needs a view of its own.

Shapes: B rows of a batch, N rows of a table, D width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import Batch, WindowDataset
from recbench.models.base import Recommender
from recbench.models.collaborative.entities import EntityModel, Step
from recbench.models.collaborative.lightgcn import GraphModel
from recbench.objectives.contrastive.base import Auxiliary


class UserItemAuxiliary(Auxiliary):
    """An auxiliary of any model of ``models/collaborative/entities.py``. A subclass gives ``terms_of``."""

    of: ClassVar[type[Recommender]] = EntityModel
    lacks: ClassVar[str] = "no vectors of users and items"

    def __init__(self, config: Any, model: EntityModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config

    def draw(self, batch: Batch) -> None:
        """Nothing, unless a subclass draws."""

    def terms(self, model: Any) -> dict[str, Tensor]:
        assert model.step is not None, "the model's loss comes first"
        return {f"{name}": self.config.weight * value for name, value in self.terms_of(model, model.step).items()}

    def terms_of(self, model: Any, step: Step) -> dict[str, Tensor]:
        """Scalar terms by name, without the weight."""
        raise NotImplementedError


def rows(table: Tensor, number: Tensor) -> Tensor:
    """[B, D] of a table [N, D], of length 1."""
    return F.normalize(F.embedding(number, table), dim=1)


class GraphAuxiliary(UserItemAuxiliary):
    """An auxiliary of models that propagate along the graph of users and items."""

    of: ClassVar[type[Recommender]] = GraphModel
    lacks: ClassVar[str] = "no graph of users and items"
