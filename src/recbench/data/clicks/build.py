"""From raw rows and a protocol to impressions on disk, and to their split: ``click_split``.

Everything that depends on which rows are for training is made here, once: vocabularies, scales, drawn negatives, and the log of clicks that histories
point into. Items that training does not know share one number, the last; so no model has a vector that nothing trained.

Shapes: N rows, U users, I items.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbench.core.disk import disk_errors
from recbench.core.errors import UserError
from recbench.data.clicks.fields import code_rows
from recbench.data.clicks.known_fields import UNKNOWN, UNKNOWN_ITEMS
from recbench.data.clicks.negatives import draw_items
from recbench.data.clicks.protocol import ClicksConfig
from recbench.data.clicks.raw import LABEL, NAMED, raw_rows
from recbench.data.clicks.rows import ClickData
from recbench.data.clicks.split import ClickSplit
from recbench.data.local_files import local_config
from recbench.data.older_events import events_before_rows
from recbench.data.once import build_once
from recbench.data.prepared import FORMAT_VERSION, PreparedData
from recbench.data.schema import DataConfig, content_settings
from recbench.data.sources import lookup

log = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = range(3)
PART_NAMES = ("training", "validation", "test")
#: Raised whenever the same rows would be stored otherwise.
CLICKS_VERSION = 1


def click_split(config: DataConfig, protocol: ClicksConfig, cache_dir: Path | str) -> ClickSplit:
    """The impressions of a data set under the protocol, made if they are not there yet.

    Raises UserError for data without labels, parts of one class only, an order that the data do not allow, and rows that cannot be read.
    """
    protocol.validate()
    cache_dir = Path(cache_dir).expanduser()
    source = lookup(config.name)
    config.validate()
    with disk_errors(cache_dir, "cache_dir"):
        config = local_config(config, cache_dir)
        files = source.locate(config, cache_dir) if source.locate else {}
        content = {
            "version": [CLICKS_VERSION, FORMAT_VERSION, getattr(source, "reading", 1)],
            "settings": content_settings(config),
            "files": {name: entry["sha256"] for name, entry in sorted(files.items())},
            "protocol": dict(sorted(vars(protocol).items())),
        }
        key = hashlib.blake2b(json.dumps(content, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
        words = "-".join("".join(c if c.isalnum() else "_" for c in label) for label in config.labels())
        folder = cache_dir / "clicks" / f"{words}-{key}"
        build_once(folder, lambda working: _build(config, protocol, working, cache_dir))
    return _opened(PreparedData.open(folder), protocol)


def _opened(data: PreparedData, protocol: ClicksConfig) -> ClickSplit:
    clicks, stored = ClickData.open(data), data.manifest["extra"]["clicks"]
    part = np.load(data.folder / "clicks" / "part.npy", allow_pickle=False)
    train_end = np.load(data.folder / "clicks" / "train_end.npy", allow_pickle=False)
    rows = [np.flatnonzero(part == which) for which in (TRAIN, VALIDATION, TEST)]
    return ClickSplit(
        protocol_id=protocol.identity("keep", stored["has_validation"]),
        clicks=clicks,
        train_start=np.asarray(data.offsets[:-1]).copy(),
        train_end=train_end,
        train_rows=rows[TRAIN],
        validation_rows=rows[VALIDATION],
        test_rows=rows[TEST],
        audit=stored["audit"],
        split_hash=stored["hash"],
    )


def _build(config: DataConfig, protocol: ClicksConfig, working: Path, cache_dir: Path) -> None:
    """Write impressions and their log into the folder ``working``; the log's manifest comes last."""
    started = time.perf_counter()
    log.info("preparing the impressions of %s", " ".join(config.labels()))
    working.mkdir(parents=True, exist_ok=True)
    rows, counts = raw_rows(config, protocol, working, cache_dir)
    timed = "timestamp" in rows.columns
    given = "part" in rows.columns
    has_validation = not given or bool((rows["part"] == VALIDATION).any())
    rows = rows.with_columns(part=pl.Series(_parts(rows, protocol, timed), dtype=pl.Int8))
    rows, drawn = _with_negatives(rows, protocol)
    part = rows["part"].to_numpy()
    _check_classes(rows, part, protocol)
    names = [name for name in rows.columns if name not in NAMED and not name.startswith(LABEL)]
    coded = code_rows(rows, ["user", "item", *names], part == TRAIN, protocol.rare)
    # Number 1, 2, ... of the known items, and one more for all others.
    n_items = coded.fields.categories["item"] - 1
    item = np.where(coded.categories[:, 1] > UNKNOWN, coded.categories[:, 1] - 1, n_items).astype(np.int32)
    user = rows["user"].rank("dense").to_numpy().astype(np.int32) - 1
    at = rows["timestamp"].to_numpy() if timed else np.zeros(len(rows), np.int64)
    labels = [name for name in rows.columns if name == "label" or name.startswith(LABEL)]
    label = np.stack([rows[name].to_numpy() for name in labels], 1).astype(np.int8)
    made = _log_of(user, item, label[:, 0], at, part, together=protocol.order == "time")
    arrays = {
        "user": user,
        "item": item,
        "label": label,
        "time": at,
        "history_end": history_ends(made, user, at, timed),
        "categories": coded.categories,
        "numbers": coded.numbers,
        "part": part,
        "train_end": made.train_end,
        **{f"several-{i}": values for i, values in enumerate(coded.several)},
    }
    (working / "clicks").mkdir()
    for name, array in arrays.items():
        np.save(working / "clicks" / f"{name}.npy", array)
    audit = _audit(arrays, made.offsets[user], coded.unknown, drawn, counts)
    stored = {
        "fields": coded.fields.as_dict(),
        "labels": ["click", *(name.removeprefix(LABEL) for name in labels[1:])],
        "has_validation": has_validation,
        "audit": audit,
        "hash": _hash(arrays),
    }
    PreparedData.from_arrays(
        working,
        made.item,
        made.offsets,
        made.time if timed else None,
        item_table=_item_table(rows["item"], item, n_items),
        user_ids=rows["user"].unique().sort(),
        seams=made.train_end,
        details={"settings": content_settings(config), "counts": counts, "extra": {"clicks": stored}},
    )
    log.info(
        "prepared %s impressions, %s of them clicks, in %.1f s",
        f"{len(rows):,}",
        f"{int(label[:, 0].sum()):,}",
        time.perf_counter() - started,
    )


