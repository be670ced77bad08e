"""The store: prepared once, reused, safe against other processes, kills and bad disks."""

import errno
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import prepared as prepared_module
from recbench.data import store
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.store import PreparedData, prepare

EVENTS = "user,item,timestamp\nu,b,20\nu,a,10\nv,a,10\nv,b,10\nv,a,30\n"


@pytest.fixture
def config(tmp_path) -> TableConfig:
    (tmp_path / "events.csv").write_text(EVENTS)
    return TableConfig(path=str(tmp_path / "events.csv"), k_core=2)


def leftovers(cache: Path) -> list[str]:
    """Everything in the folder of prepared data that is not a finished set."""
    finished = {path.parent for path in (cache / "prepared").glob("[!.]*/manifest.json")}
    return [p.name for p in (cache / "prepared").iterdir() if p not in finished and p.suffix != ".lock"]


def test_what_is_prepared_and_what_the_manifest_says(config, tmp_path):
    data = prepare(config, tmp_path / "cache")
    assert (data.n_users, data.n_items, data.n_interactions) == (2, 2, 5)
    assert data.items.dtype == np.int32
    assert isinstance(data.items, np.memmap)
    assert data.offsets.tolist() in ([0, 2, 5], [0, 3, 5])
    assert data.lengths().sum() == 5
    assert data.item_table()["item_id"].to_list() == [1, 2]
    assert sorted(data.item_table()["item"]) == ["a", "b"]
    assert sorted(data.user_ids()["user_id"]) == ["u", "v"]
    manifest = json.loads((data.folder / "manifest.json").read_text())
    assert manifest == data.manifest
    assert manifest["files"]["interactions.csv"]["sha256"]
    assert manifest["counts"] == {"rows_read": 5}
    assert [step["step"] for step in manifest["cleaning"]] == ["read", "duplicates", "k_core"]
    assert (manifest["first_timestamp"], manifest["last_timestamp"], manifest["last_date"]) == (10, 30, "1970-01-01")
    # Of three pairs of neighbours one ties; of five events one repeats an item; no user's last two events tie.
    assert manifest["share_equal_timestamps"] == pytest.approx(1 / 3)
    assert manifest["share_repeats"] == pytest.approx(1 / 5)
    assert manifest["share_last_two_equal"] == 0
    assert data.has_repeats
    assert leftovers(tmp_path / "cache") == []


def test_prepared_once_and_reused_whatever_the_folder_of_the_raw_file(config, tmp_path, monkeypatch):
    first = prepare(config, tmp_path / "cache")
    monkeypatch.setattr(store, "_build", lambda *_: pytest.fail("prepared again"))
    moved = tmp_path / "elsewhere" / "events.csv"
    moved.parent.mkdir()
    Path(config.path).rename(moved)
    config.path = str(moved)
    again = prepare(config, tmp_path / "cache")
    assert again.folder == first.folder
    assert again.fingerprint == first.fingerprint


def test_other_settings_or_other_bytes_are_other_data(config, tmp_path):
    first = prepare(config, tmp_path / "cache")
    config.k_core = 0
    second = prepare(config, tmp_path / "cache")
    Path(config.path).write_text(EVENTS + "w,a,40\n")
    third = prepare(config, tmp_path / "cache")
    assert len({first.folder, second.folder, third.folder}) == 3
    assert first.fingerprint == second.fingerprint != third.fingerprint


def test_the_fingerprint_feels_every_array_and_the_text(tmp_path):
    items, offsets, times = np.array([1, 2, 1]), np.array([0, 2, 3]), np.array([5, 6, 5])
    table = pl.DataFrame({"item": ["x", "y"], "title": ["X", None]})
    kinds = np.array([1, 1, 2])

    def fingerprint(name: str, *arrays: object) -> str:
        return PreparedData.from_arrays(tmp_path / name, *arrays).fingerprint  # type: ignore[arg-type]

    one = fingerprint("one", items, offsets, times, kinds, table)
    assert one == fingerprint("same", items, offsets, times, kinds, table)
    others = [
        fingerprint("items", items[::-1].copy() % 2 + 1, offsets, times, kinds, table),
        fingerprint("offsets", items, np.array([0, 1, 3]), np.array([5, 5, 6]), kinds, table),
        fingerprint("times", items, offsets, times + 1, kinds, table),
        fingerprint("kinds", items, offsets, times, kinds[::-1], table),
        fingerprint("none", items, offsets, times, None, table),
        fingerprint("text", items, offsets, times, kinds, table.with_columns(title=pl.lit("Z"))),
    ]
    assert len({one, *others}) == 7


