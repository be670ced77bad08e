"""The last day of training drawn anew: how much of what a model recommends hangs on which events that day happened to bring.

As many events as the day has are drawn from it with replacement, and each one that was drawn is kept once: an event stays with a chance of 63 %.
Older events stay, and so do validation, test and their histories; only what a model learns from is another. The training events of users who lose
some are laid behind the data, in memory, and the split points there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.prepared import PreparedData
from recbench.data.split import Split
from recbench.data.training import TrainingData

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400


class ResampledData(PreparedData):
    """Prepared data with other training events of some users behind them, in memory. judged_fingerprint: of the data that were asked for."""

    judged: str

    @property
    def judged_fingerprint(self) -> str:
        return self.judged

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("resampled data are made anew in each process, from the config")


def resampled(data: PreparedData, split: Split, seed: int | None) -> tuple[PreparedData, Split]:
    """Data and split whose last day of training is drawn by ``seed``; both as they were without one.

    Raises UserError for data without times, and where the last day is all of training, or one event.
    """
    if seed is None:
        return data, split
    if not data.has_timestamps:
        raise UserError("training.resample_day draws the last day of training anew, and these data have no times")
    train = TrainingData.of(data, split)
    used = np.flatnonzero(train.end > train.start)
    latest = np.asarray(data.timestamps[train.end[used] - 1])
    begin = int(latest.max()) - DAY_SECONDS + 1
    users = used[latest >= begin]
    row, position = flat_ranges(train.start[users], train.end[users])
    in_day = np.asarray(data.timestamps[position]) >= begin
    n = int(in_day.sum())
    if n == int((train.end - train.start).sum()):
        raise UserError("training.resample_day: all training events are of one day, so there is no last one to draw")
    if n < 2:
        raise UserError(
            "training.resample_day: the last day of training holds one event, so there is nothing to draw; protocol=temporal or fixed_date ends "
            "training on a whole day"
        )
    drawn = np.zeros(n, dtype=bool)
    drawn[np.random.default_rng((seed, n)).integers(n, size=n)] = True
    kept = ~in_day
    kept[in_day] = drawn
    log.info("the last day of training: %s of its %s events are kept", f"{int(drawn.sum()):,}", f"{n:,}")
    return _behind(data, split, users, row[kept], position[kept], seed)


def _behind(
    data: PreparedData, split: Split, users: np.ndarray, row: np.ndarray, position: np.ndarray, seed: int
) -> tuple[PreparedData, Split]:
    """Data with the events at ``position`` laid behind them as the training of the users; row: place of each event's user in ``users``."""
    made: Any = copy.copy(data)
    made.__class__ = ResampledData
    made.items = np.concatenate([data.items, data.items[position]])
    made.take_events(data, np.concatenate([np.arange(len(data.items)), position]))
    ends = len(data.items) + np.cumsum(np.bincount(row, minlength=len(users)))
    start, end = split.train_start.copy(), split.train_end.copy()
    start[users], end[users] = np.r_[len(data.items), ends[:-1]], ends
    said = json.dumps({"clean": data.fingerprint, "split": split.split_hash, "resample_day": seed}, sort_keys=True)
    made.judged, made.fingerprint = data.fingerprint, hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    return made, replace(split, train_start=start, train_end=end)
