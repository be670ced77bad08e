"""Tables of impressions: a row is what somebody was shown, with a label and further columns. For ``protocol=clicks``.

    data=impressions data.path=log.csv data.columns.user=user data.columns.item=ad data.columns.label=click data.columns.timestamp=time
    data=impressions data.meta=dataset_config.yaml data.dataset=frappe_x1       # as FuxiCTR and BARS describe their sets

Every further column is a field: a category, unless ``numbers`` or ``several`` names it. An empty cell is a missing value. For protocols that rank,
the rows with a click are the interactions.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, first_line, nearest
from recbench.data import download
from recbench.data.schema import RawData, base_of
from recbench.data.sources.impressions_config import ImpressionsConfig, described

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

#: In this order stand the parts.
PARTS = ("train", "validation", "test")


def locate(config: ImpressionsConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Part -> path, size, sha256. Raises UserError for a missing file."""
    return {
        f"{part}-{path.name}": download.hash_file(path, cache_dir) for part, path in _files(described(config)).items()
    }


def read(config: ImpressionsConfig, spool: Path, cache_dir: Path) -> RawData:
    """The clicks as interactions."""
    import polars as pl

    rows, counts = _rows(config)
    timed = "timestamp" in rows.columns
    clicks = rows.filter(pl.col("label") == 1)
    columns = {
        "timestamp": pl.col("timestamp") if timed else pl.lit(0, pl.Int64),
        "rating": pl.lit(None, pl.Float32),
        "behaviour": pl.lit(None, pl.String),
        "session": pl.lit(None, pl.String),
    }
    given = ["part"] if "part" in rows.columns else []
    clicks.select("user", "item", *given, **columns).write_parquet(spool / "interactions.parquet")
    counts["rows_without_a_click"] = rows.height - clicks.height
    return RawData(
        interactions=spool / "interactions.parquet",
        files=locate(config, cache_dir),
        counts=counts,
        has_timestamps=timed,
        given_parts=bool(given),
    )


def impressions(config: ImpressionsConfig, to: Path) -> dict[str, int]:
    """Write all rows to the Parquet file ``to``; the counts of rows."""
    rows, counts = _rows(config)
    rows.write_parquet(to)
    return counts


def _files(config: ImpressionsConfig) -> dict[str, Path]:
    base = base_of(config)
    named = config.parts.files() or {"all": config.path}
    found = {}
    for part, value in named.items():
        key = "data.path" if part == "all" else f"data.parts.{part}"
        if value is None:
            raise UserError(
                "data=impressions needs data.path, data.parts.train and data.parts.test, or data.meta with data.dataset"
            )
        path = base / Path(str(value)).expanduser()
        if not path.is_file():
            there = sorted(p.name for p in path.parent.iterdir() if p.is_file())[:20] if path.parent.is_dir() else []
            hint = nearest(path.name, there) if there else f"there is no file in {path.parent}"
            raise UserError(f"{key}: there is no file {path}; {hint}")
        found[part] = path
    return found


def _rows(config: ImpressionsConfig) -> tuple[pl.DataFrame, dict[str, int]]:
    """All rows, part after part, in the layout of ``recbench.data.clicks.raw``."""
    import polars as pl

    config = described(config)
    frames, counts = [], {}
    for part, path in _files(config).items():
        frame = _typed(_table(path, config), config, path)
        counts[f"{part}_rows_read"] = frame.height
        if part != "all":
            frame = frame.with_columns(part=pl.lit(PARTS.index(part), pl.Int8))
        frames.append(frame)
    return pl.concat(frames, how="diagonal"), counts


def _table(path: Path, config: ImpressionsConfig) -> pl.DataFrame:
    import polars as pl

    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, separator=config.separator, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path.name} cannot be read as a table: {first_line(error)[:150]}") from error


def _typed(frame: pl.DataFrame, config: ImpressionsConfig, path: Path) -> pl.DataFrame:
    """The columns under our names and in our types."""
    import polars as pl

    names = config.columns
    for key, name in (
        *vars(names).items(),
        *((f"numbers: {n}", n) for n in config.numbers),
        *((f"several: {n}", n) for n in config.several),
    ):
        wanted = [name] if isinstance(name, str) else list(name or ())
        for one in wanted:
            if one not in frame.columns:
                raise UserError(
                    f"{path.name} has no column '{one}' (data.columns.{key}); {nearest(one, frame.columns)}"
                )
    frame = frame.with_row_index("row")
    row = pl.col("row").cast(pl.String)
    taken = {names.user, names.item, names.timestamp, names.label, *names.labels, *config.ignore, "row"}
    fields = config.fields or [name for name in frame.columns if name not in taken]
    made = {
        "user": pl.col(names.user).cast(pl.String).fill_null("") if names.user else row,
        "item": pl.col(names.item).cast(pl.String).fill_null("") if names.item else pl.lit("0"),
        "label": _number(frame, names.label, path).cast(pl.Int8, strict=False),
    }
    made |= {f"label:{name}": _number(frame, name, path).cast(pl.Int8, strict=False) for name in names.labels}
    if names.timestamp:
        made["timestamp"] = _times(frame, names.timestamp, config, path)
    for name in fields:
        if name in ("user", "item", "label", "timestamp", "part", "request") and name not in taken:
            raise UserError(
                f"{path.name}: the field '{name}' bears a name of ours; leave it out with data.ignore=[{name}]"
            )
        if name in config.numbers:
            made[name] = _number(frame, name, path)
        elif name in config.several:
            made[name] = pl.col(name).cast(pl.String).str.split(config.several_separator)
        else:
            made[name] = pl.col(name).cast(pl.String)
    return frame.select(**made)


def _number(frame: pl.DataFrame, name: str, path: Path) -> pl.Expr:
    """A column of numbers; a cell that is none is an error that names its row."""
    import polars as pl

    text = pl.col(name).cast(pl.String).str.strip_chars()
    wrong = frame.select("row", text.alias("text"), text.cast(pl.Float64, strict=False).alias("x")).filter(
        pl.col("text").is_not_null() & (pl.col("text") != "") & pl.col("x").is_null()
    )
    if wrong.height:
        first = wrong.row(0, named=True)
        raise UserError(
            f"{path.name}, row {first['row'] + 1:,}: {name} is '{first['text']}', which is no number ({wrong.height:,} such rows)"
        )
    return text.cast(pl.Float64, strict=False)


def _times(frame: pl.DataFrame, name: str, config: ImpressionsConfig, path: Path) -> pl.Expr:
    """[N] int64 Unix seconds."""
    import polars as pl

    text = frame[name].cast(pl.String)
    try:
        if config.timestamp_format:
            form = config.timestamp_format
            if "%M" not in form:  # a clock needs minutes, and dates to the hour have none
                text, form = text + "00", form + "%M"
            moment = text.str.to_datetime(form, strict=True).dt.epoch("s")
        elif text.drop_nulls().str.contains(r"^-?\d+$").all():
            moment = text.cast(pl.Int64)
        else:
            moment = text.str.to_datetime(strict=True).dt.epoch("s")
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path.name}: {name} holds no times that can be read; say how they are written with data.timestamp_format='%Y-%m-%d %H:%M:%S'"
        ) from error
    if moment.null_count():
        raise UserError(f"{path.name}: {moment.null_count():,} rows have no {name}")
    return pl.lit(moment)
