"""Users who act in a synthetic world: their items, times and behaviours, drawn position by position for many users at once.

Shapes: n users of one block, L the longest history among them. Positions past a user's length hold -1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recbench.data.sources.synthetic_world import EVENTS, NOISE, World, draw_next, next_probabilities

if TYPE_CHECKING:
    from recbench.data.sources.synthetic_config import SyntheticConfig

#: Users drawn and written at a time. Part of the definition of the data: another number gives other users for the same seed.
BLOCK_USERS = 8192
#: Pauses in seconds (shortest, longest), drawn evenly on the log scale. The two ranges are far apart, so a pause shows its kind.
SHORT_PAUSE = (30, 1_800)
LONG_PAUSE = (6 * 3_600, 14 * 86_400)
#: Users start within two months from 2020-01-01 UTC and stay for about two weeks, so a cut in time has enough users on both sides.
FIRST_START, START_RANGE = 1_577_836_800, 60 * 86_400
BEHAVIOURS = ("view", "cart", "buy")
#: Rows: causes in the order of synthetic_world; columns: BEHAVIOURS. What a user was led to is bought more often than what was met by chance.
BEHAVIOUR_BY_CAUSE = np.array([[0.50, 0.20, 0.30], [0.60, 0.20, 0.20], [0.70, 0.20, 0.10], [0.92, 0.06, 0.02]])
#: Draws repeated for an item already seen before its exact distribution is written out; many, because that is the slow way.
ATTEMPTS = 30
#: Largest number of probabilities held at once by the slow way.
CELLS = 4_000_000


@dataclass(frozen=True)
class Histories:
    """items [n, L] (-1 past the end) · after_long [n, L]: the event came after a long pause (the first one counts as such) ·
    times [n, L] Unix seconds · behaviours [n, L] index into BEHAVIOURS · lengths [n].
    """

    items: np.ndarray
    after_long: np.ndarray
    times: np.ndarray
    behaviours: np.ndarray
    lengths: np.ndarray


def blocks(world: World, config: SyntheticConfig) -> Iterator[tuple[int, Histories]]:
    """Blocks of users, each with a stream of random numbers of its own: (index of the first user, their histories)."""
    for number, first in enumerate(range(0, config.n_users, BLOCK_USERS)):
        rng = np.random.default_rng([config.seed, EVENTS, number])
        yield first, draw_histories(world, config, min(BLOCK_USERS, config.n_users - first), rng)


def draw_lengths(config: SyntheticConfig, n: int, rng: np.random.Generator) -> np.ndarray:
    """[n] history lengths: ``min_length`` plus a geometric tail towards ``mean_length``, cut at ``max_length``."""
    excess = config.mean_length - config.min_length
    if excess <= 0:
        return np.full(n, config.min_length)
    tail = np.floor(np.log1p(-rng.random(n)) / np.log(excess / (1.0 + excess)))
    return np.minimum(config.min_length + tail.astype(np.int64), config.max_length)


@dataclass(frozen=True)
class _Draft:
    """Histories while they grow, each [n, L]."""

    items: np.ndarray
    cause: np.ndarray
    after_long: np.ndarray

    def context(self, rows: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(last item, last item but one, whether the last event came after a long pause) before ``position``."""
        none = np.full(len(rows), -1)
        last = self.items[rows, position - 1] if position else none
        before = self.items[rows, position - 2] if position > 1 else none
        return last, before, self.after_long[rows, max(position - 1, 0)]


def draw_histories(world: World, config: SyntheticConfig, n: int, rng: np.random.Generator) -> Histories:
    """Draw n users."""
    lengths = draw_lengths(config, n, rng)
    width = int(lengths.max(initial=0))
    after_long = rng.random((n, width)) < config.long_gap_share
    after_long[:, 0] = True
    draft = _Draft(np.full((n, width), -1), np.full((n, width), NOISE), after_long)
    for position in range(width):
        extend(world, draft, np.flatnonzero(lengths > position), position, config.allow_repeats, rng)
    behaviours = _behaviours(draft.cause, config.behaviour_signal, rng)
    return Histories(draft.items, after_long, _times(after_long, rng), behaviours, lengths)


def extend(
    world: World, draft: _Draft, rows: np.ndarray, position: int, allow_repeats: bool, rng: np.random.Generator
) -> None:
    """Give the histories in ``rows`` their event at ``position``. Drawing anew until an item is unseen equals renormalising."""
    for _ in range(ATTEMPTS):
        drawn, cause = draw_next(world, *draft.context(rows, position), rng)
        draft.items[rows, position], draft.cause[rows, position] = drawn, cause
        if allow_repeats:
            return
        rows = rows[(draft.items[rows, :position] == drawn[:, None]).any(axis=1)]
        if not len(rows):
            return
    rows_at_once = max(1, CELLS // world.n_items)
    for start in range(0, len(rows), rows_at_once):
        some = rows[start : start + rows_at_once]
        last, before, after_long = draft.context(some, position)
        p = next_probabilities(world, last, before, after_long.astype(float), draft.items[some, :position])
        below = np.cumsum(p, axis=1) <= rng.random(len(some))[:, None]
        # Rounding may leave the running sum a hair under 1: never step past the last possible item.
        last_possible = world.n_items - 1 - np.argmax(p[:, ::-1] > 0, axis=1)
        draft.items[some, position] = np.minimum(below.sum(axis=1), last_possible)


def _times(after_long: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n, L] strictly increasing Unix seconds with a short or long pause before each event."""
    u = rng.random(after_long.shape)
    short, long = (low * (high / low) ** u for low, high in (SHORT_PAUSE, LONG_PAUSE))
    pause = np.floor(np.where(after_long, long, short)).astype(np.int64)
    pause[:, 0] = FIRST_START + np.floor(rng.random(len(pause)) * START_RANGE).astype(np.int64)
    return np.cumsum(pause, axis=1)


def _behaviours(cause: np.ndarray, signal: float, rng: np.random.Generator) -> np.ndarray:
    """[n, L] behaviour of each event: with chance ``signal`` as its cause has it, else as noise has it."""
    informed = rng.random(cause.shape) < signal
    bounds = np.cumsum(BEHAVIOUR_BY_CAUSE, axis=1)[np.where(informed, cause, NOISE)]
    return (rng.random(cause.shape)[..., None] >= bounds[..., :-1]).sum(axis=-1)
