"""The ranks of a stored run: from its ``ranks.parquet``, or from what a study keeps of runs that are not here.

Shapes: T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.run_files import Damaged

if TYPE_CHECKING:
    from recbench.report.collect import StoredRun

#: What a judgement reads of the ranks.
NEEDED = ("case", "user", "rank")


def read_ranks(run: StoredRun, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns [T] of a run's ranks by name. Call it where ``ranks_problem`` has found nothing."""
    if run.held is not None:
        return {name: run.held[name] for name in names}
    import polars as pl

    try:
        table = pl.read_parquet(run.ranks, columns=list(names))
    except (OSError, pl.exceptions.PolarsError) as error:  # its head was whole
        raise Damaged(run.ranks, "is damaged") from error
    return {name: table[name].to_numpy() for name in names}


def has_columns(run: StoredRun, names: Sequence[str]) -> bool:
    """Whether the ranks of a run can be read and have these columns."""
    return not ranks_problem(run, names)


def ranks_problem(run: StoredRun, names: Sequence[str] = NEEDED) -> str:
    """Why these columns of a run's ranks cannot be read; empty if they can. Only the head of the file is read."""
    if run.held is not None:
        there = set(run.held)
    elif run.recorded:
        return "ranks are not kept in ranks.npz of the study"
    elif not run.ranks.is_file():
        return "ranks.parquet is missing"
    else:
        import polars as pl

        try:
            there = set(pl.read_parquet_schema(run.ranks))
        except (OSError, pl.exceptions.PolarsError):
            return "ranks.parquet cannot be read"
    lacking = set(names) - there
    return f"ranks.parquet lacks {', '.join(sorted(lacking))}" if lacking else ""
