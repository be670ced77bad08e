"""Data as the protocol ``sessions`` sees them: a prepared data set of its own, whose users are the sessions.

Taking rare and unknown items out changes the sequences themselves, so the view is stored beside the data it was made
from, memory-mapped like them and found again by a hash of data and rule. Its sessions stand in order: training,
validation, test, each by date; its items are those of training, numbered anew; ``extra.session_split`` of its manifest
says where the parts begin.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.data.cases import Cases, flat_ranges
from recbench.data.prepared import FORMAT_VERSION, PreparedData
from recbench.data.protocol import VERSION, SessionRule, SessionsConfig
from recbench.data.session_parts import LOST, Sessions, cut_down
from recbench.data.session_protocol import published_of
from recbench.data.views import inherited, view_beside

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)


def rule_of(data: PreparedData, config: SessionsConfig) -> SessionRule:
    """The config with nothing left open."""
    return config.rule(published_of(data))


def session_view(data: PreparedData, config: SessionsConfig) -> PreparedData:
    """The view of the data, made if it is not there yet.

    Raises UserError for data without sessions, without an order between them, or of which no training is left.
    """
    published, rule = published_of(data), rule_of(data, config)
    _refuse_unfit(data, published, rule)
    asked = [VERSION, FORMAT_VERSION, data.fingerprint, published, key_values(rule)]
    return view_beside(data, "sessions", json.dumps(asked, sort_keys=True), lambda working: _build(data, rule, working))


def session_cases(
    view: PreparedData, config: SessionsConfig
) -> tuple[np.ndarray, np.ndarray, Cases, Cases, dict[str, int]]:
    """(train_start [S], train_end [S], validation, test, counts): one case for every proper prefix of a session.

    Raises ValueError for data that are not a view made with this config.
    """
    made = view.manifest.get("extra", {}).get("session_split")
    rule = rule_of(view, config)
    if made is None or made["rule"] != key_values(rule):
        raise ValueError("protocol sessions splits a view of the data; make it with protocol_view(data, config)")
    start, end = view.offsets[:-1].copy(), view.offsets[1:]
    borders = np.cumsum([0, *made["parts"]])
    validation, test = (_prefixes(view, np.arange(*borders[i : i + 2])) for i in (1, 2))
    learned = np.arange(view.n_users) < borders[2 if rule.fit_on_validation else 1]
    counts = made["counts"] | {"validation_in_training": int(rule.fit_on_validation)}
    return start, np.where(learned, end, start), validation, test, counts


def _prefixes(view: PreparedData, session: np.ndarray) -> Cases:
    start, end = view.offsets[session], view.offsets[session + 1]
    row, target = flat_ranges(start + 1, end)
    return Cases.single(view.items, session[row], start[row], target)


def _refuse_unfit(data: PreparedData, published: dict[str, Any], rule: SessionRule) -> None:
    # A table whose rows are grouped by a session column alone has sessions for users.
    grouped = data.manifest.get("settings", {}).get("columns", {"user": ""})["user"] is None
    if data.sessions is None and not published.get("users_are_sessions") and not grouped:
        raise UserError(
            "protocol=sessions needs sessions and these data have none; cut them with data.session_gap=SECONDS, such as "
            "1800, or name the session column of a table with data.columns.session"
        )
    if data.has_timestamps:
        return
    if not published.get("lines"):
        raise UserError(
            "protocol=sessions needs timestamps to tell early sessions from late ones and these data have none; name a "
            "time column, or write one session a line in order of date and use data=session_file"
        )
    if rule.validation_border.startswith("d"):
        raise UserError(
            "protocol.test_days needs timestamps and these data have none; leave it null to use the border of the files"
        )
    if rule.strict_cuts:
        raise UserError(
            "protocol.strict_cuts needs timestamps: without a clock no two sessions share a time; set it to false"
        )


def _build(data: PreparedData, rule: SessionRule, working: Path) -> None:
    """Write the view into the folder ``working``."""
    place, in_test = (None, np.zeros(data.n_users, bool)) if data.has_timestamps else _named_places(data)
    sessions = Sessions.of(data, place, in_test, rule)
    counts = cut_down(sessions, rule)
    known = np.zeros(data.n_items + 1, bool)
    catalogue = sessions.training(rule) | (rule.cold_items == "rank")
    known[sessions.item[catalogue[sessions.session]]] = True
    parts = np.bincount(sessions.part, minlength=LOST).tolist()
    if not sessions.training(rule).any():
        told = ", ".join(f"{name} {value:,}" for name, value in counts.items())
        raise UserError(
            f"protocol=sessions leaves nothing to train on ({told}); lower protocol.test_days or min_item_count, or use "
            f"more data"
        )
    # Parts one after the other; within a part, and within a session, the order stays.
    events = np.argsort(sessions.part[sessions.session], kind="stable")
    order = np.argsort(sessions.part, kind="stable")
    lengths = np.bincount(sessions.session, minlength=len(sessions))[order]
    position = sessions.position[events]
    split = {"rule": key_values(rule), "parts": parts, "counts": counts, "of": data.fingerprint}
    view = PreparedData.from_arrays(
        working,
        (np.cumsum(known) * known)[data.items[position]],
        np.concatenate([[0], np.cumsum(lengths)]),
        data.timestamps[position] if data.has_timestamps else None,
        None if data.behaviours is None else data.behaviours[position],
        data.item_table().filter(known[1:]),
        user_ids=_names(data, sessions, order),
        behaviour_names=data.manifest["behaviours"],
        kept=data.kept().at(position),
        details=inherited(data, session_split=split),
    )
    log.info(
        "sessions of %s: %s to train, %s to validate, %s to test, %s items",
        data.folder.name,
        *(f"{number:,}" for number in (*parts, view.n_items)),
    )


def _named_places(data: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """(place in order [U], in the test file [U] bool) of users called ``train:LINE`` or ``test:LINE``."""
    import polars as pl

    part, line = pl.col("user_id").str.split(":").list.get(0), pl.col("user_id").str.split(":").list.get(1)
    named = data.user_ids().select(part=part, line=line.cast(pl.Int64))
    in_test = (named["part"] == "test").to_numpy()
    line_number = named["line"].to_numpy()
    return line_number + in_test * (line_number.max() + 1), in_test


def _names(data: PreparedData, sessions: Sessions, order: np.ndarray) -> pl.Series:
    """[S] the raw id of each session's user, and behind a # the session's number where a user has several."""
    import polars as pl

    names = data.user_ids()["user_id"].gather(sessions.user[order])
    if data.sessions is None:
        return names
    first = np.searchsorted(sessions.session, order)
    number = np.asarray(data.sessions[sessions.position[first]])
    return names + "#" + pl.Series(number).cast(pl.String)
