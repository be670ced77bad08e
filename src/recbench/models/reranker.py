"""What rerankers share: another run finds the best K items of the catalogue, the model puts these in a new order, and the rest stands behind.

So a reranker ranks the whole catalogue like every model here. The target is never put among the K: where the retriever misses it, it keeps the
retriever's place. Items that the protocol masks are left out before the K are chosen, so none of the K is wasted on them.

    score of one of the K      1 + share of the K that it is not below, by the new order (ties stay ties): in (1, 2]
    score of another item      -1 - number of items that the retriever puts before it (ties stay ties)

``weight`` mixes the two orders of the K: 1 is the new one alone, 0 the retriever's. With ``k: 0`` all that is left is the retriever.
Beside its own figures every run has those of the same K in the order of popularity (``popularity_order_``) and in that of the retriever
(``retriever_order_``), and the share of targets that are among the K at all (``candidate_recall``): no order of them can have a larger hit rate.

Shapes: B rows, V = n_items + 1, K items that are reordered, C given candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import NO_KEY
from recbench.data.batches import Batch
from recbench.evaluation.ranking import Seen
from recbench.evaluation.top_k import top_k_lists
from recbench.models.base import Control, ModelConfig, ModelContext, Recommender
from recbench.models.kept_run import KeptRun
from recbench.models.language.frozen_part import load_learned
from recbench.models.registry import lookup, model_names


@dataclass
class RerankerConfig(ModelConfig):
    """The run that finds the K items, how many, and how much the new order of them counts."""

    retriever: dict[str, Any] = field(default_factory=lambda: {"model": "sasrec"})
    k: int = 10
    weight: float = 1.0
    force: bool = field(default=False, metadata=NO_KEY)  # take a trained retriever that popularity beats on validation


class Reranker(Recommender):
    """See the head of this file. A subclass gives ``rerank``."""

    is_causal: ClassVar[bool] = False  # says nothing here: no states are lent
    masks_seen: Tensor
    counts: Tensor

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        if config.k < 0:
            raise UserError(f"model.k must be at least 0, not {config.k}")
        if not 0 <= config.weight <= 1:
            raise UserError(f"model.weight must lie between 0 and 1, not {config.weight:g}")
        named = config.retriever.get("model")
        if named is None:
            raise UserError(
                "model.retriever names no model; set model.retriever.model, as in model.retriever.model=sasrec"
            )
        if named in model_names() and not lookup(named).model.ranks:
            raise UserError(f"model.retriever.model={named} ranks nothing, so it finds no items; name a recommender")
        return {"retriever": config.retriever}

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.retriever and config.k > context.n_items:
            raise UserError(
                f"model.k={config.k} is above the {context.n_items} items of the catalogue; lower it to {context.n_items} at the most"
            )
        source = context.dependencies.get("retriever")
        if source is not None and source.gives_lists:
            raise UserError(
                f"model.retriever.model={source.config.name} gives lists and no scores; set model.retriever.decoder=exact where it has that, "
                "or name another"
            )
        self.retriever = KeptRun(context, source)
        repeats = context.train.data.has_repeats if context.train is not None else True
        masked = context.seen_items == "mask" if context.seen_items is not None else not repeats
        self.register_buffer("masks_seen", torch.tensor(masked))
        counts = torch.zeros(context.n_items + 1) if context.item_counts is None else context.item_counts.float()
        self.register_buffer("counts", counts.clone())

    def rerank(self, batch: Batch, candidates: Tensor) -> Tensor:
        """Histories and items [B, K] in the retriever's order, 0 at the end where there are fewer -> scores [B, K]; those of 0 are not read."""
        raise NotImplementedError

    def score(self, batch: Batch) -> Tensor:
        return self.reordered(batch, self.retrieved(batch), self.rerank)

    def score_candidates(self, batch: Batch, items: Tensor) -> Tensor:
        """Scores [B, C] of given items [B, C]: the best K of these, by the retriever, are put in the new order."""
        return self._among(items, self.retrieved(batch), lambda scores: self.reordered(batch, scores, self.rerank))

    def _among(self, items: Tensor, scores: Tensor, order: Callable[[Tensor], Tensor]) -> Tensor:
        only = torch.full_like(scores, -torch.inf).scatter(1, items, scores.gather(1, items))
        return order(only).gather(1, items)

    def controls(self) -> dict[str, Control]:
        """Name -> (scores of histories, scores of given candidates) of the same K items in an order that reads no text."""

        def by(values: Callable[[Batch, Tensor], Tensor]) -> tuple[Any, Any]:
            def reorder(batch: Batch, scores: Tensor) -> Tensor:
                return self.reordered(batch, scores, values, weight=1.0)

            return (
                lambda batch: reorder(batch, self.retrieved(batch)),
                lambda batch, items: self._among(items, self.retrieved(batch), lambda scores: reorder(batch, scores)),
            )

        def falling(batch: Batch, candidates: Tensor) -> Tensor:
            return -torch.arange(candidates.shape[1], device=candidates.device).float().expand_as(candidates)

        return {
            "popularity_order": by(lambda batch, candidates: self.counts[candidates]),
            "retriever_order": by(falling),
        }

    def retrieved(self, batch: Batch) -> Tensor:
        """[B, V] float32: the retriever's scores, -inf for the pad."""
        assert self.retriever.model is not None, "a reranker scores with the retriever that it was made from"
        with torch.no_grad():
            scores = self.retriever.model.score(batch).float().clone()
        scores[:, 0] = -torch.inf
        return scores

    def unseen(self, scores: Tensor, batch: Batch) -> Tensor:
        """The scores [B, V] with -inf for what the protocol masks, as far as it is among the events that the model sees."""
        return scores.scatter(1, batch.items, -torch.inf) if self.masks_seen else scores

    def best(self, scores: Tensor, batch: Batch) -> Tensor:
        """[B, K] int64: the K unmasked items of the largest scores [B, V], best first; 0 at the end where fewer have one above -inf."""
        return top_k_lists(self.unseen(scores, batch), self.config.k, batch.user, Seen.nothing(scores.device)).long()

    def reordered(
        self, batch: Batch, scores: Tensor, order: Callable[[Batch, Tensor], Tensor], weight: float | None = None
    ) -> Tensor:
        """The merge of the two orders, [B, V]; see the head of this file. scores: the retriever's, -inf for what is no candidate."""
        out = torch.where(scores > -torch.inf, -1.0 - n_before(scores), -torch.inf)
        weight = self.config.weight if weight is None else weight
        if not self.config.k or not len(batch):
            return out
        top = self.best(scores, batch)
        there = top > 0
        new = order(batch, top).float().masked_fill(~there, -torch.inf)
        old = scores.gather(1, top).masked_fill(~there, -torch.inf)
        n = there.sum(1, keepdim=True).clamp_min(1)
        shares = [1.0 - n_before(values) / n for values in (new, old)]
        mixed = 1.0 + weight * shares[0] + (1.0 - weight) * shares[1]
        # Empty places fall on the pad, which nobody ranks.
        return out.scatter(1, top, torch.where(there, mixed, -torch.inf))

    def stored_state(self) -> dict[str, Tensor]:
        own = {name: value for name, value in self.own_state().items() if not name.startswith("retriever.")}
        return own | {f"retriever.{name}": value for name, value in self.retriever.stored_state().items()}

    def own_state(self) -> dict[str, Tensor]:
        """What is stored beside the retriever; its own names may be among it."""
        return self.state_dict()

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        prefix = "retriever."
        self.retriever.load_stored_state(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
        own = {name: value for name, value in state.items() if not name.startswith(prefix)}
        load_learned(self, own, [name for name in self.own_state() if not name.startswith(prefix)])


def n_before(scores: Tensor) -> Tensor:
    """[B, N] float32: how many of its row each score is below.

    >>> n_before(torch.tensor([[3.0, 5.0, 3.0, -torch.inf]]))
    tensor([[1., 0., 1., 3.]])
    """
    rising = scores.sort(dim=1).values
    return (scores.shape[1] - torch.searchsorted(rising, scores, right=True)).float()
