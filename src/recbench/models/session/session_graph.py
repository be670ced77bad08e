"""What the models that read a prefix as the graph of its items share."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.sequence_model import SequenceModel
from recbench.nn.prefix_rows import states_of_prefixes


class SessionGraphModel(SequenceModel):
    """A subclass makes ``item_embedding`` and gives ``last_states``: the states at the end of each history, from the graph of all of it.

    The state at any other event is that of the prefix which ends there, as a row of its own.
    """

    looks_up_events: ClassVar[bool] = False
    item_embedding: nn.Embedding

    def item_vectors(self) -> Tensor:
        """[V, D]: what session vectors are compared with."""
        return self.item_embedding.weight

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        return states_of_prefixes(self.last_states, batch)
