"""What any registered model says of the catalogue at every position: full scores, or its best items.

A model with hidden states answers for all positions of a history in one forward pass; any other one is asked once for each prefix.

Shapes: B rows, L positions, N real positions of a batch, E width of the item vectors, V = n_items + 1 (column 0 is the pad).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch, prefixes
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses import catalogue


def final_queries(model: SequenceModel, batch: Batch) -> Tensor:
    """[N, E]: what is multiplied with the item vectors at each real position."""
    return model.queries(model.hidden_states(batch)[-1][batch.mask]).float()


def full_scores(model: Recommender, batch: Batch) -> Tensor:
    """[N, V] scores of the item that follows each real position, of a model that can only be asked prefix by prefix."""
    return torch.cat([model.score(part).float() for part in _prefix_blocks(model, batch)])


def best_items(model: Recommender, batch: Batch, k: int) -> Tensor:
    """[N, k] int32, the model's best items at each real position, best first; 0 where a list of a generator is shorter.

    Nothing is left out, not even what the history holds already: the student's own loss knows no such rule either.
    """
    if not isinstance(model, SequenceModel):
        lists = [model.recommend(part, k)[0] for part in _prefix_blocks(model, batch)]
        return torch.cat(lists).clamp_min(0).to(torch.int32)
    queries, vectors = final_queries(model, batch), model.item_vectors().float()
    rows = max(1, catalogue.CHUNK_VALUES // len(vectors))
    # Without the pad's row; so the index of an item is one less than its id.
    found = [(block @ vectors[1:].T).topk(k, dim=1).indices + 1 for block in queries.split(rows)]
    return torch.cat(found).to(torch.int32)


def _prefix_blocks(model: Recommender, batch: Batch) -> Iterator[Batch]:
    """The prefixes of a batch in blocks of so many rows that their scores fit a chunk."""
    rows, whole = max(1, catalogue.CHUNK_VALUES // (model.n_items + 1)), prefixes(batch)
    for first in range(0, len(whole), rows):
        cut: dict[str, Any] = {
            f.name: v[first : first + rows] for f in fields(whole) if isinstance(v := getattr(whole, f.name), Tensor)
        }
        yield replace(whole, **cut)
