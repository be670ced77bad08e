"""Rows, users and items that are left after each step of cleaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.events import Events

#: What to do when a step leaves nothing; the other steps cannot empty what they get.
ADVICE = {
    "read": "the raw files hold no usable row",
    "rating": "lower data.min_rating, or set it to null",
    "k_core": "lower data.k_core, or set it to 0",
}


@dataclass
class Tally:
    """Rows, users and items that are left after each step, added up part by part."""

    n_items: int
    rows: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, step: str, events: Events) -> None:
        self.rows[step] = self.rows.get(step, 0) + len(events)
        user = events.user - events.user.min() if len(events) else events.user
        self.users[step] = self.users.get(step, 0) + int(np.count_nonzero(np.bincount(user)))
        met = self.items.setdefault(step, np.zeros(self.n_items, bool))
        met[events.item] = True

    def steps(self, earlier: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """One entry a step, after those of earlier. Raises UserError at the first that leaves nothing."""
        steps = list(earlier or [])
        for step, rows in self.rows.items():
            items = int(np.count_nonzero(self.items[step]))
            steps.append({"step": step, "rows": rows, "users": self.users[step], "items": items})
            if not rows:
                told = "; ".join(
                    f"{s['step']}: {s['rows']:,} rows, {s['users']:,} users, {s['items']:,} items" for s in steps
                )
                raise UserError(f"no interaction is left after the step '{step}' ({told}); {ADVICE[step]}")
        return steps
