"""Where a user first met an item: the address of what is kept of that event (``recbench.data.kept``)."""

from __future__ import annotations

import numpy as np

from recbench.data.prepared import PreparedData


class FirstMeetings:
    """The first event of each pair of user and item. Holds a number or two an event."""

    def __init__(self, data: PreparedData) -> None:
        users = np.repeat(np.arange(data.n_users, dtype=np.int64), np.diff(data.offsets))
        self._v = data.n_items + 1
        # Behind the events of the users may lie those of ``recbench.data.resampled``.
        items = np.asarray(data.items[: data.offsets[-1]])
        self._pairs, self._first = np.unique(users * self._v + items, return_index=True)

    def positions(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """users [B], items [B, L] -> flat positions of events [B, L], -1 where a user never met an item (and at pads)."""
        asked = users[:, None].astype(np.int64) * self._v + items
        place = np.searchsorted(self._pairs, asked).clip(max=len(self._pairs) - 1)
        return np.where((self._pairs[place] == asked) & (items > 0), self._first[place], -1)
