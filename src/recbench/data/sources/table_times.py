"""Timestamps of a table: what they count, decided once for the whole column, and rows that lie far from the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recbench.core.errors import UserError
from recbench.data.schema import LATEST_SECOND

#: From this many units since 1970 on, the median timestamp of the first rows cannot be in the coarser unit: it would
#: lie beyond the year 5000.
FINER = (("ns", 10**17), ("us", 10**14), ("ms", 10**11))
#: A millisecond, in units: (multiply by, divide by).
TO_MILLISECONDS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
#: ``data.timestamp_format=rfc``: dates of mails and of web servers.
RFC_FORMATS = ("%a, %d %b %Y %H:%M:%S %z", "%d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S", "%d %b %Y %H:%M:%S")
#: Forms of dates that are no ISO dates, to be offered where the rows fit them.
OTHER_FORMATS = (
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M %p", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y", "%d %B %Y",
    "%B %d, %Y", "%a %b %d %H:%M:%S %Y", "%d %b %Y %H:%M",
)  # fmt: skip
WORDS = {
    "s": "seconds since 1970", "ms": "milliseconds since 1970", "us": "microseconds since 1970", "ns": "nanoseconds since 1970",
    "iso": "ISO dates", "calendar": "calendar numbers, such as 20200914", "format": "dates in the given format",
}  # fmt: skip
DAY_MS = 86_400_000
#: Share of numbers that must be days of the calendar for all to be taken so.
REAL = 0.9
#: Timestamps are counted in bins of so many milliseconds; rows are far from the rest behind a pause of so many bins.
BIN_MS, FAR_BINS = 30 * DAY_MS, 15 * 12


@dataclass
class Clock:
    """How the column of timestamps is read. unit: a key of WORDS. hint: what a person may do about values that do not fit. is_doubtful:
    most of the sample does not."""

    unit: str
    formats: tuple[str, ...] = ISO_FORMATS
    hint: str = ""
    is_doubtful: bool = False

    def milliseconds(self, column: pl.Series) -> pl.Series:
        """[N] Unix milliseconds, int64; null where the value says no time, or one beyond the year 9999."""
        if column.dtype.is_temporal():
            return column.cast(pl.Datetime("ms")).dt.epoch("ms")
        if self.unit == "calendar":
            return _in_formats(_digits(column).str.pad_end(14, "0"), ("%Y%m%d%H%M%S",))
        if self.unit == "iso":
            text = column.cast(pl.String).str.strip_chars().str.replace(" ", "T", literal=True)
            return _in_formats(text.str.replace("T?(Z|UTC)$", "+00:00"), self.formats)
        if self.unit == "format":
            text = column.cast(pl.String).str.strip_chars()
            if any("%z" in form for form in self.formats):
                text = text.str.replace(r"(GMT|UTC|UT|Z)$", "+0000")
            return _in_formats(text, self.formats)
        return self._of_numbers(column)

    def _of_numbers(self, column: pl.Series) -> pl.Series:
        times, over = TO_MILLISECONDS[self.unit]
        latest = min(LATEST_SECOND * 1000 * over // times, 2**63 - 1)
        whole = column.cast(pl.Int64, strict=False)
        if not column.dtype.is_float() and whole.null_count() == column.null_count():
            # Whole numbers stay whole: as floats, nanoseconds would lose their last digits.
            frame = pl.select(pl.when(whole.is_between(-latest, latest, closed="none")).then(whole * times // over))
            return frame.to_series()
        bare = column.str.strip_chars() if column.dtype == pl.String else column
        whole, fraction = bare.cast(pl.Int64, strict=False), bare.cast(pl.Float64, strict=False)
        rounded = (fraction * times / over).round().cast(pl.Int64, strict=False)
        exact = rounded if column.dtype.is_float() else whole * times // over
        near = (fraction * times / over).abs() < LATEST_SECOND * 1000
        return pl.select(pl.when(near).then(pl.coalesce(exact, rounded))).to_series()


def choose_clock(sample: pl.Series, unit: str, given: str | None) -> Clock:
    """How a column is read, by the settings ``timestamp_unit`` and ``timestamp_format`` or, for ``auto``, by a sample of it."""
    if sample.dtype.is_temporal():
        return Clock("iso")
    if given is not None:
        return Clock("format", RFC_FORMATS if given.lower().startswith("rfc") else (_for_polars(given),))
    if unit == "auto":
        unit = _guess_unit(sample)
    hint, doubtful = "", False
    if unit == "iso":
        doubtful = Clock("iso").milliseconds(sample).null_count() > sample.len() // 2
        forms = fitting_formats(sample)
        hint = "".join(f"data.timestamp_format='{form}' or " for form in forms).removesuffix("or ")
        hint = (
            f"say how dates are written, with {hint or 'data.timestamp_format '}(day %d, month %m), "
            if sample.len()
            else ""
        )
    elif unit in TO_MILLISECONDS:
        hint = "name what a timestamp counts with data.timestamp_unit, "
    return Clock(unit, hint=hint, is_doubtful=doubtful)


def fitting_formats(sample: pl.Series) -> list[str]:
    """Those of OTHER_FORMATS, and ``rfc``, in which every value of a sample of text is a date."""
    values = sample.cast(pl.String).str.strip_chars()
    values = values.filter(values != "").head(1000)
    if values.is_empty() or _in_formats(values.str.replace(" ", "T", literal=True), ISO_FORMATS).null_count() == 0:
        return []
    rfc = values.str.replace(r"(GMT|UTC|UT|Z)$", "+0000")
    found = ["rfc"] if _in_formats(rfc, RFC_FORMATS).null_count() == 0 else []
    return found + [form for form in OTHER_FORMATS if _in_formats(values, (form,)).null_count() == 0]


def check_format(given: str) -> None:
    """Raises UserError for a format that can describe no date."""
    if given.lower().startswith("rfc"):
        return
    form = _for_polars(given)
    try:
        written = pl.Series([datetime(2020, 9, 14, 15, 6, 17)]).dt.strftime(form)
        ok = re.search("%[-_0]?[YyGCDFcxs+v]", form) is not None and _in_formats(written, (form,)).null_count() == 0
    except pl.exceptions.PolarsError:
        ok = False
    if not ok and not re.search("%#?:?z|%Z", form):
        raise UserError(
            f"data.timestamp_format={given} describes no date; write day %d, month %m, year %Y, hour %H (%I with %p), minute %M, second %S, "
            "as in '%d/%m/%Y %H:%M', or rfc"
        )


def _for_polars(given: str) -> str:
    """Python's fraction of a second as Polars wants it."""
    return given.replace(".%f", "%.f")


