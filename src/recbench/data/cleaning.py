"""From spooled rows to flat integer arrays, in one documented order. Nothing here depends on the source.

1. ``read``        every row that the source found usable
2. ``rating``      rows rated at least ``min_rating`` (rows without a rating go too); only if it is set
3. ``duplicates``  events equal in user, item, timestamp, behaviour and session: the first in the file stays. Without a
                   clock a repetition cannot be told from a copy, so nothing is dropped
4. ``sessions``    with ``session_gap``, a user's events are cut into sessions at longer pauses than that; none is dropped
5. ``repeats``     with ``repeats=first``, only the earliest event of each (user, item)
6. ``k_core``      users and items with fewer than k events go, again and again until none is left; not from parts that others made
7. ids             by a hash of the raw id, so that a number tells nothing about time or popularity
8. time order      by user, then given part, if there is one, then time; events of equal time keep the order of the file, or
                   stand in one drawn with ``shuffle_ties``

Counts of rows, users and items are kept after each of the steps 1 to 6 that drop events. The sort of step 8 is done before step 3, which
it makes cheap; later steps only drop events or move users as a whole, so the outcome is that of the order above. A long log is worked on in
parts by user (``recbench.data.parts``), in memory that does not grow with it.
"""

from __future__ import annotations

import logging

import numpy as np
import polars as pl

from recbench.core.errors import UserError
from recbench.core.splitmix import STEP, splitmix64
from recbench.data.arrange import Cleaned, arrange
from recbench.data.events import Events
from recbench.data.parts import Parts, read_parts
from recbench.data.schema import DataConfig, RawData
from recbench.data.session_cut import gap_sessions
from recbench.data.tally import Tally

log = logging.getLogger(__name__)


def clean(raw: RawData, config: DataConfig) -> Cleaned:
    """Apply the steps above. Raises UserError, with the counts after each step, if nothing is left."""
    parts = read_parts(raw)
    tally = Tally(parts.n_items)
    if config.min_rating is not None and parts.n_users and not parts.has_ratings:
        raise UserError(
            f"data.min_rating={config.min_rating:g} asks for ratings, but these data have none; set it to null"
        )
    if config.shuffle_ties is not None and not raw.has_timestamps:
        raise UserError(
            f"data.shuffle_ties={config.shuffle_ties} needs timestamps and these data have none; set it to null"
        )
    if "ratings" in config.keep and parts.n_users and not parts.has_ratings:
        raise UserError("data.keep=[ratings] asks for ratings, but these data have none; leave them out of data.keep")
    if config.session_gap is not None and not raw.has_timestamps:
        raise UserError(f"data.session_gap={config.session_gap} needs timestamps and these data have none")
    for events in parts.each(change=True):
        _clean_part(events, raw, config, tally)
    steps = tally.steps()
    if config.k_core > 1 and raw.given_parts:
        log.info("the given parts are used as they are: data.k_core=%d does not filter them", config.k_core)
    elif config.k_core > 1:
        keep_core(parts, config.k_core)
        before, last = steps[-1]["rows"], Tally(parts.n_items)
        for events in parts.each():
            last.add("k_core", events)
        steps = last.steps(steps)
        share = steps[-1]["rows"] / before
        if share < 1 / 2:
            log.warning(
                "the %d-core keeps only %.0f %% of the rows; data.k_core=0 keeps all", config.k_core, 100 * share
            )
    return arrange(parts, raw, steps, config.keep)


def _clean_part(events: Events, raw: RawData, config: DataConfig, tally: Tally) -> None:
    """Steps 1 to 5 for the events of some users."""
    tally.add("read", events)
    if config.min_rating is not None:
        assert events.rating is not None or not len(events)
        events.take(events.rating >= config.min_rating if events.rating is not None else np.empty(0, bool))
        tally.add("rating", events)
    if "ratings" not in config.keep:
        events.rating = None
    if len(events):
        events.take(_by_user_and_time(events, raw.has_timestamps))
    if raw.has_timestamps:
        if len(events):
            events.take(_first_of_equal(events))
        tally.add("duplicates", events)
    if config.shuffle_ties is not None and len(events):
        part = () if events.part is None else (events.part,)
        events.take(np.lexsort((_drawn(events.row, config.shuffle_ties), events.time, *part, events.user)))
    if config.session_gap is not None:
        events.session = gap_sessions(events.user, events.time, config.session_gap * raw.ticks_per_second)
    if config.repeats == "first":
        pairs = events.user.astype(np.uint64) << np.uint64(32) | events.item
        events.take(pl.Series(pairs).is_first_distinct().to_numpy())
        tally.add("repeats", events)


def keep_core(parts: Parts, k: int) -> None:
    """Reduce to the k-core, in place: the largest part in which every user and every item has k events."""
    n_events = -1
    while True:
        n_items = np.zeros(parts.n_items, np.int64)
        for events in parts.each():
            n_items += np.bincount(events.item, minlength=parts.n_items)
        if n_events == (n_events := int(n_items.sum())):
            return
        for events in parts.each(change=True):
            events.take((n_items >= k)[events.item])
            if len(events):
                user = events.user - events.user.min()
                events.take((np.bincount(user) >= k)[user])


def _by_user_and_time(events: Events, has_timestamps: bool) -> np.ndarray:
    """Positions [N] that sort by user, then given part, then time, then row."""
    if events.part is not None:
        return np.lexsort((events.time, events.part, events.user) if has_timestamps else (events.part, events.user))
    if not has_timestamps:
        return np.argsort(events.user, kind="stable")
    first = int(events.time.min())
    span = int(events.time.max()) - first + 1
    if (int(events.user.max()) + 1) * span >= 2**63:
        return np.lexsort((events.time, events.user))
    # One number for both sorts twice as fast as two columns.
    return np.argsort(events.user * np.int64(span) + (events.time - first), kind="stable")


def _drawn(row: np.ndarray, seed: int) -> np.ndarray:
    """A random number [N] for each row of the file, the same however the log is cut into parts: SplitMix64 of the row and the seed."""
    return splitmix64(row.astype(np.uint64) * STEP + np.uint64(seed * 0xD1342543DE82EF95 % 2**64))


def _first_of_equal(events: Events) -> np.ndarray:
    """Mask [N]: False at copies of an event. Only events that share user and time with a neighbour can be copies."""
    follows = (events.user[1:] == events.user[:-1]) & (events.time[1:] == events.time[:-1])
    if events.part is not None:
        follows &= events.part[1:] == events.part[:-1]
    tied = np.flatnonzero(np.r_[follows, False] | np.r_[False, follows])
    run = np.cumsum(~np.r_[False, follows])[tied]
    columns = {"run": run, "item": events.item[tied]}
    columns |= {n: c[tied] for n in ("behaviour", "session") if (c := getattr(events, n)) is not None}
    mask = np.ones(len(events), bool)
    mask[tied] = pl.DataFrame(columns).select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return mask
