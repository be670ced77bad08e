"""How a model of ours is held against stored results of a published code.

``golden/*.npz`` holds small random inputs and weights, and what the published code made of them: scores, a loss, gradients. A ``Check`` names the
reference, says how far each result may be from ours, and knows how to compute both. Every test file of this folder has a list ``CHECKS`` and one
test, which runs once for every bound of every check; ``page.py`` makes the table of ``docs/parity.md`` out of the same lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"

#: Arrays of which the commit of the published code was not written down when they were made.
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Pair:
    """Two results that are compared: arrays, tensors, numbers, or dictionaries of them with gradients by name."""

    ours: Any
    theirs: Any

    def largest(self) -> tuple[float, float]:
        """(largest absolute difference, largest absolute value on their side)."""
        if not isinstance(self.theirs, Mapping):
            return _largest(self.ours, self.theirs)
        worst, size = 0.0, 0.0
        for name, theirs in self.theirs.items():
            # A part that no loss reaches has no gradient here and one of zeros there.
            ours = self.ours[name] if name in self.ours else np.zeros_like(np.asarray(theirs))
            difference, value = _largest(ours, theirs)
            worst, size = max(worst, difference), max(size, value)
        return worst, size


def _largest(ours: Any, theirs: Any) -> tuple[float, float]:
    a, b = _float64(ours), _float64(theirs)
    assert a.shape == b.shape, f"shapes differ: {a.shape} here, {b.shape} there"
    assert np.isfinite(a).all(), "a result of ours is not finite"
    return float(np.abs(a - b).max(initial=0.0)), float(np.abs(b).max(initial=0.0))


def _float64(value: Any) -> np.ndarray:
    value = value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)
    return value.astype(np.float64)


@dataclass(frozen=True)
class Bound:
    """What the largest difference must be: at most ``tolerance``; times the largest value, where that is above 1, if ``scaled``.

    ``meant`` marks a difference that is more than rounding and known. With ``differs`` the two results must be *further* apart than the tolerance:
    a deviation that would be missed if it went away.
    """

    tolerance: float
    scaled: bool = False
    meant: bool = False
    differs: bool = False

    def holds(self, difference: float, size: float) -> bool:
        limit = self.tolerance * (max(1.0, size) if self.scaled else 1.0)
        return difference > limit if self.differs else difference <= limit

    def __str__(self) -> str:
        return f"{'more than' if self.differs else 'at most'} {self.tolerance:g}{' of the largest value' * self.scaled}"


def scaled(tolerance: float) -> Bound:
    """At most this share of the largest value; where that is below 1, at most this."""
    return Bound(tolerance, scaled=True)


def within(tolerance: float) -> Bound:
    """At most this far apart."""
    return Bound(tolerance)


def near(tolerance: float) -> Bound:
    """A known small difference: at most this share of the largest value."""
    return Bound(tolerance, scaled=True, meant=True)


def differs(more_than: float) -> Bound:
    """A documented deviation: further apart than this."""
    return Bound(more_than, meant=True, differs=True)


EXACT = Bound(0.0)


@dataclass(frozen=True)
class Check:
    """One model against one reference.

    bounds: what is compared -> how close it must be; ``compute`` returns a pair for each · set_by_hand: what ours does otherwise, and the check
    therefore sets, turns or leaves out before it compares.
    """

    model: str
    reference: str
    commit: str
    bounds: Mapping[str, Bound]
    compute: Callable[[], Mapping[str, Pair]]
    set_by_hand: str = "nothing"

    def differences(self) -> dict[str, tuple[float, float]]:
        """What is compared -> (largest difference, largest value). Computed once a process."""
        return _differences(self.compute, tuple(self.bounds))

    def hold(self, what: str) -> None:
        """Assert one comparison."""
        difference, size = self.differences()[what]
        bound = self.bounds[what]
        assert bound.holds(difference, size), (
            f"{self.model} against {self.reference}, {what}: {difference:.2e} apart, of values up to {size:.3g}; must be {bound}"
        )


@cache
def _differences(compute: Callable[[], Mapping[str, Pair]], names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    pairs = compute()
    assert set(pairs) == set(names), f"compared and bounded differ: {sorted(set(pairs) ^ set(names))}"
    return {name: pairs[name].largest() for name in names}


def every_comparison(checks: list[Check]) -> Any:
    """Decorator: the test once for each comparison of each check, as (check, what)."""
    cases = [
        pytest.param(check, what, id=f"{check.model} | {check.reference}: {what}")
        for check in checks
        for what in check.bounds
    ]
    return pytest.mark.parametrize(("check", "what"), cases)


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of one file by name."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin so, without that beginning; copies, so that they may be written to."""
    return {name.removeprefix(prefix): value.copy() for name, value in arrays.items() if name.startswith(prefix)}


def tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(value))
