"""What the keys of several auxiliaries have in common: a weight, a temperature, what is compared, and random augmentations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.models.checks import check_number


@dataclass
class TermConfig:
    """What every auxiliary has: how much it weighs beside the loss."""

    weight: float = 0.1

    #: Whether a weight of 0 may be asked for, which leaves training as it is.
    may_be_idle: ClassVar[bool] = False

    def check(self, where: str) -> None:
        """Raise UserError for values that make no sense. ``where`` is the place of the keys on the command line."""
        bound: dict[str, float] = {"least" if self.may_be_idle else "above": 0.0}
        check_number(f"{where}.weight", self.weight, **bound)


@dataclass
class ContrastConfig(TermConfig):
    """What every auxiliary has that compares representations: how sharp it is."""

    temperature: float = 1.0  # divides the products of two representations

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.temperature", self.temperature, above=0.0)


@dataclass
class PairConfig(ContrastConfig):
    """What every auxiliary of histories has."""

    # Histories compared at a step: 0 (the windows of the batch, each up to its end) | a number of prefixes of all training windows, drawn anew.
    n_contrasts: int = field(default=0, metadata=LATER)

    def check(self, where: str) -> None:
        if self.n_contrasts < 0 or self.n_contrasts == 1:
            raise UserError(
                f"{where}.n_contrasts={self.n_contrasts} leaves nothing to compare; set at least 2, or 0 for the windows of the batch"
            )
        super().check(where)


@dataclass
class AugmentedConfig(PairConfig):
    """Shares of a history that the three random operators of ``augment.py`` act on."""

    crop: float = 0.6  # share that is kept, a run of events
    mask: float = 0.3  # share whose items are hidden
    reorder: float = 0.6  # share that is shuffled, a run of events

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.crop", self.crop, above=0.0, most=1.0)
        check_number(f"{where}.reorder", self.reorder, least=0.0, most=1.0)
        check_number(f"{where}.mask", self.mask, least=0.0, below=1.0)
