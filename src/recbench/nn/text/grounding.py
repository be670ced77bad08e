"""From a generated title to items: how near each item's title is to it [BIGRec: Bao et al., TORS 2025, arXiv 2308.08434].

    d_ui = |h(title of u) - h(title of i)|,  to [0, 1] over the items of each row,  score = -d_ui (1 + c_i) ^ -gamma

with c_i the item's training events scaled to [0, 1]; gamma 0 leaves popularity out.

Shapes: B rows, V = n_items + 1, H width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

METRICS = ("l2", "cosine")


def grounded_scores(made: Tensor, titles: Tensor, counts: Tensor, metric: str = "l2", gamma: float = 0.0) -> Tensor:
    """made [B, H] of what was generated, titles [V, H], counts [V] -> scores [B, V]; that of the pad is -inf. Equal titles tie."""
    # States have a large common mean, which would take the digits of their differences.
    centre = titles[1:].mean(0)
    own, given = titles - centre, made - centre
    if metric == "cosine":
        own, given = F.normalize(own, dim=-1), F.normalize(given, dim=-1)
    distance = torch.cdist(given, own, compute_mode="donot_use_mm_for_euclid_dist")
    real = distance[:, 1:]
    low, high = real.amin(1, keepdim=True), real.amax(1, keepdim=True)
    scaled = (distance - low) / (high - low).clamp_min(1e-12)
    if gamma:
        span = (counts[1:].max() - counts[1:].min()).clamp_min(1.0)
        scaled = scaled * (1.0 + (counts - counts[1:].min()) / span) ** -gamma
    scores = -scaled
    scores[:, 0] = -torch.inf
    return scores
