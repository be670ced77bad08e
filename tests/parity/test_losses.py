"""The losses over the catalogue against their formulas, written out in float64 over every item; no stored arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.nn.losses import catalogue
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from tests.parity.compare import Check, Pair, every_comparison, near, scaled

POSITIONS, WIDTH, ITEMS, NEGATIVES = 11, 6, 30, 9
POWER, BPR_WEIGHT = 0.75, 1.3
COMPARED = ("value", "gradient by states", "gradient by items")

#: How the softmax is cut: (values at once, rows from which a table is cut by items).
CUTS = {
    "in one piece": (1 << 23, 1 << 17),
    "in row chunks": (2 * (ITEMS + 1), 1 << 17),
    "by items": (4 * POSITIONS, 8),
}
SAMPLED = [(negatives, logq) for negatives in ("shared", "per_position") for logq in (False, True)]
CALIBRATIONS = (None, 0.0, 0.75, 1.0)


class Setting:
    """States, items, targets and draws that all formulas share."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.numbers = np.random.default_rng(0)
        self.hidden = torch.randn(POSITIONS, WIDTH, generator=generator)
        self.table = torch.randn(ITEMS + 1, WIDTH, generator=generator)
        self.targets = torch.from_numpy(self.numbers.integers(1, ITEMS + 1, POSITIONS))
        self.counts = torch.from_numpy(np.append(0, self.numbers.integers(0, 40, ITEMS)))

    def ours(self, loss: CatalogueLoss, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """(value, gradient by states, gradient by items)."""
        if drawn is not None:
            loss._draw = lambda shape: drawn.view(shape)
        return self._with_gradients(lambda h, e: loss(h, e, self.targets), self.hidden, self.table)

    def formula(self, of_scores: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The same of a function of all scores [N, V]."""
        return self._with_gradients(lambda h, e: of_scores(h @ e.T), self.hidden.double(), self.table.double())

    @staticmethod
    def _with_gradients(function: Callable[..., Tensor], hidden: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        hidden, table = hidden.clone().requires_grad_(), table.clone().requires_grad_()
        value = function(hidden, table)
        return value, *torch.autograd.grad(value, (hidden, table))

    def exact(self) -> tuple[Tensor, ...]:
        return self.formula(lambda scores: F.cross_entropy(scores[:, 1:], self.targets - 1))

    def draws(self, negatives: str) -> tuple[Tensor, Tensor]:
        """(what is drawn, the same by position [N, K]), one of which is a target."""
        shape = NEGATIVES if negatives == "shared" else (POSITIONS, NEGATIVES)
        drawn = torch.from_numpy(self.numbers.integers(1, ITEMS + 1, shape))
        drawn.view(-1)[0] = self.targets[0]
        return drawn, drawn.expand(POSITIONS, NEGATIVES)

    def draws_without_target(self) -> Tensor:
        """[N, K] that are no target of their position."""
        drawn = torch.from_numpy(self.numbers.integers(1, ITEMS, (POSITIONS, NEGATIVES)))
        return drawn + (drawn >= self.targets[:, None])


def _pairs(what: str, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> dict[str, Pair]:
    return {f"{what}: {name}": Pair(a, b) for name, a, b in zip(COMPARED, ours, theirs, strict=True)}


def _softmax() -> dict[str, Pair]:
    setting, found = Setting(), {}
    exact = setting.exact()
    for name, (values, rows) in CUTS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalogue, "CHUNK_VALUES", values)
            patch.setattr(catalogue, "WIDE_TABLE", rows)
            found |= _pairs(name, setting.ours(CatalogueLoss(LossConfig(), ITEMS)), exact)
    return found


def _sampled() -> dict[str, Pair]:
    setting, found = Setting(), {}
    q = (setting.counts.double() + 1) ** POWER
    q[0] = 0
    q = q / q.sum()
    keys: dict[str, Any] = {"loss": "sampled_softmax", "sampling": "popularity", "sampling_power": POWER}
    targets = setting.targets[:, None]
    for negatives, logq in SAMPLED:
        drawn, each = setting.draws(negatives)

        def formula(scores: Tensor, each: Tensor = each, logq: bool = logq) -> Tensor:
            against = scores.gather(1, each) - (NEGATIVES * q[each]).log() * logq
            against = against.masked_fill(each == targets, -torch.inf)
            positive = scores.gather(1, targets)
            return (torch.cat([positive, against], 1).logsumexp(1, keepdim=True) - positive).mean()

        config = LossConfig(**keys, n_negatives=NEGATIVES, negatives=negatives, logq=logq)
        ours = setting.ours(CatalogueLoss(config, ITEMS, setting.counts), drawn)
        found |= _pairs(f"{negatives}, logq={logq}", ours, setting.formula(formula))
    # With logQ the weighted sum over draws estimates the sum over all items.
    torch.manual_seed(0)
    many = CatalogueLoss(LossConfig(**keys, n_negatives=200_000, negatives="shared"), ITEMS, setting.counts)
    found["200,000 draws against the exact loss"] = Pair(
        many(setting.hidden, setting.table, setting.targets), setting.exact()[0]
    )
    return found


def _binary() -> dict[str, Pair]:
    setting, found = Setting(), {}
    each = setting.draws_without_target()
    for t in CALIBRATIONS:

        def formula(scores: Tensor, t: float | None = t) -> Tensor:
            positive = scores.gather(1, setting.targets[:, None])[:, 0].sigmoid()
            wrong = (1 - scores.gather(1, each).sigmoid()).log()
            if t is None:
                return -(positive.log() + wrong.mean(1)).mean()
            alpha = NEGATIVES / (ITEMS - 1)
            beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
            return -((positive**beta).log() + wrong.sum(1)).mean() / (NEGATIVES + 1)

        config = LossConfig(loss="bce" if t is None else "gbce", n_negatives=NEGATIVES, gbce_t=t or 0.0)
        ours = setting.ours(CatalogueLoss(config, ITEMS), each)
        found |= _pairs(_name_of_binary(t), ours, setting.formula(formula))
    return found


def _name_of_binary(t: float | None) -> str:
    return "bce" if t is None else f"gbce, t={t:g}"


def _bpr_max() -> dict[str, Pair]:
    setting, found = Setting(), {}
    free = [item for item in range(1, ITEMS + 1) if item not in setting.targets.tolist()]
    draws = {"shared": torch.tensor(free[:NEGATIVES]), "per_position": setting.draws_without_target()}
    for negatives, drawn in draws.items():

        def formula(scores: Tensor, drawn: Tensor = drawn) -> Tensor:
            bent = F.elu(scores, 0.5)
            positive = bent.gather(1, setting.targets[:, None])
            against = bent.gather(1, drawn.expand(POSITIONS, NEGATIVES))
            weight = against.softmax(1)
            won = (weight * (positive - against).sigmoid()).sum(1).log()
            return (BPR_WEIGHT * (weight * against.square()).sum(1) - won).mean()

        config = LossConfig(loss="bpr_max", n_negatives=NEGATIVES, negatives=negatives, bpr_reg=BPR_WEIGHT)
        found |= _pairs(negatives, setting.ours(CatalogueLoss(config, ITEMS), drawn), setting.formula(formula))
    return found


def _check(loss: str, formula: str, cases: list[str], compute: Callable[[], dict[str, Pair]], **more: float) -> Check:
    bounds = {f"{case}: {name}": scaled(2e-6) for case in cases for name in COMPARED}
    return Check(loss, formula, "-", bounds | {what: near(tolerance) for what, tolerance in more.items()}, compute)


CHECKS = [
    _check("loss=softmax", "cross-entropy over all items, in float64", list(CUTS), _softmax),
    _check(
        "loss=sampled_softmax",
        "its formula, in float64",
        [f"{negatives}, logq={logq}" for negatives, logq in SAMPLED],
        _sampled,
        **{"200,000 draws against the exact loss": 2e-2},
    ),
    _check("loss=bce, gbce", "gSASRec's equation 9, in float64", [_name_of_binary(t) for t in CALIBRATIONS], _binary),
    _check("loss=bpr_max", "GRU4Rec's equation 10, in float64", ["shared", "per_position"], _bpr_max),
]


@every_comparison(CHECKS)
def test_equals_the_formula(check: Check, what: str) -> None:
    check.hold(what)
