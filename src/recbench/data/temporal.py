"""The global cut in time: where the windows lie, and which events inside them are targets.

Training is every event before the validation cut; the validation window runs from there to the test cut, the test
window from the test cut on. An event exactly at a cut belongs to the later part. Shapes: U users, N events, C cases, T
targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import Cases, flat_ranges
from recbench.data.protocol import TemporalConfig
from recbench.data.training import TrainingData

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData


def cut_times(data: PreparedData, config: TemporalConfig) -> tuple[int, int]:
    """(validation cut, test cut) in Unix seconds.

    The cut at quantile q is the time of event number floor(q * N) of all events in time order, so that at least a share
    1 - q of them lies at or after it. Raises UserError if both fall on the same second.
    """
    dates = config.dates()
    if dates is not None:
        return int(dates[0].timestamp()), int(dates[1].timestamp())
    ranks = [int(q * data.n_interactions) for q in (config.validation_quantile, config.test_quantile)]
    ordered = np.partition(data.timestamps, ranks)
    validation, test = int(ordered[ranks[0]]), int(ordered[ranks[1]])
    if validation >= test:
        raise UserError(
            f"protocol=temporal: the quantiles {config.validation_quantile} and {config.test_quantile} fall on the "
            f"same time ({validation}), so validation would be empty; move them apart or use protocol=leave_one_out"
        )
    return validation, test


def temporal_cases(
    data: PreparedData, config: TemporalConfig
) -> tuple[np.ndarray, np.ndarray, Cases, Cases, dict[str, int]]:
    """(train_start [U], train_end [U], validation, test, counts).

    Raises UserError for data without timestamps.
    """
    if not data.has_timestamps:
        raise UserError("protocol=temporal needs timestamps and this data has none; use protocol=leave_one_out")
    first_cut, second_cut = cut_times(data, config)
    start, end = data.offsets[:-1], data.offsets[1:]
    validation_start = start + events_before(data, first_cut)
    test_start = start + events_before(data, second_cut)
    train_end = test_start if config.fit_on_validation else validation_start
    counts: dict[str, int] = {"validation_cut": first_cut, "test_cut": second_cut}
    in_training = TrainingData(data, start, train_end).item_counts() > 0
    parts = []
    for number, (name, low, high) in enumerate(
        (("validation", validation_start, test_start), ("test", test_start, end))
    ):
        cases, without_history = window_cases(
            data, config.target, low, high, np.random.default_rng((config.seed, number))
        )
        warm = in_training[cases.targets]
        if config.cold_targets == "drop":
            cases = cases.keep_targets(warm)
            counts[f"{name}_targets_dropped_as_cold"] = int((~warm).sum())
        counts[f"{name}_users_without_history"] = without_history
        parts.append(cases)
    return start.copy(), train_end, parts[0], parts[1], counts


def events_before(data: PreparedData, cut: int) -> np.ndarray:
    """[U] how many events of each user lie before the cut."""
    running = np.concatenate([[0], np.cumsum(np.asarray(data.timestamps) < cut)])
    return running[data.offsets[1:]] - running[data.offsets[:-1]]


def window_cases(
    data: PreparedData, target: str, low: np.ndarray, high: np.ndarray, generator: np.random.Generator
) -> tuple[Cases, int]:
    """Cases of one window, and the number of users that have events in it but none before any of them.

    target: as in ``TemporalConfig``. low, high [U]: the events of user u inside the window are the positions ``low[u]:high[u]``.
    """
    start = data.offsets[:-1]
    # A target needs at least one event before it; for a set of targets that event lies before the cut.
    reachable = np.where(low > start, low, high if target == "all" else low + 1)
    user = np.flatnonzero(reachable < high)
    without_history = int((high > low).sum()) - len(user)
    low, high, start = reachable[user], high[user], start[user]
    if target == "all":
        return set_cases(data, user, start, low, low, high), without_history
    if target == "successive":
        row, position = flat_ranges(low, high)
        user, start = user[row], start[row]
    elif target == "random":
        position = low + (generator.random(len(user)) * (high - low)).astype(np.int64)
    else:
        position = high - 1
    return Cases.single(data.items, user, start, position), without_history


def set_cases(
    data: PreparedData, user: np.ndarray, start: np.ndarray, known: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Cases:
    """One case a user [U]: from the history ``start:known``, the distinct items of ``low:high``, each at its first position."""
    row, position = flat_ranges(low, high)
    item = np.asarray(data.items[position], dtype=np.int64)
    _, first = np.unique(row * (data.n_items + 1) + item, return_index=True)
    first.sort()
    return Cases(
        user=user.astype(np.int64),
        start=start.astype(np.int64),
        end=known.astype(np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(np.bincount(row[first], minlength=len(user)))]).astype(np.int64),
        targets=item[first].astype(np.int32),
        target_positions=position[first].astype(np.int64),
    )
