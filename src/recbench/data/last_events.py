"""Cases of ``leave_k_out`` and ``fixed_date``. Shapes: U users, C cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import SplitParts
from recbench.data.temporal import events_before, window_cases
from recbench.data.time_protocols import FixedDateConfig, LeaveKOutConfig

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

SECONDS_A_DAY = 86_400


def leave_k_out_cases(data: PreparedData, config: LeaveKOutConfig) -> SplitParts:
    """The split of ``LeaveKOutConfig``. Users with fewer than 2 k + 1 events only train."""
    start, end = np.asarray(data.offsets[:-1]), np.asarray(data.offsets[1:])
    enough = end - start >= 2 * config.k + 1
    border = np.where(enough, end - config.k, end)
    train_end = np.where(enough, end - 2 * config.k, end)
    draws = np.random.default_rng(0)  # nothing is drawn for these targets
    validation, _ = window_cases(data, config.target, train_end, border, draws)
    test, _ = window_cases(data, config.target, border, end, draws)
    counts = {f"users_with_fewer_than_{2 * config.k + 1}_events": int((~enough).sum())}
    return SplitParts(start.copy(), train_end, validation, test, counts)


def fixed_date_cases(data: PreparedData, config: FixedDateConfig) -> SplitParts:
    """The split of ``FixedDateConfig``. Raises UserError for data without a clock, and for a date outside of their time."""
    if not data.has_timestamps:
        raise UserError("protocol=fixed_date needs timestamps and these data have none; use protocol=leave_one_out")
    first, last = int(data.manifest["first_timestamp"]), int(data.manifest["last_timestamp"])
    cut = config.cut()
    if not first < cut <= last:
        raise UserError(
            f"protocol.date={config.date} leaves nothing to train on or nothing to ask: the data run from {data.manifest['first_date']} to "
            f"{data.manifest['last_date']}"
        )
    test_end = last + 1 if config.test_days is None else cut + SECONDS_A_DAY * config.test_days
    length = min(test_end - cut, (cut - first) // 2)
    validation_start = cut - (length if config.validation_days is None else SECONDS_A_DAY * config.validation_days)
    start, end = np.asarray(data.offsets[:-1]), np.asarray(data.offsets[1:])
    low, border, high = (start + events_before(data, time) for time in (validation_start, cut, test_end))
    validation, _ = window_cases(data, config.target, low, border, np.random.default_rng((config.seed, 0)))
    test, without_history = window_cases(data, config.target, border, high, np.random.default_rng((config.seed, 1)))
    counts = {
        "validation_cut": validation_start,
        "test_cut": cut,
        "events_after_test": int((end - high).sum()),
        "test_users_without_history": without_history,
    }
    return SplitParts(start.copy(), low, validation, test, counts)