def _parts(rows: pl.DataFrame, protocol: ClicksConfig, timed: bool) -> np.ndarray:
    """[N] int8: TRAIN, VALIDATION or TEST."""
    n = rows.height
    if protocol.order == "given":
        if "part" not in rows.columns:
            raise UserError(
                "protocol.order=given needs rows that others split (data.parts); use order=time or order=random"
            )
        part = rows["part"].to_numpy().astype(np.int8).copy()
        if not (part == VALIDATION).any():
            train = np.flatnonzero(part == TRAIN)
            chosen = np.random.default_rng(protocol.seed).permutation(len(train))
            part[train[chosen[: round(protocol.validation_ratio * len(train))]]] = VALIDATION
        return part
    if "part" in rows.columns:
        raise UserError("these rows come in parts that others made (data.parts); use protocol.order=given")
    if protocol.order == "random":
        place = np.random.default_rng(protocol.seed).permutation(n) / n
    else:
        if not timed:
            raise UserError("protocol.order=time needs timestamps and these data have none; use protocol.order=random")
        # Rows of one moment stay together, in the part of the first of them.
        times = rows["timestamp"].to_numpy()
        place = np.searchsorted(np.sort(times), times, side="left") / n
    test, validation = 1 - protocol.test_ratio, 1 - protocol.test_ratio - protocol.validation_ratio
    return np.where(place >= test, TEST, np.where(place >= validation, VALIDATION, TRAIN)).astype(np.int8)


