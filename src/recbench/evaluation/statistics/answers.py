"""The figures of a stored run user by user, whatever it was asked: ranks of targets, or predictions of clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbench.core.errors import UserError, nearest
from recbench.evaluation.clicks import BY_USER, click_values
from recbench.evaluation.statistics.per_user import UserValues, check_measurable, per_user

#: The file of a run that was asked for clicks.
PREDICTIONS = "predictions.parquet"


def check_answers(metric: str, files: Sequence[Path]) -> None:
    """Raise UserError unless a metric can be had user by user from all files."""
    clicks = [path for path in files if path.name == PREDICTIONS]
    if not clicks:
        check_measurable(metric, files)
    elif len(clicks) < len(files):
        other = next(path for path in files if path.name != PREDICTIONS)
        raise UserError(
            f"{other.parent.name} ranks items and {clicks[0].parent.name} predicts clicks: the two never share a table"
        )
    elif metric not in BY_USER:
        raise UserError(f"{metric} cannot be had of clicks user by user; {nearest(metric, BY_USER)}")


def user_answers(path: Path, metric: str) -> UserValues:
    """The metric of every user of a ``ranks.parquet`` or a ``predictions.parquet``. Raises UserError for a file that cannot be read."""
    if path.name != PREDICTIONS:
        return per_user(path, metric)
    import polars as pl

    try:
        table = pl.read_parquet(path, columns=["label", "logit", "user"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"cannot read {path}: {str(error).splitlines()[0]}; delete the run and make it again"
        ) from error
    return click_values(metric, *(table[name].to_numpy() for name in ("label", "logit", "user")))
