"""``data.keep``: what may be kept of each event beside the data, and the check of it. Light: configs read it."""

from __future__ import annotations

from recbench.core.errors import UserError

#: What ``data.keep`` may name, and the column of the source that holds it.
KINDS = {"ratings": "rating", "reviews": "review"}


def check_keep(keep: list[str]) -> None:
    """Raises UserError for a name that is none of KINDS, or stands twice."""
    for name in keep:
        if name not in KINDS:
            raise UserError(f"data.keep names '{name}'; choose from {', '.join(KINDS)}")
        if keep.count(name) > 1:
            raise UserError(f"data.keep names '{name}' twice")
