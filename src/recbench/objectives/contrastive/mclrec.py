"""MCLRec: learned views of a history beside random ones, the augmenters learning how to be hard [Qin et al., SIGIR 2023].

With h1, h2 the states of two random augmentations and w1, w2 two small networks, z1 = w1(h1) and z2 = w2(h2), of unit length:

    L_cl1 = NCE(h1, h2)        L_cl2 = NCE(z1, z2) + NCE(h1, z2) + NCE(z1, h2)
    R     = mean [s+ - min(s+, max s-)]_+  +  mean [max(s+, max s-) - s-]_+        summed over the pairs of L_cl2
    L     = L_rec + random_weight * L_cl1 + weight * (L_cl2 + regulariser * R)

s+ is the score of a view with its partner, s- those with its negatives; minimum and maximum are taken for each view by itself, as in the
released code. R draws a partner down to the hardest negative, and the negatives up to the higher of the two, so that neither runs away.

Two things are learned in turn. ``stages: paper`` moves (1) the model by L with the augmenters fixed, (2) the augmenters by L_cl2 + regulariser * R
with the model fixed where it now stands; ``stages: released`` moves (3) the model once more by L, so a step costs it two steps of another model.
The views of the three stages are the same, their dropout is not. The default is the paper's, which leaves every model one step a batch.

Glossary (paper -> here): lambda -> ``random_weight``; beta -> ``weight``; gamma -> ``weight * regulariser``; phi_1, phi_2 -> ``augmenters``.

Deviations:
- A masked event has the pad's vector, as in the released code; there attention skips it, here it keeps its place as an event without an item.
- The released form's third stage is one step ahead on the schedule of the learning rate, if there is one.
- The histories compared are whole windows, and the encoder is ours (pre-norm), not the released post-norm one with GELU; see ``base.py``.

Shapes: B rows of a batch, D width of the states.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import MCLRecConfig
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.augment import two_views
from recbench.objectives.contrastive.base import compared, register, representations_of
from recbench.objectives.contrastive.info_nce import info_nce, positives_and_negatives
from recbench.objectives.contrastive.own_optimizer import OwnOptimizer
from recbench.objectives.contrastive.prefixes import Prefixes


class Augmenter(nn.Module):
    """A network from the state of a view to another view of unit length. [B, D] -> [B, D]."""

    def __init__(self, width: int, sizes: list[int]) -> None:
        super().__init__()
        widths = [width, *sizes, width]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, states: Tensor) -> Tensor:
        *inner, last = self.layers
        for layer in inner:
            states = F.gelu(layer(states))
        return F.normalize(last(states), dim=-1)


@register("mclrec")
class MCLRec(OwnOptimizer):
    """See the head of this file. The augmenters have an optimiser of their own, whose state is part of this module's."""

    #: Two views of each group of histories.
    views: list[tuple[Batch, Batch]]

    def __init__(self, config: MCLRecConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config, self.prefixes = config, Prefixes(dataset)
        self.augmenters = nn.ModuleList(Augmenter(model.width, config.augmenter_sizes) for _ in range(2))
        self.augmenters.requires_grad_(False)  # but in the second stage

    def own(self) -> tuple[nn.Module, float]:
        return self.augmenters, self.config.lr

    def draw(self, batch: Batch) -> None:
        histories = compared(batch, self.prefixes, self.config.n_contrasts)
        self.views = [two_views(group, self.config) for group in histories]

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        first, second = self._states(model)
        learned, spread = self._learned_terms(first, second)
        terms = {"mclrec": self.config.weight * learned}
        if self.config.regulariser:
            terms["mclrec_regulariser"] = self.config.weight * self.config.regulariser * spread
        if self.config.random_weight:
            terms["mclrec_random"] = self.config.random_weight * info_nce(first, second, self.config.temperature)
        return terms

    def _states(self, model: SequenceModel) -> list[Tensor]:
        """The states of the first views and of the second ones [B, D] each."""
        return [representations_of(model, list(views)) for views in zip(*self.views, strict=True)]

    def after_step(self, model: SequenceModel) -> bool:
        with torch.no_grad():
            first, second = self._states(model)

        def loss() -> Tensor:
            learned, spread = self._learned_terms(first, second)
            return learned + self.config.regulariser * spread

        self.learn(loss)
        return self.config.stages == "released"

    def _learned_terms(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """(L_cl2, R), scalars, from the states of the two views [B, D]."""
        made = [augmenter(states) for augmenter, states in zip(self.augmenters, (first, second), strict=True)]
        pairs = [(made[0], made[1]), (first, made[1]), (made[0], second)]
        tau = self.config.temperature
        contrast = torch.stack([info_nce(a, b, tau) for a, b in pairs]).sum()
        return contrast, torch.stack([regulariser(a, b, tau) for a, b in pairs]).sum()


def regulariser(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """R of one pair of views [B, D] -> scalar. 0 for a single row, which has no negatives."""
    if len(first) < 2:
        return 0.0 * (first.sum() + second.sum())
    positive, negative = positives_and_negatives(first, second, temperature)
    hardest = negative.amax(1)
    down = positive - torch.minimum(positive, hardest)
    up = torch.maximum(positive, hardest)[:, None] - negative
    return down.mean() + up.mean()
