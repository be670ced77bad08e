"""InfoNCE within a batch: of 2B views, each is to recognise its partner among the other 2B - 1 by the dot product.

    L = mean over the 2B views i of   -log  exp(s_i,p(i)) / sum over j != i of exp(s_ij),      s_ij = z_i . z_j / temperature

p(i) is the other view of the same row; the other 2(B - 1) views are its negatives [Chen et al., ICML 2020, with products in place of cosines].

Shapes: B rows of a batch, D width of the views.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, temperature: float = 1.0) -> Tensor:
    """first, second [B, D], two views of each row -> scalar. With a single row there is nothing to confuse it with: 0."""
    scores, partner = all_scores(first, second, temperature)
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return F.cross_entropy(scores.masked_fill(itself, -torch.inf), partner)


def positives_and_negatives(first: Tensor, second: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """(score with the partner [2B], scores with the negatives [2B, 2B - 2]) of each view."""
    scores, partner = all_scores(first, second, temperature)
    place = torch.arange(len(scores), device=scores.device)
    others = (place != place[:, None]) & (place != partner[:, None])
    return scores[place, partner], scores[others].view(len(scores), -1)


def all_scores(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(products of all views with all [2B, 2B], number of each view's partner [2B]); the first views stand before the second ones."""
    views = torch.cat([first, second])
    return views @ views.T / temperature, torch.arange(len(views), device=views.device).roll(len(first))
