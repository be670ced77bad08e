"""FairRec: the state that a user's items are ranked from shall not tell an attribute of the user [Wu et al., AAAI 2021].

    u_free = h, the model's state;   u_aware = MLP( mean of the history's item vectors )
    L = L_rec + g CE(attribute | u_aware) + o |cos(u_aware, u_free)| - a CE(attribute | u_free)

The last term is an adversary's: it learns the attribute from h by an optimiser of its own, ``steps`` times before each step of the model, and h
learns the opposite, a times as strongly. (With one shared step, as by gradient reversal, the adversary lags behind: its own accuracy falls, and what
a fresh classifier finds hardly does.)

Glossary: a -> ``weight``, g -> ``aware``, o -> ``orthogonal``. Where this deviates: no official code was found, and this was read at second hand. In
the paper training ranks by u_free + u_aware and the test by u_free; here both rank by h, so ``weight: 0`` (with ``aware`` and ``orthogonal`` at
their default 0) is the plain run bit for bit. The item vectors behind u_aware are not moved by it. One public reading adds the cosine with a minus
sign; it is to be made small. The adversary is asked at every position, as any state may be ranked from.

What the adversary finds says nothing: ask a classifier that never met it, with ``recbench probe leakage RUN attribute=gender``.

Shapes: B windows, L positions, N real positions of users whose attribute is known, D width of the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch, WindowDataset
from recbench.data.user_attributes import numbered
from recbench.models.auxiliary import FairRecConfig
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.base import register
from recbench.objectives.contrastive.own_optimizer import OwnOptimizer


@register("fairrec")
class FairRec(OwnOptimizer):
    """See the head of this file. Raises UserError for an attribute that is not known, or has one value."""

    batch: Batch
    label: Tensor

    def __init__(self, config: FairRecConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        label, n_values = labels(model.lent_user_attributes or {}, config.attribute, config.shuffle)
        missing = dataset.data.n_users - len(label)  # fake users of an attack, of whom nothing is known
        self.register_buffer("label", F.pad(label, (0, missing), value=-1), persistent=False)
        items = model.item_vectors().shape[1]
        self.adversary = nn.Sequential(
            nn.Linear(model.width, config.width), nn.ReLU(), nn.Linear(config.width, n_values)
        )
        self.adversary.requires_grad_(False)  # but in its own steps
        self.has_second = bool(config.aware or config.orthogonal)
        if self.has_second:
            self.second = nn.Sequential(nn.Linear(items, model.width), nn.ReLU(), nn.Linear(model.width, model.width))
            self.teller = nn.Linear(model.width, n_values)

    def own(self) -> tuple[nn.Module, float]:
        return self.adversary, self.config.lr

    def draw(self, batch: Batch) -> None:
        self.batch = batch

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        if not (self.config.weight or self.has_second):
            return {}
        label = self.label[self.batch.user]
        known = self.batch.mask & (label >= 0)[:, None]
        if not known.any():
            return {}
        states = model.hidden_states(self.batch)[-1][known]
        wanted = label[known.nonzero()[:, 0]]
        found = {}
        if self.config.weight:
            seen = states.detach()
            self.learn(lambda: F.cross_entropy(self.adversary(seen), wanted), self.config.steps)
            found["fairrec"] = -self.config.weight * F.cross_entropy(self.adversary(states), wanted)
        if self.has_second:
            aware = self.second(self.histories(model)[known])
            found["fairrec_aware"] = self.config.aware * F.cross_entropy(self.teller(aware), wanted)
            if self.config.orthogonal:
                cosine = F.cosine_similarity(aware, states, dim=-1).abs().mean()
                found["fairrec_cosine"] = self.config.orthogonal * cosine
        return found

    @torch.no_grad()
    def histories(self, model: SequenceModel) -> Tensor:
        """[B, L, E] mean of the vectors of the items up to each position."""
        vectors = model.item_vectors()[self.batch.items] * self.batch.mask[..., None]
        return vectors.cumsum(1) / torch.arange(1, vectors.shape[1] + 1, device=vectors.device)[:, None]


def labels(known: Mapping[str, Sequence[str | None]], attribute: str, shuffle: int | None = None) -> tuple[Tensor, int]:
    """(number of each user's value [U], -1 where it is not known; how many values). shuffle: a seed that deals the known ones anew."""
    numbers, values = numbered(known, attribute)
    found = torch.from_numpy(numbers)
    if shuffle is not None:
        told = (found >= 0).nonzero()[:, 0]
        found[told] = found[told[torch.randperm(len(told), generator=torch.Generator().manual_seed(shuffle))]]
    return found, len(values)
