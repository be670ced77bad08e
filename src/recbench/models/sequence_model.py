"""Models that score by the product of a query, made of their state at a position, with the vectors of the items.

Shapes: B rows, L the longest history of the batch, D width of the states, E width of the item vectors, N positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.auxiliary import AuxiliaryConfig
from recbench.models.base import ModelConfig, Recommender
from recbench.models.head_config import HeadsConfig
from recbench.models.items import ItemsConfig
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from recbench.nn.losses.class_heads import BehaviourHeads, Heads, ItemHeads
from recbench.nn.transformer.attention import at_position

if TYPE_CHECKING:
    from recbench.data.clicks.rows import ClickBatch

#: Items whose scores are one product where a catalogue is wide: their vectors stay in cache while all rows are multiplied with them.
ITEMS_AT_ONCE = 4096


@dataclass
class SequenceConfig(HeadsConfig, ItemsConfig, AuxiliaryConfig, LossConfig, ModelConfig):
    """What the config of every SequenceModel holds: its loss, what its items are made of, how many heads score them, and
    the terms that may stand beside the loss."""


@runtime_checkable
class HasItemVectors(Protocol):
    """A model that can lend its item table to another."""

    def item_vectors(self) -> Tensor:
        """[n_items + 1, D]; row 0 is the pad."""


class SequenceModel(Recommender):
    """A model that makes a query of its state at a position and scores an item by the product of the query with the item's vector.

    A subclass sets ``loss`` and ``width``, and gives ``hidden_states`` and ``item_vectors``. Because its states, queries and item vectors
    are known by these names, it can teach and learn under every distillation objective. D width of the states, E width of the item vectors.
    """

    loss: CatalogueLoss
    #: D, the width of every hidden state.
    width: int
    answers: ClassVar[frozenset[str]] = frozenset({"ranking", "clicks"})
    gives_odds: ClassVar[bool] = False
    reads_histories: ClassVar[bool] = True
    #: Whether ``item_embedding`` is looked up once for every event [B, L]; not so where items are the nodes of a graph, or are read again for each
    #: history that ends at an event.
    looks_up_events: ClassVar[bool] = True
    #: [n_items + 1, E] of the items' texts, for auxiliaries that read them (``recbench.models.laid_over``); no part of the model's state.
    lent_text_vectors: Tensor | None = None
    #: Attributes of the training users, for auxiliaries that read them; no part of the model's state either.
    lent_user_attributes: Mapping[str, Sequence[str | None]] | None = None

    def item_vectors(self) -> Tensor:
        """[n_items + 1, E]; row 0 is the pad."""
        raise NotImplementedError

    def queries(self, states: Tensor) -> Tensor:
        """States after the last layer [..., D] -> what is multiplied with item vectors [..., E]."""
        return states

    def normed(self, states: Tensor) -> Tensor:
        """States of an inner layer [..., D] as the model's final norm would leave them; themselves in a model without one."""
        return states

    def needs_whole_batch(self) -> str:
        names = getattr(self.config, "auxiliary", [])
        return f"model.auxiliary=[{','.join(names)}] compares the histories of a batch with each other" if names else ""

    @classmethod
    def state_width(cls, config: Any) -> int | None:
        """The D of a model with this config, before it is built; None where the config does not tell."""
        return getattr(config, "hidden_size", None)

    @property
    def heads(self) -> Heads | None:
        """Those that ``model.heads`` laid over it (``recbench.models.heads``)."""
        found = self._modules.get("item_heads")
        return found if isinstance(found, Heads) else None

    @classmethod
    def has_usual_loss(cls) -> bool:
        """Whether a model is trained as this class is, which reads the weights of targets."""
        return (
            cls.loss_from_states is SequenceModel.loss_from_states
            and cls.training_loss is Recommender.training_loss
            and cls.catalogue_loss is SequenceModel.catalogue_loss
        )

    def catalogue_loss(self, queries: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """queries [N, E], targets [N] -> scalar loss over the catalogue; weights [N] of the targets, all alike if None."""
        if isinstance(self.heads, ItemHeads):
            return self.heads.loss(queries, self.item_vectors(), targets, weights)
        if weights is None:
            return self.loss(queries, self.item_vectors(), targets)
        return self.loss(queries, self.item_vectors(), targets, weights=weights)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        trained = batch.trained
        queries, weights = self.queries(states[-1][trained]), batch.weights_of(trained)
        if not isinstance(self.heads, BehaviourHeads):
            return self.catalogue_loss(queries, batch.targets[trained], weights)
        assert batch.next_behaviours is not None
        done = batch.next_behaviours[trained]
        own = self.heads.own_queries(queries, done)
        return self.heads.class_loss(queries, done, weights) + self.catalogue_loss(own, batch.targets[trained], weights)

    def last_states(self, batch: Batch) -> list[Tensor]:
        """The hidden states at the last event of each history only, [B, D] each: all that ranking needs."""
        return [at_position(states, batch.lengths - 1) for states in self.hidden_states(batch)]

    def score(self, batch: Batch) -> Tensor:
        queries, vectors = self.queries(self.last_states(batch)[-1]), self.item_vectors()
        if isinstance(self.heads, ItemHeads | BehaviourHeads):
            return self.heads.scores(queries, vectors)
        return queries @ vectors.T

    def click_logits(self, rows: ClickBatch) -> Tensor:
        """The product of the state behind the history with the item's vector: an order of rows, no chance. 0 for a row without a history."""
        found = rows.label.new_zeros(len(rows))
        some = rows.history.lengths > 0
        if some.any():
            history = histories_at(rows.history, some)
            queries = self.queries(self.last_states(history)[-1])
            found[some] = (queries * self.item_vectors()[rows.item[some]]).sum(-1)
        return found

    def score_into(self, out: Tensor, batch: Batch) -> Tensor:
        """``score`` written into ``out`` [at least B, n_items + 1] of the scores' type; returns its first B rows."""
        if self.heads is not None:
            return out[: len(batch)].copy_(self.score(batch))
        queries, vectors = self.queries(self.last_states(batch)[-1]), self.item_vectors()
        out = out[: len(queries)]
        for first in range(0, len(vectors), ITEMS_AT_ONCE):
            items = slice(first, first + ITEMS_AT_ONCE)
            torch.mm(queries, vectors[items].T, out=out[:, items])
        return out


def histories_at(batch: Batch, chosen: Tensor | slice) -> Batch:
    """The histories of the rows where ``chosen`` [B] is True, or of a run of them."""
    behaviours = None if batch.behaviours is None else batch.behaviours[chosen]
    return Batch(
        batch.items[chosen], batch.timestamps[chosen], batch.lengths[chosen], batch.user[chosen], behaviours=behaviours
    )
