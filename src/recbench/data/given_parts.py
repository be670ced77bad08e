"""Training, validation and test that others made: which event belongs to which part, what is wrong between them, and the cases of ``given``.

Whoever splits by given parts (``protocol=given``, and other protocols that take their order from the data) starts from ``part_borders``.
Shapes: U users, N events.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import SplitParts
from recbench.data.protocol import GivenConfig
from recbench.data.set_protocols import PARTS, TEST, TRAIN, VALIDATION, has_validation
from recbench.data.temporal import window_cases

if TYPE_CHECKING:
    from recbench.data.arrange import Cleaned
    from recbench.data.prepared import PreparedData

log = logging.getLogger(__name__)


def given_parts(data: PreparedData) -> np.ndarray:
    """[N] int8: TRAIN, VALIDATION or TEST for each event. Raises UserError for data that others did not split."""
    if data.parts is None:
        raise UserError(
            "protocol=given needs data that others split: name their files with data=table data.parts.train=FILE data.parts.test=FILE "
            "(and data.parts.validation=FILE)"
        )
    return data.parts


def part_borders(data: PreparedData) -> np.ndarray:
    """[U, 4] int64: where a user's training, validation and test events begin in the flat arrays, and where the last ends."""
    return _borders(given_parts(data), np.asarray(data.offsets))


def given_cases(data: PreparedData, config: GivenConfig) -> SplitParts:
    """The split that the parts are; see ``GivenConfig``."""
    borders = part_borders(data)
    start, train_end, test_start, end = borders.T
    low, high = train_end, test_start
    if not has_validation(data):
        enough = train_end - start >= 3
        low, high = np.where(enough, train_end - 1, train_end), train_end
        train_end = low
    generator = np.random.default_rng(0)
    validation, _ = window_cases(data, config.target, low, high, generator)
    test, without_history = window_cases(data, config.target, test_start, end, generator)
    counts = {name: value for name, value in data.manifest["extra"]["parts"].items() if isinstance(value, int)}
    counts |= {"test_users_without_history": without_history, "users_without_training": int((train_end == start).sum())}
    return SplitParts(start.copy(), train_end.copy(), validation, test, counts)


def compared(cleaned: Cleaned, name: str) -> tuple[np.ndarray | None, dict[str, Any]]:
    """(timestamps, or None if they contradict the order of the parts; counts): warns of what parts share, and of time running backwards.

    Raises UserError where all of a part is in an earlier one. name: of the data, for messages.
    """
    assert cleaned.parts is not None
    parts, offsets = cleaned.parts, cleaned.offsets
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    counts: dict[str, Any] = {f"events_{part}": int((parts == at).sum()) for at, part in enumerate(PARTS)}
    pair = user * (int(cleaned.items.max()) + 1) + cleaned.items
    for later in (VALIDATION, TEST):
        of_part = parts == later
        if not of_part.any():
            continue
        known = np.isin(pair[of_part], np.unique(pair[parts < later]))
        copies = known
        if cleaned.timestamps is not None:
            # With a clock a repetition is told from a copy by its time.
            moment = np.rec.fromarrays([pair, np.asarray(cleaned.timestamps)])
            copies = np.isin(moment[of_part], moment[parts < later])
        part = PARTS[later]
        counts[f"{part}_events_also_earlier"] = int(copies.sum())
        counts[f"{part}_pairs_also_earlier"] = int(known.sum())
        if copies.all():
            raise UserError(
                f"data.parts.{part} has nothing that the parts before it lack; is the same file named twice?"
            )
        if copies.any():
            first = int(np.flatnonzero(of_part)[np.argmax(copies)])
            log.warning(
                "%s: events of the %s part that stand in an earlier part too: %s of %s; first: user %s, item %s",
                name,
                part,
                f"{int(copies.sum()):,}",
                f"{len(copies):,}",
                cleaned.user_ids[int(user[first])],
                cleaned.item_ids[int(cleaned.items[first]) - 1],
            )
    return _ordered_times(cleaned, user, counts, name), counts


def _ordered_times(cleaned: Cleaned, user: np.ndarray, counts: dict[str, Any], name: str) -> np.ndarray | None:
    """The timestamps, or None if an event of a later part is older than one of its user's earlier parts."""
    times = cleaned.timestamps
    if times is None:
        return None
    assert cleaned.parts is not None
    borders = _borders(cleaned.parts, cleaned.offsets)
    for at, part in ((VALIDATION, "validation"), (TEST, "test")):
        # A part is in order of time, so the newest event before it is the last of one of the parts before.
        newest = np.full(len(borders), np.iinfo(np.int64).min)
        for earlier in range(at):
            begin, end = borders[:, earlier], borders[:, earlier + 1]
            some = end > begin
            newest[some] = np.maximum(newest[some], times[end[some] - 1])
        counts[f"{part}_events_older_than_earlier_parts"] = int(((cleaned.parts == at) & (times < newest[user])).sum())
    older = {part: counts[f"{part}_events_older_than_earlier_parts"] for part in ("validation", "test")}
    if any(older.values()):
        log.warning(
            "%s: the parts are no cut in time: %s validation and %s test events are older than an event of their user in an earlier part; "
            "the timestamps are not used",
            name,
            f"{older['validation']:,}",
            f"{older['test']:,}",
        )
        return None
    return times


def _borders(parts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    running = [np.concatenate([[0], np.cumsum(parts == part)]) for part in (TRAIN, VALIDATION)]
    n_train, n_validation = (total[offsets[1:]] - total[offsets[:-1]] for total in running)
    start = offsets[:-1].astype(np.int64)
    return np.stack([start, start + n_train, start + n_train + n_validation, offsets[1:].astype(np.int64)], axis=1)
