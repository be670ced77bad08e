"""Stability: how much of a list stays when only the seed of the training changes, or only its last day (``training.resample_day``).

overlap@k = |A ∩ B| / k for the lists A and B of one case by two seeds; the mean over cases, and over all pairs of seeds. 1: the seed changes no
list. It needs several runs, so it is no figure of one: with ``evaluation.metrics=[stability]`` a run keeps its lists in ``lists.parquet``, and
``recbench compare`` and the tables of studies compare those of the seeds. Shapes: C cases, K length of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from recbench.core.errors import UserError

#: The file of a run folder with its lists.
LISTS_FILE = "lists.parquet"
#: Names of the two figures.
BY_SEED, BY_DAY = "stability", "day_stability"


def overlap(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """[C] share of the first k places that hold the same items, in whatever order. Places without an item are no overlap.

    Lists 1, 2 and 2, 3 share one of two items:

    >>> overlap(np.array([[1, 2], [4, 0]]), np.array([[2, 3], [4, 0]]), 2).tolist()
    [0.5, 0.5]
    """
    mine, theirs = first[:, :k], second[:, :k]
    same = (mine[:, :, None] == theirs[:, None, :]) & (mine > 0)[:, :, None]
    return same.any(axis=2).sum(axis=1) / k


def write_lists(path: Path, case: np.ndarray, lists: np.ndarray) -> None:
    """case [C], lists [C, K] as a table of one row a case. path: a temporary file, or the place itself."""
    import polars as pl

    table = {"case": np.asarray(case, np.int64), "items": np.asarray(lists, np.int32)}
    pl.DataFrame(table, schema={"case": pl.Int64, "items": pl.Array(pl.Int32, lists.shape[1])}).write_parquet(path)


def read_lists(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(case [C], lists [C, K]). Raises UserError for a file that cannot be read."""
    import polars as pl

    try:
        table = pl.read_parquet(path, columns=["case", "items"])
        return table["case"].to_numpy(), table["items"].to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"cannot read {path}: {str(error).splitlines()[0]}; delete it, and make the run once more with evaluation.metrics=[stability]"
        ) from error


def day_stability(pairs: Sequence[Sequence[Path]], k: int) -> float | None:
    """Mean overlap@k between runs of one seed whose last day of training was drawn anew; None where no two of them have kept lists."""
    found = [value for runs in pairs if (value := stability(runs, k)) is not None]
    return float(np.mean(found)) if found else None


def stability(runs: Sequence[Path], k: int) -> float | None:
    """Mean overlap@k of all pairs of the run folders' lists; None for fewer than two runs, and where a run has kept no lists of that length."""
    files = [run / LISTS_FILE for run in runs]
    if len(files) < 2 or not all(path.is_file() for path in files):
        return None
    found = [read_lists(path) for path in files]
    if min(lists.shape[1] for _, lists in found) < k:
        return None
    for path, (case, _) in zip(files, found, strict=True):
        if not np.array_equal(case, found[0][0]):
            raise UserError(
                f"{path} has lists of other cases than {files[0]}; compare runs of one data set and protocol"
            )
    return float(np.mean([overlap(a, b, k).mean() for (_, a), (_, b) in combinations(found, 2)]))
