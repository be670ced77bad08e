"""What ``model.fallback=dense`` does to a generator's answers (``recbench.models.fallback_config``).

    u      sum over the history of decay^(events later) t(x), of length 1        t: text vectors, of length 1
    W      least squares with a ridge: t(next item) from u, over all training events
    cold   items without a training event, by cos(u W, t)

In a list the first ``dense.first`` generated items stand as they were, then the cold ones, then the rest of what was generated. With ``first: 0``
what was generated and the cold items are ranked together by their cosines. Items of the history are not counted among the first where the protocol
leaves them out.

The order of equal scores stays: items of one bucket go on sharing their places.

Shapes: B histories, L events, k places of a list, C cold items, V = n_items + 1, E width of a text vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext, Recommender
from recbench.models.fallback_config import DenseConfig

logger = logging.getLogger(__name__)

#: Share of the mean squared length that is added to each direction in the least squares.
RIDGE = 0.01
#: How far below the last of the first the cold items and the rest of the list begin; a cosine is 2 wide.
COLD, REST = 1.0, 4.0


def add_fallback(model: Recommender, config: Any, context: ModelContext) -> None:
    """Give a generator its fallback. Raises UserError for a model that generates nothing."""
    if getattr(config, "fallback", "none") == "none":
        return
    if not hasattr(model, "fallback"):
        raise UserError(
            f"the model '{config.name}' generates no lists, so model.fallback={config.fallback} has no place"
        )
    model.fallback = DenseFallback(config.dense, context)


class DenseFallback(nn.Module):
    """Buffers: text [V, E] of length 1 · history_map [E, E], empty without one · is_cold [V] bool · masks_seen. All are empty in a stored run until
    its weights bring them."""

    text: Tensor
    history_map: Tensor
    is_cold: Tensor
    masks_seen: Tensor

    def __init__(self, config: DenseConfig, context: ModelContext) -> None:
        super().__init__()
        self.config = config
        for name in ("text", "history_map"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("is_cold", torch.zeros(context.n_items + 1, dtype=torch.bool))
        self.register_buffer("masks_seen", torch.tensor(context.seen_items == "mask"))
        if context.text_vectors is None:
            return
        order = np.arange(context.n_items + 1)
        if config.shuffle:
            order[1:] = 1 + np.random.default_rng(context.seed).permutation(context.n_items)
        self.text = F.normalize(context.text_vectors[torch.from_numpy(order)].float(), dim=1)
        if context.item_counts is not None:
            self.is_cold = context.item_counts == 0
            self.is_cold[0] = False
        if not self.is_cold.any():
            logger.info("model.fallback=dense: every item has a training event, so the lists stay as they are")
        elif config.map == "ridge" and context.train is not None:
            self.history_map = ridge_map(context.train, self.text, config.decay)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Histories [B, L] -> [B, E] of length 1, or 0 where no item has a text."""
        age = (lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)).clamp(min=0)
        weight = self.config.decay**age * (items > 0)
        found = F.normalize(torch.einsum("bl,ble->be", weight.to(self.text.dtype), self.text[items]), dim=1)
        return F.normalize(found @ self.history_map, dim=1) if self.history_map.numel() else found

    def unseen(self, items: Tensor, batch: Batch) -> Tensor:
        """[B, k] bool: the items of lists that the protocol does not leave out, as far as the history tells."""
        real = items > 0
        if not self.masks_seen:
            return real
        return real & ~(items[:, :, None] == batch.items[:, None, :]).any(2)

    def into_lists(self, items: Tensor, scores: Tensor, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """A generator's lists [B, k], best first -> the lists with the cold items, [B, k]."""
        if not self.is_cold.any():
            return items, scores
        cold = self.is_cold.nonzero()[:, 0]
        query = self.queries(batch.items, batch.lengths)
        cosine = query @ self.text[cold].T
        there, first = scores > -torch.inf, self.config.first
        if first:
            counted = self.unseen(items, batch) & there
            head = there & (counted.long().cumsum(1) - counted.long() < first)
            base = scores.masked_fill(~head, torch.inf).amin(1, keepdim=True)
            base = torch.where(head.any(1, keepdim=True), base, 0.0)
            generated = torch.where(head, scores, scores - REST)
            added = base - COLD - (1.0 - cosine)
        else:
            head = torch.zeros_like(there)
            own = torch.einsum("be,bke->bk", query, self.text[items])
            generated, added = torch.where(items > 0, own, scores - REST), cosine
        # A cold item that was generated keeps its place among the first; further down it stands with the cold ones.
        at_head = torch.zeros(len(items), len(self.is_cold), dtype=torch.bool, device=items.device)
        at_head.scatter_(1, items, head & (items > 0))
        added = added.masked_fill(at_head[:, cold], -torch.inf)
        generated = generated.masked_fill((~head & self.is_cold[items]) | ~there, -torch.inf)
        best, place = added.topk(min(k, len(cold)), dim=1)
        everything = torch.cat([generated, best], 1)
        order = everything.argsort(dim=1, descending=True, stable=True)[:, :k]
        found = everything.gather(1, order)
        names = torch.cat([items, cold[place]], 1).gather(1, order)
        return torch.where(found > -torch.inf, names, 0), found

    def into_scores(self, scores: Tensor, batch: Batch, generated: int) -> Tensor:
        """Scores over the catalogue [B, V] -> [B, V] whose order is that of ``into_lists``. generated: the best of them that count as generated."""
        if not self.is_cold.any():
            return scores
        query = self.queries(batch.items, batch.lengths)
        ranked = scores.float().clone()
        ranked[:, 0] = -torch.inf
        if self.masks_seen:
            ranked = ranked.scatter(1, batch.items, -torch.inf)
        best = ranked.topk(min(self.config.first or generated, ranked.shape[1] - 1), dim=1)
        head = torch.zeros_like(ranked, dtype=torch.bool).scatter(1, best.indices, best.values > -torch.inf)
        cosine = query @ self.text.T
        base = ranked.masked_fill(~head, torch.inf).amin(1, keepdim=True)
        base = torch.where(base < torch.inf, base, 0.0)
        if self.config.first:
            added, kept = base - COLD - (1.0 - cosine), scores
        else:
            added, kept = base - (1.0 - cosine), base - (1.0 - cosine)
        found = torch.where(self.is_cold, added, torch.minimum(scores, base) - REST)
        found = torch.where(head, kept, found)
        found[:, 0] = -torch.inf
        return found

    def make_room(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Buffers as large as those of a stored state."""
        for name in ("text", "history_map"):
            setattr(self, name, torch.empty_like(state[prefix + name], device=self.is_cold.device))


def ridge_map(train: TrainingData, text: Tensor, decay: float) -> Tensor:
    """[E, E]: least squares from a history's vector to that of the item which follows, over the training events of all users."""
    items, start = np.asarray(train.data.items), np.asarray(train.start)
    length = np.asarray(train.end) - start
    order = np.argsort(-length, kind="stable")
    width = text.shape[1]
    squares, products = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    held = torch.zeros(len(order), width)
    for place in range(int(length.max(initial=0)) - 1):
        users = order[: int((length > place + 1).sum())]
        held = held[: len(users)] * decay + text[items[start[users] + place]]
        x, y = F.normalize(held, dim=1).double(), text[items[start[users] + place + 1]].double()
        squares += x.T @ x
        products += x.T @ y
    ridge = RIDGE * squares.diagonal().mean().clamp(min=1e-9)
    return torch.linalg.solve(squares + ridge * torch.eye(width, dtype=torch.float64), products).float()
