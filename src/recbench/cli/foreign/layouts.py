"""A split in the layouts of RecBole and RecTools, with raw ids. Shapes: U users, C cases.

RecBole:   NAME/NAME.{train,valid,test}.inter, tab-separated with typed headers, for ``benchmark_filename: [train, valid, test]``, and recbole.yaml
           with the settings that keep RecBole from filtering, reordering or splitting anew [recbole.io, atomic files].
RecTools:  interactions_{train,validation,test}.parquet with the columns user_id, item_id, weight, datetime of ``Dataset.construct``.

The rows of validation and test are the targets. A case's history is what stands in training, and for test also in validation where the protocol has
it so: ``history_is_training`` says whether that holds; where not, the histories of the cases are in a file of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.disk import whole_folder
from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.cases import Cases
    from recbench.data.prepared import PreparedData
    from recbench.data.split import Split

NAME = "recbench"

RECBOLE = """# The split that recbench prepared: {protocol}. RecBole must not filter, sort or split it anew.
data_path: .
dataset: {name}
benchmark_filename: [train, valid, test]
USER_ID_FIELD: user_id
ITEM_ID_FIELD: item_id
TIME_FIELD: timestamp
load_col:
  inter: [user_id, item_id, timestamp]
eval_args:
  order: TO
  mode: full
repeatable: {repeatable}
"""

README = """# {protocol}, as {layout} reads it

Split hash `{split_hash}`, data `{fingerprint}`. Rows of validation and test are the targets; {users:,} users are tested.
{history}
Write the lists of the test users, at least as long as the largest cutoff, as a table `user, item, rank` of raw ids, and bring them back:

    recbench import-results LISTS.parquet --name "MODEL ({layout})" data=... protocol=...
"""


def write_split(data: PreparedData, split: Split, layout: str, to: Path) -> dict[str, int]:
    """Write the new folder ``to``; returns the rows of each part. Raises UserError for a folder that is there already."""
    if to.exists():
        raise UserError(f"{to} is there already; name a new folder with --to, or delete it")
    train = flat_ranges(split.train_start, split.train_end)
    parts = {"train": train, "validation": _targets(split.validation), "test": _targets(split.test)}
    tables = {name: _rows(data, *part) for name, part in parts.items()}
    simple = history_is_training(split)
    with whole_folder(to) as working:
        working.mkdir(parents=True)
        (_recbole if layout == "recbole" else _rectools)(tables, data, split, working)
        if not simple:
            for name, cases in (("validation", split.validation), ("test", split.test)):
                row, position = flat_ranges(cases.start, cases.end)
                _rows(data, cases.user[row], position).write_parquet(working / f"histories_{name}.parquet")
        said = (
            "The history of a test user is what stands of the user in training and validation."
            if simple
            else "Histories are no simple union of the parts here: histories_test.parquet holds those of the test users, oldest event first."
        )
        told = README.format(
            protocol=split.protocol_id,
            layout=layout,
            split_hash=split.split_hash,
            fingerprint=data.fingerprint,
            users=len(np.unique(split.test.user)),
            history=said,
        )
        (working / "README.md").write_text(told, encoding="utf-8")
        about = {"protocol": split.protocol_id, "split_hash": split.split_hash, "data_fingerprint": data.fingerprint}
        (working / "split.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return {name: table.height for name, table in tables.items()}


def history_is_training(split: Split) -> bool:
    """Whether every test history is the user's training events and then the validation targets, and every validation history the training events."""
    validation, test = split.validation, split.test
    end = split.train_end.astype(np.int64).copy()
    if (validation.start != split.train_start[validation.user]).any() or (validation.end != end[validation.user]).any():
        return False
    n = np.bincount(validation.user, weights=validation.n_targets, minlength=len(end)).astype(np.int64)
    start = split.train_start[test.user]
    return bool((test.start == start).all() and (test.end == (end + n)[test.user]).all())


def _targets(cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(cases.user, cases.n_targets), cases.target_positions


def _rows(data: PreparedData, user: np.ndarray, position: np.ndarray) -> pl.DataFrame:
    """user_id, item_id (raw), timestamp (seconds; the place in the history where the data have no clock)."""
    import polars as pl

    times = data.timestamps[position] if data.has_timestamps else position - data.offsets[user]
    return pl.DataFrame(
        {
            "user_id": data.user_ids()["user_id"].gather(user),
            "item_id": data.item_table()["item"].gather(np.asarray(data.items[position], np.int64) - 1),
            "timestamp": np.asarray(times, np.int64),
        }
    )


def _recbole(tables: dict[str, pl.DataFrame], data: PreparedData, split: Split, working: Path) -> None:
    import polars as pl

    place = working / NAME
    place.mkdir()
    header = {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
    for name, table in tables.items():
        dirty = table.filter(pl.any_horizontal(pl.col("user_id", "item_id").str.contains(r"[\t\n\r]"))).height
        if dirty:
            raise UserError(
                f"{dirty:,} raw ids hold a tab or a line end, which RecBole's files cannot; use --layout rectools"
            )
        short = {"validation": "valid"}.get(name, name)
        table.rename(header).write_csv(place / f"{NAME}.{short}.inter", separator="\t", quote_style="never")
    settings = RECBOLE.format(protocol=split.protocol_id, name=NAME, repeatable=str(data.has_repeats).lower())
    (working / "recbole.yaml").write_text(settings, encoding="utf-8")


def _rectools(tables: dict[str, pl.DataFrame], data: PreparedData, split: Split, working: Path) -> None:
    import polars as pl

    for name, table in tables.items():
        time = pl.from_epoch("timestamp", time_unit="s").alias("datetime")
        rows = table.select("user_id", "item_id", pl.lit(1.0).alias("weight"), time)
        rows.write_parquet(working / f"interactions_{name}.parquet")
