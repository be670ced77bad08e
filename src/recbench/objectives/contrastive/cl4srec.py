"""CL4SRec: two random augmentations of a history attract each other, those of other histories repel [Xie et al., ICDE 2022, eqs. 3 and 8].

    L = L_rec + weight * InfoNCE(h(a(s)), h(b(s))),     a and b two of crop, mask, reorder

The mask is an item of its own, neither a real one nor the pad: here a learned vector that is put where the model looks up a hidden item. It stands
beside the model, so the item table has the size that it always has and the mask is neither ranked nor in the softmax of the loss (the released
code adds a row to the table, which it then predicts as well).

Glossary (paper -> here): lambda -> ``weight``; tau -> ``temperature``; eta -> ``crop``; gamma -> ``mask``; beta -> ``reorder``; [mask] ->
``mask_vector``.
Deviations: the histories compared are whole windows (``n_contrasts=256``: prefixes, as in the released batches),
and the encoder is ours (pre-norm), not the released post-norm one with GELU; see ``base.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import CL4SRecConfig
from recbench.models.sequence_model import SequenceModel
from recbench.nn.codes.item_vectors import ItemVectors
from recbench.objectives.contrastive.augment import two_views
from recbench.objectives.contrastive.base import Auxiliary, compared, register, representations
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.prefixes import Prefixes


@register("cl4srec")
class CL4SRec(Auxiliary):
    """See the head of this file. Raises UserError for a model without an input table in which an item could be hidden."""

    #: Two views of each group of histories.
    views: list[tuple[Batch, Batch]]

    def __init__(self, config: CL4SRecConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config, self.prefixes = config, Prefixes(dataset)
        width = input_table(model).embedding_dim
        self.mask_vector = nn.Parameter(torch.empty(width).normal_(std=0.02))  # as item vectors start

    def draw(self, batch: Batch) -> None:
        histories = compared(batch, self.prefixes, self.config.n_contrasts)
        self.views = [two_views(group, self.config) for group in histories]

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        states = []
        for views in zip(*self.views, strict=True):
            made = []
            for view in views:
                with hidden_items_read_as(self.mask_vector, input_table(model), view):
                    made.append(representations(model, view))
            states.append(torch.cat(made))
        return {"cl4srec": self.config.weight * info_nce(states[0], states[1], self.config.temperature)}


def input_table(model: SequenceModel, name: str = "cl4srec") -> nn.Embedding | ItemVectors:
    """Where a model looks up the items that it reads."""
    table = getattr(model, "item_embedding", None)
    if not model.looks_up_events:
        raise UserError(
            f"the model '{model.config.name}' reads items as the nodes of a graph, or an event several times, so model.auxiliary=[{name}] cannot "
            "change one event's"
        )
    if not isinstance(table, nn.Embedding | ItemVectors):
        raise UserError(
            f"the model '{model.config.name}' learns no vectors of the items that it reads, so model.auxiliary=[{name}] cannot change one"
        )
    return table


@contextlib.contextmanager
def hidden_items_read_as(vector: Tensor, table: nn.Embedding | ItemVectors, view: Batch) -> Iterator[None]:
    """While this lasts, the table gives ``vector`` [E] for the events of ``view`` whose item is 0; pads are as they were."""
    hidden = (view.items == 0) & view.mask

    def put(_: nn.Module, __: tuple[Any, ...], vectors: Tensor) -> Tensor:
        return torch.where(hidden[..., None], vector, vectors)

    hook = table.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
