"""What a reader must know about a split before believing a number: how much it leaks, ties in time, cold targets,
repeats.

Nothing here needs a model. Shapes: U users, N events, C cases, T targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.data.cases import blocks_of_users, flat_ranges

if TYPE_CHECKING:
    from recbench.data.cases import Cases
    from recbench.data.store import PreparedData


#: Events that are looked at together.
EVENTS_AT_ONCE = 1 << 20


def audit(
    data: PreparedData, train_start: np.ndarray, train_end: np.ndarray, validation: Cases, test: Cases
) -> dict[str, float | int]:
    """Counts and shares (0 to 1). Those that need timestamps are absent where the data has none.

    - training_events, validation_cases, test_cases, test_targets; users_without_case: users that are not tested.
    - leaked_targets: share of test targets that are strictly older than the newest training event.
    - later_training: share of training events strictly later than a test target, mean over targets. It says how much
      leaks.
    - tied_targets: share of test targets with the same timestamp as the user's event before them: their order is the
      file's.
    - tied_events: share of consecutive events of one user, over all data, with equal timestamps.
    - cold_targets: share of test targets that never occur in training; no trained model can know them.
    - repeated_targets: share of test targets that stand in their own history; under ``mask`` they cannot be hit.
    """
    target_times = np.asarray(data.timestamps[test.target_positions])
    training = _Training(data, target_times)
    for first, last in blocks_of_users(train_end - train_start, EVENTS_AT_ONCE):
        training.add(flat_ranges(train_start[first:last], train_end[first:last])[1])
    found: dict[str, float | int] = {
        "training_events": training.events,
        "validation_cases": len(validation),
        "test_cases": len(test),
        "test_targets": len(test.targets),
        "users_without_case": data.n_users - len(np.unique(test.user)),
        "cold_targets": float((training.item_counts[test.targets] == 0).mean()),
        "repeated_targets": _repeated_share(data, test),
    }
    if data.has_timestamps:
        found |= {
            "leaked_targets": float((target_times < training.newest(target_times)).mean()),
            "later_training": float(training.later / len(target_times) / max(training.events, 1)),
            **_ties(data, test.target_positions),
        }
    return found


def audit_line(found: dict[str, float | int]) -> str:
    """The audit as one readable line."""
    without = found["users_without_case"]
    parts = [f"{found['test_targets']:,} test targets" + (f", {without:,} users without a target" if without else "")]
    if "leaked_targets" in found:
        parts += [
            f"leak: {found['leaked_targets']:.1%} of targets older than the newest training event, "
            f"{found['later_training']:.1%} of training later than a target",
            f"ties in time: {found['tied_targets']:.1%} of targets, {found['tied_events']:.1%} of events",
        ]
    else:
        parts.append("leak and ties unknown (no timestamps)")
    parts += [f"cold: {found['cold_targets']:.1%}", f"repeated: {found['repeated_targets']:.1%}"]
    return " · ".join(parts)


class _Training:
    """What is counted of the training events, a block at a time."""

    def __init__(self, data: PreparedData, target_times: np.ndarray) -> None:
        self.data, self.target_times = data, np.sort(target_times)
        self.item_counts = np.zeros(data.n_items + 1, dtype=np.int64)
        self.events = 0
        #: Pairs of a target and a training event that is strictly later.
        self.later = 0
        self._newest: int | None = None

    def add(self, position: np.ndarray) -> None:
        """The training events at these flat positions."""
        if not len(position):
            return
        self.events += len(position)
        self.item_counts += np.bincount(self.data.items[position], minlength=len(self.item_counts))
        times = self.data.timestamps[position]
        self.later += int(np.searchsorted(self.target_times, times, side="left").sum())
        self._newest = max(int(times.max()), self._newest if self._newest is not None else int(times.max()))

    def newest(self, otherwise: np.ndarray) -> int:
        """Time of the newest training event; without any, of the oldest of ``otherwise``."""
        return int(otherwise.min()) if self._newest is None else self._newest


def _ties(data: PreparedData, targets: np.ndarray) -> dict[str, float]:
    """Shares of the events at ``targets`` [T], and of all that follow an event of their user, whose time is that of the event before."""
    starts = data.offsets[:-1][np.diff(data.offsets) > 0]
    before = np.maximum(targets - 1, 0)
    follows = starts[np.searchsorted(starts, targets, side="right") - 1] != targets
    tied = follows & (data.timestamps[targets] == data.timestamps[before])
    n_equal = 0
    for first, last in blocks_of_users(np.diff(data.offsets), EVENTS_AT_ONCE):
        begin, end = int(data.offsets[first]), int(data.offsets[last])
        times = np.asarray(data.timestamps[begin:end])
        equal = np.zeros(len(times), dtype=bool)
        equal[1:] = times[1:] == times[:-1]
        # A user's first event follows nothing.
        equal[starts[(starts >= begin) & (starts < end)] - begin] = False
        n_equal += int(equal.sum())
    return {
        "tied_targets": float(tied.mean()),
        "tied_events": float(n_equal / max(data.n_interactions - len(starts), 1)),
    }


def _repeated_share(data: PreparedData, test: Cases) -> float:
    """Share of targets whose item occurs at a position of their own history."""
    if not data.has_repeats:
        return 0.0
    width = data.n_items + 1
    case = np.repeat(np.arange(len(test)), test.n_targets)
    by_user = np.argsort(test.user[case], kind="stable")
    user = test.user[case][by_user]
    repeated = 0
    for first, last in blocks_of_users(np.diff(data.offsets), EVENTS_AT_ONCE):
        begin, end = int(data.offsets[first]), int(data.offsets[last])
        owner = np.repeat(np.arange(first, last), np.diff(data.offsets[first : last + 1]))
        pairs, place = np.unique(owner * width + data.items[begin:end], return_index=True)
        asked = by_user[slice(*np.searchsorted(user, (first, last)))]
        wanted = test.user[case[asked]] * width + test.targets[asked]
        earliest = begin + place[np.searchsorted(pairs, wanted)]
        # A history starts at its user's first event, so the first occurrence decides.
        repeated += int((earliest < test.end[case[asked]]).sum())
    return repeated / len(case)
