"""Protocols: what counts as training, validation and test, and what a target is ranked against.

Only configs and their ids live here, so that the command line can import this file without any heavy library; the
arrays are built in ``recbench.data.split``. Every protocol has an id that stands beside every number it produced; two
numbers may share a table only if their ids are equal. An id is read from left to right: rule, cuts and targets,
candidates, seen items, version of the code that builds it (raised whenever the same config would give other arrays).

Another package adds protocols through the entry-point group ``recbench.protocols``: each entry is ``name = "package.module:Config"``, a
ProtocolConfig with ``identity`` and ``parts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER
from recbench.core.plug_ins import PlugIns

if TYPE_CHECKING:
    from recbench.data.cases import SplitParts
    from recbench.data.prepared import PreparedData

VERSION = "v1"
SEEN_ITEMS = ("auto", "mask", "keep")
TARGETS = ("last", "successive", "random", "all")
COLD_TARGETS = ("keep", "drop")
HOLDOUT_ORDERS = ("random", "time")
COLD_ITEMS = ("rank", "drop")


def _require(value: str, choices: tuple[str, ...], key: str) -> None:
    if value not in choices:
        raise UserError(f"protocol.{key}={value} is not known; choose one of: {', '.join(choices)}")


@dataclass
class ProtocolConfig:
    """What every protocol has.

    seen_items: ``mask`` ranks no item of the user's history, ``keep`` ranks them like any other, ``auto`` masks where
    the data has no repeats (there a seen item cannot be the answer) and keeps elsewhere. The rule is decided once per
    data set and protocol, never by a model.

    fit_on_validation: train in two parts. The first is the same run without it: its validation chooses the number of epochs, and gives the validation
    figures. The second trains from the start on training and validation together, for that many epochs. Where validation can choose nothing
    (``training.validate_every`` reaches ``training.max_epochs``) there is no first part, and all epochs are trained.

    cold_items: items without a training event. ``rank`` has them in the catalogue and among the targets: a model that reads texts or features can
    know them, any other gives them the score of untrained weights. ``drop`` ranks only items that training holds and leaves out the other targets.

    users: ask at most so many users, drawn with ``users_seed`` and the same for every model, in validation and test; null: all. Training is not
    changed. For models whose every answer is dear.
    """

    name: str = "leave_one_out"
    seen_items: str = "auto"
    fit_on_validation: bool = field(default=False, metadata=LATER)
    cold_items: str = field(default="rank", metadata=LATER)
    users: int | None = field(default=None, metadata=LATER)
    users_seed: int = field(default=0, metadata=LATER)

    @property
    def takes_given_parts(self) -> bool:
        """Whether it uses the parts of data that others split (``data.parts``), and so needs them."""
        return False

    @property
    def metric_prefix(self) -> str:
        """Stands before every metric name of this protocol; empty where the whole catalogue is ranked."""
        return ""

    def validate(self) -> None:
        """Raises UserError that names the key and lists the choices."""
        _require(self.seen_items, SEEN_ITEMS, "seen_items")
        _require(self.cold_items, COLD_ITEMS, "cold_items")
        if self.users is not None and self.users < 1:
            raise UserError(f"protocol.users={self.users} must be at least 1")
        if self.users_seed < 0:
            raise UserError(f"protocol.users_seed={self.users_seed} must not be negative")

    @property
    def fitted(self) -> list[str]:
        """What an id says of the training: nothing, or that it holds validation."""
        return ["fitval"] if self.fit_on_validation else []

    @property
    def catalogue(self) -> str:
        """What an id says of the items that are ranked: all of them, or those that training holds."""
        return "full" if self.cold_items == "rank" else "warm"

    def with_users(self, identity: str) -> str:
        """An id with the sample of users in it, before the version."""
        if self.users is None:
            return identity
        version = f"-{VERSION}" if identity.endswith(f"-{VERSION}") else ""
        return f"{identity.removesuffix(version)}-users{self.users}.s{self.users_seed}{version}"

    def resolve_seen_items(self, has_repeats: bool) -> str:
        """``mask`` or ``keep``."""
        if self.seen_items == "auto":
            return "keep" if has_repeats else "mask"
        return self.seen_items

    def identity(self, seen_items: str) -> str:
        """The protocol id; seen_items is the resolved rule. It must differ wherever two configs of this protocol could give other arrays."""
        raise NotImplementedError

    def parts(self, data: PreparedData) -> SplitParts:
        """Training, validation and test. Protocols of other packages give this; our own are built in ``recbench.data.split``."""
        raise NotImplementedError


@dataclass
class LeaveOneOutConfig(ProtocolConfig):
    """Last event is the test target, the one before it the validation target, all before that training.

    What most published tables use. It leaks time: training holds events that are later than most targets (see the
    audit).
    """

    def identity(self, seen_items: str) -> str:
        return "-".join(["leave_one_out", *self.fitted, self.catalogue, seen_items, VERSION])


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
        _require(self.target, TARGETS, "target")
        _require(self.cold_targets, COLD_TARGETS, "cold_targets")
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


@dataclass
class HoldoutConfig(ProtocolConfig):
    """A share of each user's items is kept back: what papers on collaborative filtering use. A case has several targets.

    order: which items are kept back; ``random`` (drawn for each user with ``seed``) or the last ones in ``time``. Of a user's n distinct items
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
        _require(self.order, HOLDOUT_ORDERS, "order")
        _require(self.rounding, ("share", "mmrec"), "rounding")
        _require(self.validation_at_test, ("candidates", "history"), "validation_at_test")
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

    def identity(self, seen_items: str) -> str:
        order = f"random.s{self.seed}" if self.order == "random" else self.order
        shares = "mmrec" if self.rounding == "mmrec" else f"v{self.validation_ratio}-t{self.test_ratio}"
        least = f"-min{self.min_events}" if self.min_events != 3 else ""
        asked = "valhist" if self.validation_is_known else "valcand"
        kept_back = f"holdout-{order}-{shares}{least}-{asked}"
        return "-".join([kept_back, *self.fitted, self.catalogue, seen_items, VERSION])

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
        _require(self.target, ("all", "successive", "last"), "target")

    def identity(self, seen_items: str, has_validation: bool = True) -> str:
        """has_validation: whether the data have a validation part."""
        rule = f"given-{self.target}{'' if has_validation else '-lastval'}"
        return "-".join([rule, *self.fitted, self.catalogue, seen_items, VERSION])


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


#: Every protocol by name.
PROTOCOLS: dict[str, type[ProtocolConfig]] = {
    "leave_one_out": LeaveOneOutConfig,
    "temporal": TemporalConfig,
    "sampled_999": SampledConfig,
    "sessions": SessionsConfig,
    "holdout": HoldoutConfig,
    "given": GivenConfig,
}
PLUG_INS = PlugIns("recbench.protocols", "protocol", PROTOCOLS)


def protocol_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({*PROTOCOLS, *PLUG_INS.names()})


def protocol_class(name: str) -> type[ProtocolConfig]:
    """The config class of a protocol.

    Raises UserError, with the nearest name, for an unknown one, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name not in PLUG_INS:
        raise UserError(f"unknown protocol '{name}'; {nearest(name, protocol_names())}")
    config = PLUG_INS.load(name)
    own = isinstance(config, type) and issubclass(config, ProtocolConfig)
    if not own or config.parts is ProtocolConfig.parts:
        raise PLUG_INS.refusal(name, "is no ProtocolConfig with a method parts")
    return config