def _with_negatives(rows: pl.DataFrame, protocol: ClicksConfig) -> tuple[pl.DataFrame, int]:
    """(rows with those that are drawn, each behind its click; how many were drawn): for the parts without a row that has no click."""
    n = protocol.negatives
    lacking = rows.group_by("part").agg(pl.col("label").min()).filter(pl.col("label") == 1)["part"].to_list()
    if not n or not lacking:
        return rows, 0
    names = rows["item"].unique().sort()
    users, items = (rows[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ("user", "item"))
    is_click = rows["label"].to_numpy() == 1
    clicked = np.unique(users[is_click] * len(names) + items[is_click])
    weights = np.bincount(items[is_click], minlength=len(names)) + 1.0 if protocol.sampling == "popularity" else None
    chosen = np.flatnonzero(is_click & rows["part"].is_in(lacking).to_numpy())
    drawn = draw_items(users[chosen], clicked, len(names), n, protocol.seed, weights)
    source = np.repeat(chosen, n)
    more = rows[source].with_columns(
        names.gather(drawn.ravel()).alias("item"),
        *(pl.lit(0, pl.Int8).alias(name) for name in rows.columns if name == "label" or name.startswith(LABEL)),
    )
    order = np.argsort(np.concatenate([np.arange(rows.height), source]), kind="stable")
    cast = rows.with_columns(pl.col("label").cast(pl.Int8))
    return pl.concat([cast, more.select(cast.columns).cast(cast.schema)])[order], len(source)


def _check_classes(rows: pl.DataFrame, part: np.ndarray, protocol: ClicksConfig) -> None:
    label = rows["label"].to_numpy()
    for which, name in enumerate(PART_NAMES):
        found = label[part == which]
        if not len(found):
            raise UserError(
                f"the {name} part has no row; change protocol.validation_ratio or test_ratio, or use more data"
            )
        if found.min() == found.max():
            kind = "clicks" if found[0] else "rows without a click"
            mend = (
                "draw others with protocol.negatives=1, or say with protocol.label_above which ratings are clicks"
                if found[0]
                else "nothing can be learned or judged from them; use other data or another cut"
            )
            raise UserError(f"the {name} part has {kind} only ({len(found):,} rows): {mend}")


@dataclass(frozen=True)
class _Log:
    """The clicks, by user; of a user those of training, then the others, each by time. item, time [P]; offsets [U + 1]; train_end [U]."""

    item: np.ndarray
    time: np.ndarray
    offsets: np.ndarray
    train_end: np.ndarray
    known_end: np.ndarray


def _log_of(
    user: np.ndarray, item: np.ndarray, label: np.ndarray, at: np.ndarray, part: np.ndarray, together: bool
) -> _Log:
    """together: all clicks of a user may be a history, as where the parts are a cut in time; else those of training alone."""
    click = np.flatnonzero(label == 1)
    later = part[click] != TRAIN
    order = click[np.lexsort((click, at[click], later, user[click]))]
    n_users = int(user.max()) + 1
    count = np.bincount(user[click], minlength=n_users)
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    train_end = offsets[:-1] + np.bincount(user[click][~later], minlength=n_users)
    return _Log(item[order], at[order], offsets, train_end, offsets[1:] if together else train_end)


def history_ends(made: _Log, user: np.ndarray, at: np.ndarray, timed: bool) -> np.ndarray:
    """[N] int64: where the history of each row ends in the log: before its user's first known click that is not older than it."""
    start = made.offsets[:-1][user]
    if not timed:
        return start.copy()
    owner = np.repeat(np.arange(len(made.train_end)), np.diff(made.offsets))
    known = np.arange(len(owner)) < made.known_end[owner]
    first_of_user = np.concatenate([[0], np.cumsum(np.bincount(owner[known], minlength=len(made.train_end)))])
    return events_before_rows(owner[known], made.time[known], user, at) - first_of_user[user] + start


def _audit(
    arrays: dict[str, np.ndarray], start: np.ndarray, unknown: dict[str, int], drawn: int, counts: dict[str, int]
) -> dict[str, float | int]:
    """start [N]: where the history of each row begins in the log."""
    part, label, end = arrays["part"], arrays["label"][:, 0], arrays["history_end"]
    found: dict[str, float | int] = {f"{name}_rows": int((part == i).sum()) for i, name in enumerate(PART_NAMES)}
    found |= {f"{name}_rate": float(label[part == i].mean()) for i, name in enumerate(PART_NAMES)}
    test = part == TEST
    known = arrays["user"][part == TRAIN]
    found |= {
        "drawn_rows": drawn,
        "test_rows_without_history": float((end[test] == start[test]).mean()),
        "test_rows_of_new_users": float((~np.isin(arrays["user"][test], known)).mean()),
        **{f"unknown_{name}": n for name, n in unknown.items() if n},
        **{name: n for name, n in counts.items() if n},
    }
    return found


def _item_table(raw: pl.Series, item: np.ndarray, n_items: int) -> pl.DataFrame:
    """Raw ids in the order of the numbers; the last stands for all that training does not know."""
    known = (
        pl.DataFrame({"item": raw, "number": item}).filter(pl.col("number") < n_items).unique("number").sort("number")
    )
    return pl.DataFrame({"item": [*known["item"].cast(pl.String).to_list(), UNKNOWN_ITEMS]})


def _hash(arrays: dict[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, array in sorted(arrays.items()):
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name} {little.shape} ".encode())
        digest.update(memoryview(little).cast("B") if little.size else b"")
    return digest.hexdigest()
