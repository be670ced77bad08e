"""What is asked: the history of a known user, or one that somebody types. Raw ids in, numbers out.

Shapes: n events of a history, R histories, L events of the longest one that is read.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from recbench.core.errors import UserError, nearest
from recbench.data.item_numbers import item_numbers

if TYPE_CHECKING:
    from recbench.data.batches import Batch
    from recbench.data.prepared import PreparedData
    from recbench.data.split import Split

logger = logging.getLogger(__name__)

#: Known ids that an unknown one is answered with, and ids that are compared with it at the most: comparing costs microseconds each.
SHOWN_IDS, COMPARED_IDS = 5, 50_000


@dataclass(frozen=True)
class History:
    """One history, complete. items [n] int64, times [n] int64 seconds (0 where the data have no clock), behaviours [n] int64 or None.

    user: its number, or the first number that no user has.
    """

    label: str
    user: int
    items: np.ndarray
    times: np.ndarray
    behaviours: np.ndarray | None


def histories_of_users(
    data: PreparedData, split: Split, names: Sequence[str], as_in_test: bool = False
) -> list[History]:
    """All events of known users, or with ``as_in_test`` those before their test target. Raises UserError for an unknown user."""
    number = _numbers(data.user_ids()["user_id"].to_list(), names, "user", first=0)
    found = []
    for name, user in zip(names, number, strict=True):
        start, end = int(data.offsets[user]), int(data.offsets[user + 1])
        if as_in_test:
            cases = np.flatnonzero(split.test.user == user)
            if not len(cases):
                raise UserError(
                    f"the user '{name}' has no test target under {split.protocol_id}; leave out --as-in-test"
                )
            start, end = int(split.test.start[cases[-1]]), int(split.test.end[cases[-1]])
        behaviours = None if data.behaviours is None else np.asarray(data.behaviours[start:end], dtype=np.int64)
        events = np.asarray(data.items[start:end], dtype=np.int64), np.asarray(data.timestamps[start:end])
        found.append(History(name, user, *events, behaviours))
    return found


def typed_history(
    data: PreparedData,
    items: Sequence[str],
    times: Sequence[str] | None = None,
    behaviours: Sequence[str] | None = None,
    needs: Iterable[str] = (),
    unknown: str = "error",
) -> History:
    """The history of somebody who is not in the data, oldest event first. needs: what the model reads beside the items.

    unknown: what is done with an item that the data do not have: "error", or "skip", which leaves the event out and says so.
    Raises UserError for unknown items, for times or behaviours that are missing, wrong or not one an item, and for an empty history.
    """
    if not items:
        raise UserError("the history is empty; give at least one item, as in --history ITEM,ITEM")
    number = item_numbers(data, items)
    if unknown == "skip":
        items, times, behaviours = _known_events(number > 0, items, times, behaviours)
        number = number[number > 0]
    if not number.all():
        known = data.item_table()["item"].to_list()
        raise _unknown("item", items[int(number.argmin())], known, "; or leave such items out with --unknown skip")
    for what, given, how in (
        ("timestamps", times, "--times 2026-01-30,2026-01-31T18:00 (dates, or Unix seconds; in Python: times=[...])"),
        (
            "behaviours",
            behaviours,
            f"--behaviours with any of {', '.join(data.manifest['behaviours'])} (in Python: behaviours=[...])",
        ),
    ):
        if given is None and what in needs:
            raise UserError(f"the model reads {what}; give one an item with {how}")
        if given is not None and len(given) != len(items):
            raise UserError(f"{len(given)} {what} for {len(items)} items; give one an item")
    clock = np.zeros(len(items), np.int64) if times is None else np.array([seconds(time) for time in times], np.int64)
    if (np.diff(clock) < 0).any():
        raise UserError("the times of the history fall; give the oldest event first")
    kinds = None
    if behaviours is not None:
        if data.behaviours is None:
            raise UserError("the data of this run have no behaviours; leave out --behaviours")
        kinds = np.array(_numbers(data.manifest["behaviours"], behaviours, "behaviour", first=1), np.int64)
    return History(", ".join(items), data.n_users, number, clock, kinds)


def batch_of(histories: Sequence[History], max_length: int, has_behaviours: bool) -> Batch:
    """The most recent ``max_length`` events of each [R, L]."""
    from recbench.data.batches import Batch

    def table(rows: Sequence[np.ndarray]) -> torch.Tensor:
        kept = [torch.from_numpy(np.array(row[-max_length:])) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(kept, batch_first=True)

    kinds = [np.zeros_like(h.items) if h.behaviours is None else h.behaviours for h in histories]
    return Batch(
        items=table([h.items for h in histories]),
        timestamps=table([h.times for h in histories]),
        lengths=torch.tensor([min(len(h.items), max_length) for h in histories]),
        user=torch.tensor([h.user for h in histories]),
        behaviours=table(kinds) if has_behaviours else None,
    )


def seconds(text: str) -> int:
    """Unix seconds of a number or an ISO date; without a zone it is UTC. Raises UserError.

    >>> seconds("86400"), seconds("1970-01-02"), seconds("1970-01-01T01:00+01:00")
    (86400, 86400, 0)
    """
    text = text.strip()
    try:
        if text.lstrip("-").isdecimal():
            return int(text)
        date = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UserError(f"'{text[:40]}' is no time; give Unix seconds or a date such as 2026-01-31T18:00") from error
    return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())


def _known_events(
    known: np.ndarray, items: Sequence[str], times: Sequence[str] | None, behaviours: Sequence[str] | None
) -> tuple[Sequence[str], Sequence[str] | None, Sequence[str] | None]:
    """The events of items that the data have (``known`` [n] bool); the others are named. Raises UserError where none is left."""
    for what, values in (("timestamps", times), ("behaviours", behaviours)):
        if values is not None and len(values) != len(items):
            raise UserError(f"{len(values)} {what} for {len(items)} items; give one an item")
    keep = np.flatnonzero(known).tolist()
    lost = list(dict.fromkeys(item[:80] for item, is_known in zip(items, known, strict=True) if not is_known))
    if not keep:
        raise UserError(
            f"the data have none of the {len(items)} items of the history, such as '{lost[0]}'; give ids as the data have them"
        )
    if lost:
        more = f" and {len(lost) - SHOWN_IDS} more" if len(lost) > SHOWN_IDS else ""
        logger.warning(
            "left out %d of %d events, of items that the data do not have: %s%s",
            len(items) - len(keep), len(items), ", ".join(lost[:SHOWN_IDS]), more,
        )  # fmt: skip

    parts = [None if values is None else [values[place] for place in keep] for values in (times, behaviours)]
    return [items[place] for place in keep], parts[0], parts[1]


def _numbers(known: Sequence[str], wanted: Sequence[str], kind: str, first: int) -> list[int]:
    """The numbers of raw ids, of which the first is ``first``. Raises UserError for an unknown one, with the nearest known ones."""
    number = {name: place for place, name in enumerate(known, start=first)}
    for name in wanted:
        if name not in number:
            raise _unknown(kind, name, known)
    return [number[name] for name in wanted]


def _unknown(kind: str, name: str, known: Sequence[str], mend: str = "") -> UserError:
    return UserError(f"unknown {kind} '{name[:80]}'; {near(name, known)}{mend}")


def near(word: str, known: Sequence[str]) -> str:
    """As ``recbench.core.errors.nearest``, but of many names only the few that are most like the word are listed."""
    if len(known) <= SHOWN_IDS:
        return nearest(word, known)
    # Of very many, only those that begin alike.
    candidates: Sequence[str] = known
    for length in range(1, len(word) + 1):
        if len(candidates) <= COMPARED_IDS:
            break
        candidates = [name for name in candidates if name[:length] == word[:length]]
    close = difflib.get_close_matches(word, candidates[:COMPARED_IDS], n=SHOWN_IDS, cutoff=0.0)
    close += [name for name in known[: 2 * SHOWN_IDS] if name not in close][: SHOWN_IDS - len(close)]
    return f"{nearest(word, close)} and {len(known) - len(close):,} more"
