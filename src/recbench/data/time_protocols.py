"""Protocols along the time of the events: the last ones of each user, or all that lies behind a cut for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from recbench.core.errors import UserError
from recbench.data.protocol_base import VERSION, ProtocolConfig
from recbench.data.schema import check_choice

TARGETS = ("last", "successive", "random", "all")
COLD_TARGETS = ("keep", "drop")


@dataclass
class LeaveOneOutConfig(ProtocolConfig):
    """Last event is the test target, the one before it the validation target, all before that training.

    What most published tables use. It leaks time: training holds events that are later than most targets (see the
    audit).
    """

    def identity(self, seen_items: str) -> str:
        return "-".join(["leave_one_out", *self.fitted, self.catalogue, seen_items, VERSION])


@dataclass
class LeaveKOutConfig(ProtocolConfig):
    """The last k events of a user are test, the k before them validation, all before that training; users with fewer than 2 k + 1 events only train.

    target: ``all`` k as one set, ranked from what stands before them, or each in turn (``successive``), from all that precedes it.
    """

    name: str = "leave_k_out"
    k: int = 5
    target: str = "all"

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.target", self.target, ("all", "successive"))
        if self.k < 1:
            raise UserError(f"protocol.k={self.k} must be at least 1")

    def identity(self, seen_items: str) -> str:
        return "-".join([f"leave_{self.k}_out-{self.target}", *self.fitted, self.catalogue, seen_items, VERSION])


@dataclass
class FixedDateConfig(ProtocolConfig):
    """A day on which the model goes live: training ends before ``date``, what follows is asked.

    date: ISO date, UTC where no zone is given. test_days: how long is asked; null: to the end of the data. Events behind it are read by nobody.
    validation_days: how long before the date validates; null: as long as the test is, but at most half of the time before the date.
    target: as in ``temporal``, where both cuts are chosen and the test goes on to the end.
    """

    name: str = "fixed_date"
    date: str = ""
    test_days: int | None = None
    validation_days: int | None = None
    target: str = "last"
    seed: int = 0

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.target", self.target, TARGETS)
        if not self.date:
            raise UserError("protocol.date is missing; give the first day of the test, as in protocol.date=2014-07-01")
        _parse_date(self.date, "date")
        for key in ("test_days", "validation_days"):
            days = getattr(self, key)
            if days is not None and days < 1:
                raise UserError(f"protocol.{key}={days} must be at least 1")
        if self.seed < 0:
            raise UserError(f"protocol.seed={self.seed} must not be negative")

    def cut(self) -> int:
        """Unix seconds of the date. Raises UserError for one that cannot be read."""
        return int(_parse_date(self.date, "date").timestamp())

    def identity(self, seen_items: str) -> str:
        windows = [f"{name}{days}" for name, days in (("t", self.test_days), ("v", self.validation_days)) if days]
        target = f"random.s{self.seed}" if self.target == "random" else self.target
        date = _short_date(_parse_date(self.date, "date"))
        return "-".join(["fixed_date", date, *windows, target, *self.fitted, self.catalogue, seen_items, VERSION])


@dataclass
class SampledConfig(ProtocolConfig):
    """Leave-one-out cases, each target ranked among ``n_candidates`` uniform negatives instead of the catalogue.

    Kept for comparison with papers that report it; sampled metrics need not order models as the exact ones do (Krichene
    and Rendle, KDD 2020), so they carry another name. ``seed`` draws the negatives, once and for every model alike.
    """

    name: str = "sampled_999"
    n_candidates: int = 999
    seed: int = 0

    @property
    def metric_prefix(self) -> str:
        return f"sampled{self.n_candidates}_"

    def validate(self) -> None:
        super().validate()
        if self.n_candidates < 1:
            raise UserError(f"protocol.n_candidates={self.n_candidates} must be at least 1")
        if self.seed < 0:
            raise UserError(f"protocol.seed={self.seed} must not be negative")

    def identity(self, seen_items: str) -> str:
        drawn = f"uniform{self.n_candidates}.s{self.seed}" + (".warm" if self.cold_items == "drop" else "")
        return "-".join(["leave_one_out", *self.fitted, drawn, seen_items, VERSION])


@dataclass
class TemporalConfig(ProtocolConfig):
    """One cut in time for everybody: training before the validation cut, validation up to the test cut, test from there
    on.

    validation_quantile, test_quantile: the cut is the time of the event at that share of all events in time order.
    validation_date, test_date: ISO dates (UTC where no zone is given); if given they replace the quantiles, both or
    none. target: which events of a user inside a window are targets: ``last`` one, each of them in turn
    (``successive``), one at ``random`` (``seed``), or ``all`` of them as one set. History is all that the user did
    before the target, also inside the window; for ``all`` it ends at the cut. cold_targets: ``keep`` or ``drop``
    targets that never occur in training; counted either way. Their items stay in the catalogue, which ``cold_items=drop``
    changes. fit_on_validation trains on all events before the test cut.
    """

    name: str = "temporal"
    target: str = "last"
    validation_quantile: float = 0.8
    test_quantile: float = 0.9
    validation_date: str | None = None
    test_date: str | None = None
    cold_targets: str = "keep"
    seed: int = 0

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.target", self.target, TARGETS)
        check_choice("protocol.cold_targets", self.cold_targets, COLD_TARGETS)
        if (self.validation_date is None) != (self.test_date is None):
            raise UserError(
                "both cuts must follow one rule: give protocol.validation_date and protocol.test_date, or neither"
            )
        dates = self.dates()
        if dates is not None:
            if dates[0] >= dates[1]:
                raise UserError(
                    f"protocol.validation_date={self.validation_date} must lie before test_date={self.test_date}"
                )
        elif not 0 < self.validation_quantile < self.test_quantile < 1:
            raise UserError(
                f"protocol quantiles must satisfy 0 < validation_quantile < test_quantile < 1, "
                f"not {self.validation_quantile} and {self.test_quantile}"
            )
        if self.seed < 0:
            raise UserError(f"protocol.seed={self.seed} must not be negative")

    def dates(self) -> tuple[datetime, datetime] | None:
        """(validation cut, test cut) with a time zone, or None if the cuts are quantiles. Raises UserError on an
        unreadable date."""
        if self.validation_date is None or self.test_date is None:
            return None
        return _parse_date(self.validation_date, "validation_date"), _parse_date(self.test_date, "test_date")

    def identity(self, seen_items: str) -> str:
        dates = self.dates()
        quantiles = f"q{self.validation_quantile}-q{self.test_quantile}"
        cuts = "-".join(_short_date(date) for date in dates) if dates else quantiles
        target = f"random.s{self.seed}" if self.target == "random" else self.target
        cold = "-nocold" if self.cold_targets == "drop" else ""
        return "-".join([f"temporal-{cuts}-{target}{cold}", *self.fitted, self.catalogue, seen_items, VERSION])


def _parse_date(text: str, key: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"protocol.{key}={text} is not an ISO date such as 2014-01-31 or 2014-01-31T12:00:00"
        ) from error
    if date.microsecond:
        raise UserError(f"protocol.{key}={text} must be a whole second, as the timestamps of the data are")
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _short_date(date: datetime) -> str:
    at_midnight = (date.hour, date.minute, date.second) == (0, 0, 0)
    return date.strftime("d%Y%m%d" if at_midnight else "d%Y%m%dT%H%M%SZ")
