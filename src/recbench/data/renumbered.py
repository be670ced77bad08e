"""Data under the item numbers of other data: what a model that knows the items of one data set needs to be asked about another.

Raw ids decide which items are the same. The renumbered data are a prepared data set of their own beside those they were made from, found again by a
hash of both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbench.core.errors import UserError
from recbench.data.item_numbers import item_numbers
from recbench.data.prepared import FORMAT_VERSION, PreparedData
from recbench.data.views import inherited, view_beside


def renumbered(
    data: PreparedData, known: PreparedData, skip_unknown: bool = False
) -> tuple[PreparedData, dict[str, int]]:
    """(the data with the items and item numbers of ``known``, counts); the data themselves where both tables of items are the same.

    skip_unknown: events with items that ``known`` lacks are left out, and items of which the data have no event stay in the catalogue. counts:
    items_shared, items_unknown and events_unknown (of the data alone), items_without_event (of ``known`` alone). Raises UserError, with the counts,
    where the catalogues differ and ``skip_unknown`` is False, and where no item is shared.
    """
    ours, theirs = (table.item_table()["item"].to_list() for table in (known, data))
    if ours == theirs:
        return data, {"items_shared": len(ours), "items_unknown": 0, "events_unknown": 0, "items_without_event": 0}
    to_ours = np.concatenate([[0], item_numbers(known, theirs)]).astype(np.int32)
    counts = _counts(data, to_ours, len(ours))
    if not counts["items_shared"] or (not skip_unknown and (counts["items_unknown"] or counts["items_without_event"])):
        raise UserError(_difference(counts, ours, theirs))
    asked = f"{FORMAT_VERSION} {data.fingerprint} {known.fingerprint}"
    return view_beside(data, "items", asked, lambda working: _build(data, known, to_ours, working)), counts


def _counts(data: PreparedData, to_ours: np.ndarray, n_ours: int) -> dict[str, int]:
    shared = int((to_ours > 0).sum())
    events = np.bincount(data.items, minlength=len(to_ours))
    return {
        "items_shared": shared,
        "items_unknown": len(to_ours) - 1 - shared,
        "events_unknown": int(events[to_ours == 0].sum()),
        "items_without_event": n_ours - shared,
    }


def _difference(counts: dict[str, int], ours: list[str], theirs: list[str]) -> str:
    """In one line, with an example of each side."""
    sides = []
    for what, own, others in (("the data", theirs, set(ours)), ("the run", ours, set(theirs))):
        alone = [name for name in own if name not in others]
        sides.append(f"{len(alone):,} are of {what} alone" + (f" (such as '{alone[0][:60]}')" if alone else ""))
    said = (
        f"the item catalogues differ: {len(ours):,} items of the run, {len(theirs):,} of the data; {counts['items_shared']:,} are the same, "
        f"{' and '.join(sides)}"
    )
    if not counts["items_shared"]:
        return f"{said}; the columns of the items may not hold the same ids"
    return f"{said}; --unknown skip leaves out {counts['events_unknown']:,} events of items that the run does not know, and ranks its catalogue"


def _build(data: PreparedData, known: PreparedData, to_ours: np.ndarray, working: Path) -> None:
    """Write the renumbered data into the folder ``working``; a user stays, with fewer events or none."""
    items = to_ours[data.items]
    kept = items > 0
    if not kept.any():
        raise UserError("no event is left: the run knows none of the items that the data have events of")
    offsets = np.concatenate([[0], np.cumsum(kept)])[data.offsets]
    PreparedData.from_arrays(
        working,
        items[kept],
        offsets,
        np.asarray(data.timestamps)[kept] if data.has_timestamps else None,
        _behaviours(data, known, kept),
        known.item_table().drop("item_id"),
        sessions=None if data.sessions is None else np.asarray(data.sessions)[kept],
        user_ids=data.user_ids()["user_id"],
        kept=data.kept().at(kept),
        behaviour_names=known.manifest["behaviours"] if known.has_behaviours else data.manifest["behaviours"],
        details=inherited(data),
    )


def _behaviours(data: PreparedData, known: PreparedData, kept: np.ndarray) -> np.ndarray | None:
    """Kinds of the kept events by the numbers of ``known``; 0 for a kind that it does not know."""
    if data.behaviours is None:
        return None
    if not known.has_behaviours:
        return np.asarray(data.behaviours)[kept]
    number = {name: place for place, name in enumerate(known.manifest["behaviours"], start=1)}
    to_ours = np.array([0, *(number.get(name, 0) for name in data.manifest["behaviours"])], np.int8)
    return to_ours[data.behaviours][kept]
