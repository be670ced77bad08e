"""What a reader must know about a split before believing a number: how much it leaks, ties in time, cold targets,
repeats.

Nothing here needs a model. Shapes: U users, N events, C cases, T targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recbench.data.cases import Cases
    from recbench.data.store import PreparedData


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
    training = _in_ranges(train_start, train_end, data.n_interactions)
    item_counts = np.bincount(data.items[training], minlength=data.n_items + 1)
    found: dict[str, float | int] = {
        "training_events": int(training.sum()),
        "validation_cases": len(validation),
        "test_cases": len(test),
        "test_targets": len(test.targets),
        "users_without_case": data.n_users - len(np.unique(test.user)),
        "cold_targets": float((item_counts[test.targets] == 0).mean()),
        "repeated_targets": _repeated_share(data, test),
    }
    if data.has_timestamps:
        found |= _time_shares(data, training, test)
    return found


def audit_line(found: dict[str, float | int]) -> str:
    """The audit as one readable line."""
    parts = [f"{found['test_targets']:,} test targets, {found['users_without_case']:,} users without"]
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


def _in_ranges(start: np.ndarray, end: np.ndarray, n: int) -> np.ndarray:
    """[n] bool: which positions lie in any of the (disjoint) ranges."""
    change = np.zeros(n + 1, dtype=np.int8)
    used = end > start
    np.add.at(change, start[used], 1)
    np.add.at(change, end[used], -1)
    return np.cumsum(change[:-1], dtype=np.int8).astype(bool)


def _time_shares(data: PreparedData, training: np.ndarray, test: Cases) -> dict[str, float | int]:
    times = np.asarray(data.timestamps)
    position = test.target_positions
    target_times = times[position]
    training_times = np.sort(times[training])
    newest = training_times[-1] if len(training_times) else target_times.min()
    later = len(training_times) - np.searchsorted(training_times, target_times, side="right")
    follows = np.ones(data.n_interactions, dtype=bool)
    # A user's first event follows nothing. Users without events would point at another's first event: harmless, or past
    # the end.
    follows[data.offsets[:-1][np.diff(data.offsets) > 0]] = False
    equal = np.zeros(data.n_interactions, dtype=bool)
    equal[1:] = times[1:] == times[:-1]
    equal &= follows
    return {
        "leaked_targets": float((target_times < newest).mean()),
        "later_training": float(later.mean() / max(len(training_times), 1)),
        "tied_targets": float(equal[position].mean()),
        "tied_events": float(equal.sum() / max(int(follows.sum()), 1)),
    }


def _repeated_share(data: PreparedData, test: Cases) -> float:
    """Share of targets whose item occurs at a position of their own history."""
    if not data.has_repeats:
        return 0.0
    width = data.n_items + 1
    user = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    pairs, first = np.unique(user * width + data.items, return_index=True)
    case = np.repeat(np.arange(len(test)), test.n_targets)
    earliest = first[np.searchsorted(pairs, test.user[case] * width + test.targets)]
    # A history starts at its user's first event, so the first occurrence decides.
    return float((earliest < test.end[case]).mean())
