"""The protocol ``sessions``: its config, and the rule that a config is for given data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.protocol_base import VERSION, ProtocolConfig

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData


@dataclass(frozen=True)
class SessionRule:
    """``SessionsConfig`` with nothing left open: every choice that decides what a session split of given data is.

    border: ``given`` by the data's own files, ``d7`` (the last 7 days are test) or ``q0.9`` (the last tenth of the
    sessions is); validation_border: the same for validation within what remains, where ``given`` is no choice.
    train_fraction: such as 1/64, the most recent share of training that is used.
    """

    border: str
    validation_border: str
    min_item_count: int
    train_fraction: str = "1"
    day_dates: bool = False
    count_over_all: bool = False
    strict_cuts: bool = False
    fit_on_validation: bool = False
    cold_items: str = field(default="drop", metadata=LATER)

    def identity(self, seen_items: str) -> str:
        """The protocol id; what is as usual is not said."""
        said = [
            self.border if self.border == self.validation_border else f"{self.border}-{self.validation_border}",
            f"min{self.min_item_count}" if self.min_item_count > 1 else "",
            f"last{self.train_fraction.replace('/', 'of')}" if self.train_fraction != "1" else "",
            "overall" if self.count_over_all else "",
            "strict" if self.strict_cuts else "",
            "fitval" if self.fit_on_validation else "",
            "cold" if self.cold_items == "rank" else "",
        ]
        return f"sessions-{'-'.join(filter(None, said))}-full-{seen_items}-{VERSION}"


@dataclass
class SessionsConfig(ProtocolConfig):
    """Whole sessions are training, validation or test, by the time of their last event; every proper prefix is a case.

    test_days: the sessions of the last so many days are test, and of what remains the last so many days validation; null:
    as the data set is published (yoochoose 1, diginetica 7), 0: by quantile. test_quantile: where no days are known, this
    share of the sessions comes before the border. Data that say where their test starts (``session_file``) are cut
    there, unless test_days says otherwise, and by quantile for validation. min_item_count: items with fewer events in
    training are left out; null: as published, for raw logs 5. Items that training lacks are taken out of validation and
    test sessions, and sessions left with one event go; ``cold_items=rank`` lets them stay, also under min_item_count.

    For comparison with published preprocessing: count_over_all counts the items of test as well, before any cut, so the
    choice of items knows the test. strict_cuts loses the sessions exactly at a border, which otherwise belong to the
    earlier part; where dates are days, that is a day.
    """

    name: str = "sessions"
    seen_items: str = "keep"
    test_days: int | None = None
    test_quantile: float = 0.9
    min_item_count: int | None = None
    count_over_all: bool = False
    strict_cuts: bool = False
    cold_items: str = field(default="drop", metadata=LATER)

    def validate(self) -> None:
        super().validate()
        if not 0 < self.test_quantile < 1:
            raise UserError(f"protocol.test_quantile={self.test_quantile} must lie between 0 and 1")
        for key in ("test_days", "min_item_count"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise UserError(f"protocol.{key}={value} must not be negative")

    def rule(self, published: Mapping[str, Any]) -> SessionRule:
        """The rule for data that are published so; see ``recbench.data.sources.session_logs``."""
        days = published.get("test_days", 0) if self.test_days is None else self.test_days
        by_time = f"d{days}" if days else f"q{self.test_quantile}"
        given = published.get("border", False) and self.test_days is None
        least = published.get("min_item_count", 0) if self.min_item_count is None else self.min_item_count
        return SessionRule(
            border="given" if given else by_time,
            validation_border=by_time,
            min_item_count=least,
            train_fraction=published.get("train_fraction", "1"),
            day_dates=published.get("day_dates", False),
            count_over_all=self.count_over_all,
            strict_cuts=self.strict_cuts,
            fit_on_validation=self.fit_on_validation,
            cold_items=self.cold_items,
        )

    def identity(self, seen_items: str) -> str:
        """For data of which nothing is published."""
        return self.rule({}).identity(seen_items)

    def identity_for(self, data: PreparedData, seen_items: str) -> str:
        return self.rule(published_of(data)).identity(seen_items)


def published_of(data: PreparedData) -> dict[str, Any]:
    """What the source knows about how its data are published; see ``recbench.data.sources.session_logs``."""
    return data.manifest.get("extra", {}).get("sessions", {})
