"""The protocol ``holdout``: a share of each user's items is kept back, and all of them are asked at once.

What is kept back need not be a range of a user's events, so the protocol sees a data set of its own, as ``sessions`` does: every user's
items, each once, stand as training, then validation, then test, each part in time order. The view is stored beside the data that it was made
from and found again by a hash of data and rule. Shapes: U users, M events of the view.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import SplitParts, blocks_of_users, flat_ranges
from recbench.data.given_parts import given_parts, part_borders
from recbench.data.prepared import FORMAT_VERSION, PreparedData
from recbench.data.protocol import VERSION, HoldoutConfig
from recbench.data.set_protocols import has_validation
from recbench.data.temporal import set_cases
from recbench.data.views import inherited, view_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

#: Events that are dealt out at once.
EVENTS_AT_ONCE = 1 << 20
TRAINING, VALIDATION, TEST = range(3)


def holdout_view(data: PreparedData, config: HoldoutConfig) -> PreparedData:
    """The view of the data, made if it is not there yet. Raises UserError where the data lack the clock or the parts that the order asks for."""
    if config.order == "given":
        given_parts(data)  # raises for data that nobody split
    if config.order == "time" and not data.has_timestamps:
        raise UserError("protocol.order=time needs timestamps and these data have none; use protocol.order=random")
    asked = [VERSION, FORMAT_VERSION, data.fingerprint, _rule(config)]
    return view_beside(
        data, "holdout", json.dumps(asked, sort_keys=True), lambda working: _build(data, config, working)
    )


def holdout_cases(view: PreparedData, config: HoldoutConfig) -> SplitParts:
    """One case a user with enough items; its targets are all of the part. Raises ValueError for data that are no view made with this config."""
    made = view.manifest.get("extra", {}).get("holdout")
    if made is None or made["rule"] != _rule(config):
        raise ValueError("protocol holdout splits a view of the data; make it with protocol_view(data, config)")
    if config.order == "given":
        start, train_end, test_start, end = part_borders(view).T
    else:
        start, end = view.offsets[:-1].copy(), view.offsets[1:]
        n_validation, n_test = kept_back(np.asarray(end - start), config)
        train_end, test_start = end - n_test - n_validation, end - n_test
    tested, validated = np.flatnonzero(end > test_start), np.flatnonzero(test_start > train_end)
    known_at_test = test_start if config.validation_is_known else train_end
    validation = set_cases(
        view, validated, start[validated], train_end[validated], train_end[validated], test_start[validated]
    )
    test = set_cases(view, tested, start[tested], known_at_test[tested], test_start[tested], end[tested])
    return SplitParts(start.copy(), train_end.copy(), validation, test, made["counts"])


def kept_back(n: np.ndarray, config: HoldoutConfig) -> tuple[np.ndarray, np.ndarray]:
    """(items of validation [U], of test [U]) of users with n [U] distinct items; both 0 for those with too few.

    >>> [part.tolist() for part in kept_back(np.array([2, 3, 10, 40]), HoldoutConfig())]
    [[0, 1, 1, 4], [0, 1, 2, 8]]
    >>> [part.tolist() for part in kept_back(np.array([5, 9, 10, 17]), HoldoutConfig(rounding="mmrec"))]
    [[1, 1, 1, 1], [1, 1, 1, 2]]
    """
    if config.rounding == "mmrec":
        both = np.floor(0.2 * n).astype(np.int64)
        validation = np.where(n < 10, 1, both // 2)
        test = np.where(n < 10, 1, both - both // 2)
    else:
        validation = np.maximum(1, np.rint(config.validation_ratio * n)).astype(np.int64)
        test = np.maximum(1, np.rint(config.test_ratio * n)).astype(np.int64)
        # Of the few items of a short history one is left to train on.
        test = np.minimum(test, np.maximum(n - 1 - validation, 1))
    enough = n >= config.min_events
    return validation * enough, test * enough


def _rule(config: HoldoutConfig) -> dict[str, object]:
    """What decides the arrays of the view; what is asked of it later does not."""
    names = ("order", "test_ratio", "validation_ratio", "min_events", "rounding", "seed")
    rule = {name: getattr(config, name) for name in names}
    if config.order == "given":
        return {name: rule[name] for name in ("order", "validation_ratio", "seed")}
    return rule if config.order == "random" else {**rule, "seed": 0}


def _build(data: PreparedData, config: HoldoutConfig, working: Path) -> None:
    """Write the view into the folder ``working``."""
    dealt = list(_dealt(data, config))
    position, part = (np.concatenate([block[i] for block in dealt]) for i in (0, 1))
    user = np.searchsorted(data.offsets, position, side="right") - 1
    lengths = np.bincount(user, minlength=data.n_users)
    n_validation, n_test = (np.bincount(user[part == which], minlength=data.n_users) for which in (VALIDATION, TEST))
    counts = {"repeated_events_left_out": data.n_interactions - len(position)}
    if config.order != "given":
        counts[f"users_with_fewer_than_{config.min_events}_items"] = int((n_test == 0).sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    seams = np.concatenate([offsets[1:] - n_test, offsets[1:] - n_test - n_validation])
    made = {"rule": _rule(config), "counts": counts, "of": data.fingerprint}
    if config.order == "given":
        made["has_validation"] = has_validation(data)
    view = PreparedData.from_arrays(
        working,
        np.asarray(data.items[position]),
        offsets,
        np.asarray(data.timestamps[position]) if data.has_timestamps else None,
        None if data.behaviours is None else np.asarray(data.behaviours[position]),
        data.item_table(),
        user_ids=data.user_ids()["user_id"],
        behaviour_names=data.manifest["behaviours"],
        kept=data.kept().at(position),
        seams=seams,
        parts=part if config.order == "given" else None,
        details=inherited(data, holdout=made),
    )
    log.info(
        "holdout of %s: %s to train, %s to validate, %s to test",
        data.folder.name,
        *(
            f"{n:,}"
            for n in (
                view.n_interactions - int((n_validation + n_test).sum()),
                int(n_validation.sum()),
                int(n_test.sum()),
            )
        ),
    )


def _dealt(data: PreparedData, config: HoldoutConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(positions of the events of the view, their parts), in its order: each user's first event with each item, by part and then by time."""
    for first, last in blocks_of_users(data.lengths(), EVENTS_AT_ONCE):
        owner, position = flat_ranges(data.offsets[first:last], data.offsets[first + 1 : last + 1])
        _, kept = np.unique(owner * (data.n_items + 1) + data.items[position], return_index=True)
        kept.sort()
        owner, position = owner[kept], position[kept]
        if config.order == "given":
            part = _given_or_drawn(data, position, owner, first, config)
            order = np.lexsort((position, part, owner))
            yield position[order], part[order]
            continue
        lengths = np.bincount(owner, minlength=last - first)
        n_validation, n_test = kept_back(lengths, config)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if config.order == "random":
            place = _drawn_places(owner, first, lengths, config.seed)
        train = (lengths - n_validation - n_test)[owner]
        part = np.where(place < train, TRAINING, np.where(place < train + n_validation[owner], VALIDATION, TEST))
        order = np.lexsort((position, part, owner))
        yield position[order], part[order]


