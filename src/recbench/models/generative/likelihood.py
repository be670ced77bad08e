"""How probable a model finds given items behind a history, with a gradient: what preference tuning compares.

Shapes: B histories, C given items, M levels of the codes (1 of a model that scores the catalogue at once).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.models.generative.generator import CodeGenerator


def item_log_probs(model: Recommender, batch: Batch, items: Tensor) -> Tensor:
    """items [B, C] -> [B, C, M]: log p(code | history, codes before it), each among the codes of its level; or log p(item) among all items.

    Their sum over the levels is log p(item | history). What the trie forbids keeps its share, as in the beam search.
    """
    if not isinstance(model, CodeGenerator):
        scores = model.score(batch).float()
        pad = torch.arange(scores.shape[1], device=scores.device) == 0
        return scores.masked_fill(pad, -torch.inf).log_softmax(1).gather(1, items)[..., None]
    codes, history = model.codes[items], model.read(batch)
    logs, state = history.first()
    logs = logs.expand(-1, items.shape[1], -1)
    place = torch.arange(items.shape[1], device=items.device).expand_as(items)
    found = []
    for level in range(codes.shape[2]):
        code = codes[:, :, level]
        found.append(logs.gather(2, code[..., None])[..., 0])
        if level + 1 < codes.shape[2]:
            logs, state = history.next(state, place if level else torch.zeros_like(place), code)
    return torch.stack(found, 2)
