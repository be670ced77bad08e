"""Which metrics can decide on validation when a training stops (``evaluation.monitor``)."""

from __future__ import annotations

from recbench.core.errors import UserError, nearest
from recbench.evaluation.metrics import METRICS

#: Those of ``protocol=clicks``, of all of which more is better; the first is the usual one.
CLICK_MONITORS = ("auc", "gauc")


def check_monitor(name: str, of_clicks: bool = False) -> None:
    """Raise UserError, with the nearest right name, unless ``name`` is a metric of ours at a cutoff, or mrr.

    >>> check_monitor("hr@7"), check_monitor("mrr")
    (None, None)
    """
    if of_clicks:
        if name not in CLICK_MONITORS:
            raise UserError(f"unknown evaluation.monitor={name} of clicks; {nearest(name, CLICK_MONITORS)}")
        return
    metric, at, cutoff = name.partition("@")
    said = f"evaluation.monitor={name}"
    if metric not in METRICS:
        word = metric.lower().replace("recall_at", "recall").rstrip("0123456789_")
        known = [f"{known}@{cutoff if cutoff.isdecimal() else 10}" for known in METRICS] + ["mrr"]
        raise UserError(
            f"unknown {said}; {nearest(f'{word}@{cutoff}' if cutoff else word, known)}, with any cutoff behind the @"
        )
    if not at and metric == "mrr":
        return
    if not cutoff.isdecimal() or int(cutoff) < 1:
        raise UserError(f"{said} needs a cutoff of 1 or more behind an @, as in evaluation.monitor={metric}@10")
