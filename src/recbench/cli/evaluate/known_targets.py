"""How much of what is asked the run has seen: test targets that it was trained on, and targets of items that it never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.data.training import TrainingData

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.cases import Cases
    from recbench.data.prepared import PreparedData
    from recbench.experiment.context import RunContext


def known_targets(own: RunContext, data: PreparedData, cases: Cases) -> dict[str, float]:
    """Shares (0 to 1) of the targets. own: data and split that the run was trained on; data: what it is asked about, with the same item numbers.

    ``test/trained_targets``: the run was trained on the same event (user by raw id, item and, where both data have a clock, time).
    ``test/untrained_targets``: their item has no event in the run's training.
    """
    import polars as pl

    timed = own.data.has_timestamps and data.has_timestamps
    train = TrainingData.of(own.data, own.split)
    trained = _events(own.data, *train.flat(), timed)
    user = np.repeat(cases.user, cases.n_targets)
    asked = _events(data, user, cases.targets, np.asarray(data.timestamps[cases.target_positions]), timed)
    found = asked.with_columns(
        pl.struct(pl.all()).is_in(trained.select(pl.struct(pl.all())).to_series().implode()).alias("is_trained")
    )
    counts = train.item_counts()
    return {
        "test/trained_targets": float(found["is_trained"].mean() or 0.0),  # type: ignore[arg-type]
        "test/untrained_targets": float((counts[cases.targets] == 0).mean()),
    }


def _events(data: PreparedData, user: np.ndarray, item: np.ndarray, time: np.ndarray, timed: bool) -> pl.DataFrame:
    """user (raw id; of a session that of its user), item, time."""
    import polars as pl

    names = data.user_ids()["user_id"]
    if "session_split" in data.manifest.get("extra", {}):
        names = names.str.replace(r"#\d+$", "")
    return pl.DataFrame(
        {
            "user": names.gather(user),
            "item": np.asarray(item, np.int64),
            "time": np.asarray(time, np.int64) if timed else np.zeros(len(item), np.int64),
        }
    )
