"""Protocols that ask for several items of a user at once: a share that is kept back (``holdout``), and parts that others made (``given``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.data.protocol_base import VERSION, ProtocolConfig
from recbench.data.schema import check_choice

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

#: Parts that others made (``PreparedData.parts``); in this order stand a user's events.
PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
HOLDOUT_ORDERS = ("random", "time", "given")


def has_validation(data: PreparedData) -> bool:
    """Whether any event of data whose parts are given is of a validation part."""
    return data.parts is not None and bool((data.parts == VALIDATION).any())


@dataclass
class HoldoutConfig(ProtocolConfig):
    """A share of each user's items is kept back: what papers on collaborative filtering use. A case has several targets.

    order: which items are kept back; ``random`` (drawn for each user with ``seed``), the last ones in ``time``, or ``given`` by the data
    (``data.parts``; without a validation part, validation_ratio of each user's training items are drawn for it). Otherwise, of a user's n items
    the first test_ratio are test and validation_ratio validation, rounded, and at least one each; users with fewer than min_events items only
    train. rounding: ``mmrec`` follows that library: below ten items one each, else a fifth of them, of which the smaller half is validation.
    validation_at_test: what the items of validation are when test is asked: ``candidates`` are rivals of the test items, as in all published
    code; ``history``, which fit_on_validation implies, gives them to the model, and masks them with the rest of the history.
    """

    name: str = "holdout"
    order: str = "random"
    test_ratio: float = 0.2
    validation_ratio: float = 0.1
    min_events: int = 3
    rounding: str = "share"
    validation_at_test: str = "candidates"
    seed: int = 0

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.order", self.order, HOLDOUT_ORDERS)
        check_choice("protocol.rounding", self.rounding, ("share", "mmrec"))
        check_choice("protocol.validation_at_test", self.validation_at_test, ("candidates", "history"))
        if not (self.test_ratio > 0 and self.validation_ratio > 0 and self.test_ratio + self.validation_ratio < 1):
            raise UserError(
                f"protocol.test_ratio={self.test_ratio} and validation_ratio={self.validation_ratio} must be positive and leave something to train on"
            )
        if self.min_events < 3:
            raise UserError(
                f"protocol.min_events={self.min_events} must be at least 3: one item each to train, validate and test"
            )
        if self.seed < 0:
            raise UserError(f"protocol.seed={self.seed} must not be negative")

    @property
    def takes_given_parts(self) -> bool:
        return self.order == "given"

    def identity(self, seen_items: str, has_validation: bool = True) -> str:
        """has_validation: whether data whose parts are given have one for validation."""
        asked = "valhist" if self.validation_is_known else "valcand"
        if self.order == "given":
            drawn = "" if has_validation else f"-v{self.validation_ratio}.s{self.seed}"
            return "-".join(["holdout-given" + drawn, asked, *self.fitted, self.catalogue, seen_items, VERSION])
        order = f"random.s{self.seed}" if self.order == "random" else self.order
        shares = "mmrec" if self.rounding == "mmrec" else f"v{self.validation_ratio}-t{self.test_ratio}"
        least = f"-min{self.min_events}" if self.min_events != 3 else ""
        kept_back = f"holdout-{order}-{shares}{least}-{asked}"
        return "-".join([kept_back, *self.fitted, self.catalogue, seen_items, VERSION])

    def identity_for(self, data: PreparedData, seen_items: str) -> str:
        if self.order != "given":
            return self.identity(seen_items)
        return self.identity(seen_items, data.manifest["extra"]["holdout"]["has_validation"])

    @property
    def validation_is_known(self) -> bool:
        """Whether the items of validation are in the history when test is asked; what is trained on is."""
        return self.validation_at_test == "history" or self.fit_on_validation


@dataclass
class GivenConfig(ProtocolConfig):
    """Training, validation and test as others made them (``data.parts``).

    target: which events of a user in validation or test are targets: ``all`` of them as one set, ranked from the history before that part;
    each in turn (``successive``), from all that precedes it; or the ``last`` one. History for test holds the validation events. Without a
    validation part, the last training event of users with three or more is the validation target, as in leave-one-out.
    """

    name: str = "given"
    target: str = "all"

    @property
    def takes_given_parts(self) -> bool:
        return True

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.target", self.target, ("all", "successive", "last"))

    def identity(self, seen_items: str, has_validation: bool = True) -> str:
        """has_validation: whether the data have a validation part."""
        rule = f"given-{self.target}{'' if has_validation else '-lastval'}"
        return "-".join([rule, *self.fitted, self.catalogue, seen_items, VERSION])

    def identity_for(self, data: PreparedData, seen_items: str) -> str:
        return self.identity(seen_items, has_validation(data))
