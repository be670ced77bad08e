"""Many runs as one frame, from their folders or from MLflow: one row a run, one set of columns for both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from recbench.report.collect import StoredRun

#: Groups of a config that have a column of their own, named as on the command line.
GROUPS = ("model", "data", "protocol", "distillation", "compression")
#: Starts of the figures that have a column, in this order.
FIGURES = ("test/", "validation/", "cost/", "tokenizer/")


def results(source: Path | str = "runs", *, experiment: str = "recbench", unfinished: bool = False) -> pl.DataFrame:
    """One row a run: of a folder of runs, or of MLflow.

        recbench.results("runs")
        recbench.results("sqlite:///mlflow.db")
        recbench.results("http://tracking.example:5000", experiment="beauty")

    Columns: ``key``, ``name``, ``model``, ``data``, ``protocol`` (its id), ``distillation``, ``compression``, ``seed``; then every key that
    differs between the runs that have it, such as ``training.lr``, and ``tuned``, the file of ``conf/tuned`` that values come from, where some
    have one; ``state``, ``updated`` (UTC); then ``test/...``, ``validation/...`` and ``cost/...``; last ``folder``. What a run does not have
    is null.

    source: a folder, or the address of an MLflow store; experiment: the experiment in MLflow. unfinished: also runs that failed or are at
    work, which have no figures; in MLflow there are none. Raises UserError where there is no run, and for a store that does not answer.
    """
    if "://" in str(source):
        from recbench.cli.face.mlflow_runs import stored_in_mlflow

        return frame_of(stored_in_mlflow(str(source), experiment))
    from recbench.core.errors import UserError
    from recbench.report.collect import read_folder, say_damaged

    found = read_folder(Path(source).expanduser())
    say_damaged(found)
    runs = [run for run in found if run.finished or unfinished]
    if not runs:
        raise UserError(f"{source} holds no finished run; results({str(source)!r}, unfinished=True) lists the others")
    return frame_of(map(_row, runs))


def frame_of_folders(folders: Sequence[Path]) -> pl.DataFrame:
    """The rows of ``results`` for these folders, in their order."""
    from recbench.report.collect import read_run

    return frame_of(map(_row, map(read_run, folders)))


def _row(run: StoredRun) -> dict[str, Any]:
    """Everything that may have a column. Choices are dotted keys, figures have a slash in their names."""
    from recbench.cli.face.result import run_name
    from recbench.config.tuned import tuned_file
    from recbench.report.collect import deciding

    updated = run.status.get("updated")
    config = {key: _plain(value) for key, value in deciding(run.config).items()}
    return {
        **config,
        "key": run.key,
        "name": run_name(run.config) if "model" in run.config else run.key,
        "protocol": run.metrics.get("protocol", config.get("protocol")),
        "seed": run.seed,
        "tuned": tuned_file(run.config) or None,
        "state": run.state,
        "updated": None if updated is None else int(1000 * updated),
        "folder": str(run.path.absolute()),
        **{name: value for name, value in run.metrics.items() if name.startswith(FIGURES) and _is_number(value)},
    }


def frame_of(rows: Any) -> pl.DataFrame:
    """Rows as mappings, with ``updated`` in milliseconds, to the frame that ``results`` describes."""
    import polars as pl

    found: list[Mapping[str, Any]] = list(rows)
    names = list(dict.fromkeys(name for row in found for name in row))
    figures = [name for start in FIGURES for name in names if name.startswith(start)]
    first = ["key", "name", *GROUPS, "seed"]
    last = ["state", "updated", *figures, "folder"]
    chosen = [name for name in names if name not in (*first, *last) and _differs(name, found)]
    frame = pl.DataFrame({name: _column([row.get(name) for row in found]) for name in (*first, *chosen, *last)})
    return frame.with_columns(pl.col("updated").cast(pl.Int64).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))


def _differs(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row[name] for row in rows if name in row]
    return any(value != values[0] for value in values)


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: as they are if all are numbers or all truth values, else as text."""
    kinds = {
        bool if isinstance(value, bool) else float if _is_number(value) else str
        for value in values
        if value is not None
    }
    if kinds == {float}:
        whole = all(isinstance(value, int) for value in values if value is not None)
        return values if whole else [None if value is None else float(value) for value in values]
    return values if kinds == {bool} else [None if value is None else str(value) for value in values]


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