def _given_or_drawn(
    data: PreparedData, position: np.ndarray, owner: np.ndarray, first: int, config: HoldoutConfig
) -> np.ndarray:
    """[M] int8: the part of each event as given; where no validation part is, a share of each user's training items is drawn for it."""
    part = np.array(given_parts(data)[position])
    if has_validation(data):
        return part
    train = np.flatnonzero(part == TRAINING)
    lengths = np.bincount(owner[train], minlength=int(owner.max(initial=-1)) + 1)
    wanted = np.where(lengths >= 2, np.maximum(1, np.rint(config.validation_ratio * lengths)), 0)
    wanted = np.minimum(wanted, np.maximum(lengths - 1, 0))
    place = _drawn_places(owner[train], first, lengths, config.seed)
    part[train[place < wanted[owner[train]]]] = VALIDATION
    return part


def _drawn_places(owner: np.ndarray, first: int, lengths: np.ndarray, seed: int) -> np.ndarray:
    """[M] a random place 0 .. n-1 among its user's items, drawn from (seed, user) alone. owner counts from the user ``first``."""
    drawn = np.concatenate(
        [np.random.default_rng((seed, first + number)).permutation(n) for number, n in enumerate(lengths)]
        or [np.empty(0, np.int64)]
    )
    return drawn.astype(np.int64)