def test_opened_in_another_process_it_is_the_same(config, tmp_path):
    data = prepare(config, tmp_path / "cache")
    pickled = pickle.dumps(data)
    assert len(pickled) < 500
    other = pickle.loads(pickled)
    assert (other.items == data.items).all()
    assert other.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("items", "offsets", "times", "message"),
    [
        ([0, 1], [0, 2], [1, 2], "item ids must lie in 1..1"),
        ([1, 2], [0, 1], [1, 2], "offsets must rise from 0"),
        ([1, 2], [0, 2], [2, 1], "must not fall within a user"),
        ([1, 2], [0, 2], [1], "1 timestamps for 2"),
        ([], [0], [], "no interactions"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, items, offsets, times, message):
    with pytest.raises(ValueError, match=message):
        PreparedData.from_arrays(tmp_path, np.array(items, int), np.array(offsets), np.array(times, int))


def test_time_may_fall_from_one_user_to_the_next(tmp_path):
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 1]), np.array([0, 2, 2, 3]), np.array([8, 9, 1]))
    assert data.n_users == 3
    assert data.lengths().tolist() == [2, 0, 1]


def test_an_incomplete_folder_is_refused_by_open_and_replaced_by_prepare(config, tmp_path):
    data = prepare(config, tmp_path / "cache")
    (data.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no complete prepared data set; delete it"):
        PreparedData.open(data.folder)
    assert prepare(config, tmp_path / "cache").n_interactions == 5
    (data.folder / "items.npy").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"are damaged .*delete the folder"):
        PreparedData.open(data.folder)


def test_a_full_disk_leaves_nothing_behind(config, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared_module, "save_array", full)
    with pytest.raises(UserError, match=r"the disk is full under .*cache"):
        prepare(config, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []
    monkeypatch.undo()
    assert prepare(config, tmp_path / "cache").n_interactions == 5


def test_a_cache_that_cannot_be_written_is_one_clear_line(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write under .*set cache_dir to a folder you may write to"):
        prepare(config, tmp_path / "file")


def test_choices_are_checked_before_any_work(config, tmp_path):
    config.repeats = "never"
    with pytest.raises(UserError, match=r"data.repeats=never is not known; choose one of: keep, first"):
        prepare(config, tmp_path / "cache")
    config.repeats, config.k_core = "keep", -1
    with pytest.raises(UserError, match=r"k_core=-1 is negative"):
        prepare(config, tmp_path / "cache")


#: Prepares in a process of its own; what it does inside ``_build`` is put in by the tests.
SCRIPT = """
import logging, os, signal, sys, time
from recbench.data import store
from recbench.data.sources.table import TableConfig

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
build = store._build
def slowly(*arguments):
    build(*arguments)
    {inside}
store._build = slowly
print(store.prepare(TableConfig(path={path!r}, k_core=2), {cache!r}).fingerprint)
"""


def script(config: TableConfig, cache: Path, inside: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(inside=inside, path=config.path, cache=str(cache))]


def test_of_two_processes_one_prepares_and_the_other_waits(config, tmp_path):
    command = script(config, tmp_path / "cache", "time.sleep(1.5)")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("preparing table events" in text for text in said) == 1
    assert sum("another process is preparing table-events" in text for text in said) == 1
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]


def test_after_a_kill_the_next_one_prepares_and_cleans_up(config, tmp_path):
    command = script(config, tmp_path / "cache", "os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path / "cache")) == 1
    assert prepare(config, tmp_path / "cache").n_interactions == 5
    assert leftovers(tmp_path / "cache") == []


def test_columns_are_part_of_the_key(config, tmp_path):
    first = prepare(config, tmp_path / "cache")
    config.columns = Columns(user="item", item="user")
    assert prepare(config, tmp_path / "cache").folder != first.folder
