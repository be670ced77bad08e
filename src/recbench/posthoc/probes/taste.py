"""What synthetic users would do next, known exactly, and what they click of a list.

    P(click on the j-th item i of a list)  in proportion to  p(i next | history) / log2(1 + j)

p is that of the generator (``synthetic_world.next_probabilities``). A copy of an item is the item to a user, who cannot tell them apart.

Shapes: B users, L events of a history, K items of a list, W items of the world, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError
from recbench.data.item_numbers import item_numbers
from recbench.data.prepared import PreparedData
from recbench.data.schema import DataConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.synthetic_events import LONG_PAUSE, SHORT_PAUSE
from recbench.data.sources.synthetic_side import raw_ids
from recbench.data.sources.synthetic_world import World, next_probabilities, world_of

#: Probabilities held at a time.
CELLS = 8_000_000


@dataclass(frozen=True)
class Histories:
    """items, times [B, L], 0 past the end; lengths [B]. Items are numbers of the data, or of copies laid behind them."""

    items: np.ndarray
    times: np.ndarray
    lengths: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """[B, L] bool."""
        return np.arange(self.items.shape[1]) < self.lengths[:, None]

    def with_events(self, items: np.ndarray, times: np.ndarray) -> Histories:
        """These with one event more each, where ``items`` [B] is not 0."""
        some = items > 0
        wide = [np.pad(part, ((0, 0), (0, 1))) for part in (self.items, self.times)]
        rows = np.flatnonzero(some)
        for part, new in zip(wide, (items, times), strict=True):
            part[rows, self.lengths[rows]] = new[rows]
        return Histories(wide[0], wide[1], self.lengths + some)


@dataclass(frozen=True)
class Taste:
    """world · of_item [V]: its item of each item of the data, -1 for the pad · repeats: an item may be met again · long_share: of long pauses."""

    world: World
    of_item: np.ndarray
    repeats: bool
    long_share: float

    @classmethod
    def of(cls, data: PreparedData, config: DataConfig) -> Taste:
        """Raises UserError for data that were not generated."""
        if not isinstance(config, SyntheticConfig):
            raise UserError(
                f"nobody knows what the users of data={config.name} would click; probe a run on data=synthetic"
            )
        numbers = item_numbers(data, raw_ids("i", np.arange(config.n_items), config.n_items))
        of_item = np.full(data.n_items + 1, -1)
        of_item[numbers] = np.arange(config.n_items)
        of_item[0] = -1
        return cls(world_of(config), of_item, config.allow_repeats, config.long_gap_share)

    def next(self, histories: Histories) -> np.ndarray:
        """[B, V] how likely each item of the data is the next event; sums to 1 but for items of the world that the data lack."""
        n, width = histories.items.shape
        known = np.where(histories.real, self.of_item[self.base(histories.items)], -1)
        rows, end = np.arange(n), histories.lengths
        last = np.where(end > 0, known[rows, end - 1], -1)
        before = np.where(end > 1, known[rows, np.maximum(end - 2, 0)], -1)
        pause = histories.times[rows, end - 1] - histories.times[rows, np.maximum(end - 2, 0)]
        after_long = (pause >= LONG_PAUSE[0]) | (end < 2)
        found = np.zeros((n, len(self.of_item)))
        block = max(1, CELLS // max(self.world.n_items, width))
        for first in range(0, n, block):
            part = slice(first, first + block)
            seen = None if self.repeats else known[part]
            p = next_probabilities(self.world, last[part], before[part], after_long[part].astype(float), seen)
            found[part, 1:] = p[:, self.of_item[1:]]
        return found

    def base(self, items: np.ndarray) -> np.ndarray:
        """The item of the data that each is, or is a copy of: copies of 1, 2, ... are numbered behind the last item, in the same order."""
        n = len(self.of_item) - 1
        return np.where(items > n, items - n, items)

    def pauses(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """[n] seconds before an event, as the generator draws them."""
        u = generator.random(n)
        short, long = (low * (high / low) ** u for low, high in (SHORT_PAUSE, LONG_PAUSE))
        return np.floor(np.where(generator.random(n) < self.long_share, long, short)).astype(np.int64)


def drawn(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[B] a column of each row in proportion to weights [B, K]; -1 for a row of zeros."""
    upper = np.cumsum(weights, axis=1)
    place = (upper <= generator.random(len(weights))[:, None] * upper[:, -1:]).sum(axis=1)
    return np.where(upper[:, -1] > 0, np.minimum(place, weights.shape[1] - 1), -1)


def clicked(lists: np.ndarray, liked: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[B] the item that each user clicks in lists [B, K]; 0: none. liked [B, K]: how likely each is the user's next event."""
    place = drawn(liked * (lists > 0) / np.log2(np.arange(lists.shape[1]) + 2.0), generator)
    return np.where(place >= 0, lists[np.arange(len(lists)), place], 0)
