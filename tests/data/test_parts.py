"""A log in parts is cleaned as it is in one piece, and in memory that does not grow with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import events, manifest_figures, parts
from recbench.data.cleaning import clean
from recbench.data.parts import PartsOnDisk, read_parts
from recbench.data.prepared import PreparedData
from recbench.data.schema import DataConfig, RawData
from recbench.data.training import TrainingData

#: Settings under which every step does something.
SETTINGS = {
    "all rows": {},
    "core": {"k_core": 3},
    "ratings": {"min_rating": 3.0, "k_core": 2},
    "first of a pair": {"repeats": "first"},
    "own sessions": {"session_gap": 40},
    "ties drawn": {"shuffle_ties": 3},
}


def spool(
    folder: Path, seed: int, n: int = 2_000, columns: tuple[str, ...] = ("rating", "behaviour", "session")
) -> RawData:
    """Rows with ties, copies, repeats and missing values, by few very active users and many others."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    user, item = (draw.random(n) ** 2 * 150).astype(int), (draw.random(n) ** 2 * 120).astype(int)
    rows = {
        "user": [f"u{u}" for u in user],
        "item": [f"i{i}" for i in item],
        "timestamp": draw.integers(0, 300, n),
        "rating": pl.Series([None if r == 0 else float(r) for r in draw.integers(0, 6, n)], dtype=pl.Float32),
        "behaviour": [(None, "view", "buy", "cart")[b] for b in draw.integers(0, 4, n)],
        "session": [f"s{s}" if s else None for s in draw.integers(0, 30, n)],
    }
    rows = {name: values for name, values in rows.items() if name in (*columns, "user", "item", "timestamp")}
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    return RawData(folder / "rows.parquet")


def in_parts(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", rows)
    monkeypatch.setattr(events, "BATCH_ROWS", 97)
    monkeypatch.setattr(manifest_figures, "EVENTS_AT_ONCE", 50)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("rows", [37, 700])
def test_parts_change_nothing(tmp_path, monkeypatch, settings, rows):
    config = DataConfig(**{"k_core": 0, **settings})
    whole = clean(spool(tmp_path / "whole", 1), config)
    in_parts(monkeypatch, rows)
    cut = clean(spool(tmp_path / "cut", 1), config)
    assert isinstance(cut.items, np.memmap)
    assert cut.steps == whole.steps
    assert cut.behaviour_names == whole.behaviour_names == ["buy", "cart", "view"]
    for name in ("items", "offsets", "timestamps", "behaviours", "sessions", "user_ids", "item_ids"):
        mine, expected = np.asarray(getattr(cut, name)), np.asarray(getattr(whole, name))
        assert mine.dtype == expected.dtype
        assert np.array_equal(mine, expected), name


def test_columns_that_are_not_there(tmp_path, monkeypatch):
    whole = clean(spool(tmp_path / "whole", 2, columns=()), DataConfig(k_core=2))
    in_parts(monkeypatch, 300)
    cut = clean(spool(tmp_path / "cut", 2, columns=()), DataConfig(k_core=2))
    assert cut.behaviours is None
    assert cut.sessions is None
    assert np.array_equal(cut.items, whole.items)


def test_the_prepared_data_have_the_same_fingerprint_and_figures(tmp_path, monkeypatch):
    def stored(place):
        found = clean(spool(tmp_path / f"{place}-rows", 3), DataConfig(k_core=2))
        arrays = (found.items, found.offsets, found.timestamps, found.behaviours)
        return PreparedData.from_arrays(tmp_path / place, *arrays, sessions=found.sessions, user_ids=found.user_ids)

    whole = stored("whole")
    in_parts(monkeypatch, 250)
    cut = stored("cut")
    assert cut.manifest == whole.manifest
    assert whole.manifest["share_equal_timestamps"] > 0
    assert whole.has_repeats


def test_what_leaves_nothing_is_refused_with_the_counts_of_all_parts(tmp_path, monkeypatch):
    in_parts(monkeypatch, 300)
    with pytest.raises(UserError, match=r"after the step 'k_core' \(read: 2,000 rows"):
        clean(spool(tmp_path / "core", 4), DataConfig(k_core=500))
    with pytest.raises(UserError, match="asks for ratings, but these data have none"):
        clean(spool(tmp_path / "ratings", 4, columns=()), DataConfig(k_core=0, min_rating=3))


def test_a_users_events_are_in_one_part(tmp_path, monkeypatch):
    in_parts(monkeypatch, 300)
    cut = read_parts(spool(tmp_path / "rows", 5))
    assert isinstance(cut, PartsOnDisk)
    assert cut.n_parts == 7
    users = [set(part.user.tolist()) for part in cut.each()]
    assert sum(map(len, users)) == len(set.union(*users)) == cut.n_users
    assert sum(len(part) for part in cut.each()) == 2_000


def test_items_are_counted_block_by_block(tiny_data, tiny_split, monkeypatch):
    train = TrainingData.of(tiny_data, tiny_split)
    expected = np.bincount(train.flat()[1], minlength=tiny_data.n_items + 1)
    for events_at_once in (1, 33, 1 << 20):
        monkeypatch.setattr("recbench.data.training.EVENTS_AT_ONCE", events_at_once)
        assert np.array_equal(train.item_counts(), expected)


#: Prepares a log of so many rows in parts of 262,144; prints how much the memory of the process alone grew at the most, in bytes.
GROWTH = """
import json, sys, threading, time
from pathlib import Path
import numpy as np, polars as pl, pyarrow as pa, pyarrow.parquet as pq
from recbench.data import events, manifest_figures, parts, prepared
from recbench.data.cleaning import clean
from recbench.data.schema import DataConfig, RawData

n, folder = int(sys.argv[1]), Path(sys.argv[2])
parts.PART_ROWS = events.BATCH_ROWS = manifest_figures.EVENTS_AT_ONCE = 1 << 18
draw, writer = np.random.default_rng(0), None
for first in range(0, n, 1 << 18):
    rows = min(1 << 18, n - first)
    names = {"user": ("u", 30_000), "item": ("i", 10_000)}
    texts = {k: (c + pl.Series(draw.integers(0, m, rows)).cast(pl.String)).to_arrow() for k, (c, m) in names.items()}
    table = pa.table({**texts, "timestamp": draw.integers(0, 10**6, rows)})
    writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema)
    writer.write_table(table)
writer.close()
own = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")) * 1024
before, peak = own(), [0]
def watch():
    while True:
        peak[0] = max(peak[0], own()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
found = clean(RawData(folder / "rows.parquet"), DataConfig(k_core=5))
prepared.PreparedData.from_arrays(folder / "out", found.items, found.offsets, found.timestamps)
print(json.dumps({"grown": peak[0] - before, "rows": len(found.items)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_memory_does_not_grow_with_the_log(tmp_path):
    """Eight times the rows: 3.7 million more, of which each takes 64 bytes where the log is sorted in one piece."""

    def growth(n: int) -> int:
        folder = tmp_path / str(n)
        folder.mkdir()
        command = [sys.executable, "-c", GROWTH, str(n), str(folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        found = json.loads(done.stdout)
        assert found["rows"] > 0.9 * n
        return int(found["grown"])

    short, long = growth(1 << 19), growth(1 << 22)
    assert long < short + 80 * 2**20