def _in_formats(text: pl.Series, formats: tuple[str, ...]) -> pl.Series:
    """[N] milliseconds by the first format that fits; null where none does."""
    found = pl.Series([None] * 0, dtype=pl.Int64)
    for at, form in enumerate(formats):
        times = text.str.to_datetime(form, strict=False, time_unit="ms").dt.epoch("ms")
        found = times if at == 0 else pl.select(pl.coalesce(found, times)).to_series()
        if found.null_count() == 0:
            break
    return found


def _digits(column: pl.Series) -> pl.Series:
    """Calendar numbers as text; null for anything else."""
    is_text = column.dtype == pl.String
    bare = (
        column.str.strip_chars().str.replace(r"\.0+$", "")
        if is_text
        else column.cast(pl.Int64, strict=False).cast(pl.String)
    )
    return pl.select(pl.when(bare.str.contains(r"^\d{8}(\d\d){0,3}$")).then(bare)).to_series()


def _guess_unit(sample: pl.Series) -> str:
    """The unit that puts the median of the sample into this age; text that is no number is a date."""
    present = sample.drop_nulls()
    if present.dtype == pl.String:
        present = present.str.strip_chars()
        present = present.filter(present != "")
    number = present.cast(pl.Float64, strict=False).drop_nulls().drop_nans()
    if 2 * number.len() < present.len() or number.is_empty():
        return "iso"
    if _is_calendar(present):
        return "calendar"
    median = float(number.abs().median())  # type: ignore[arg-type]
    return next((unit for unit, least in FINER if median >= least), "s")


def _is_calendar(present: pl.Series) -> bool:
    """Whether the numbers are dates such as 20200914 or 20200914150617, and make no better sense as a count."""
    digits = _digits(present)
    real = digits.filter(_in_formats(digits.str.pad_end(14, "0"), ("%Y%m%d%H%M%S",)).is_not_null())
    # A few may be slips, such as 20200931, which their row will be told.
    if real.is_empty() or real.len() < REAL * present.len():
        return False
    # Ten digits may be seconds: as such they are later than 2033 where they are dates.
    first = 1990 if (real.str.len_bytes() == 10).any() else 1900
    return bool(real.str.slice(0, 4).cast(pl.Int32).is_between(first, datetime.now(UTC).year + 1).all())


@dataclass
class Span:
    """When the rows of a log happened: counts by bin, with an example of each."""

    rows: dict[int, int] = field(default_factory=dict)
    example: dict[int, tuple[Path, int, str]] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    outside: int = 0

    def add(self, path: Path, frame: pl.DataFrame) -> None:
        """Rows of a file: their ``line``, ``timestamp`` in milliseconds and ``raw_timestamp``."""
        if frame.is_empty():
            return
        earliest, latest = usual_range()
        stamps = frame["timestamp"]
        low, high = int(stamps.min()), int(stamps.max())  # type: ignore[arg-type]
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        self.outside += int((~stamps.is_between(earliest, latest, closed="left")).sum())
        bins = frame.group_by(bin=pl.col("timestamp") // BIN_MS).agg(
            pl.len(), pl.col("line").first(), pl.col("raw_timestamp").first()
        )
        for number, rows, line, raw in bins.iter_rows():
            self.rows[number] = self.rows.get(number, 0) + rows
            self.example.setdefault(number, (path, line, raw))

    def far(self) -> tuple[list[int], list[int]]:
        """(bins of rows that are decades away from the rest, the other bins); the rest is where the median row is."""
        order = sorted(self.rows)
        runs: list[list[int]] = []
        for number in order:
            if runs and number - runs[-1][-1] < FAR_BINS:
                runs[-1].append(number)
            else:
                runs.append([number])
        half, before = sum(self.rows.values()) / 2, 0
        for run in runs:
            before += sum(self.rows[number] for number in run)
            if before >= half:
                return [number for number in order if number not in set(run)], run
        return [], order


def usual_range() -> tuple[int, int]:
    """(first, end) in milliseconds of the years in which logs are written: 1990 to next year."""
    return tuple(
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000 for year in (1990, datetime.now(UTC).year + 2)
    )  # type: ignore[return-value]


def date(milliseconds: int) -> str:
    """A day of the calendar, as far as there is one."""
    try:
        return datetime.fromtimestamp(milliseconds // 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "a day outside the calendar"
