"""Arrays mapped from files: written to, let go of, and stored a piece at a time."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from recbench.core.disk import forget_pages, new_array, save_array
from recbench.data.events import batches


def test_pages_that_are_let_go_keep_what_was_written(tmp_path):
    array = new_array(tmp_path / "a.npy", np.int64, (200_000,))
    for first in (0, 100_000):
        array[first : first + 100_000] = np.arange(first, first + 100_000)
        forget_pages(array[:10])  # of a view too
    assert np.array_equal(array, np.arange(200_000))
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(200_000))
    forget_pages(np.arange(3))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[0] = 7
    forget_pages(np.asarray(private))
    assert private[0] == 7


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux says how many pages a process has")
def test_few_pages_stay_in_memory(tmp_path):
    array = new_array(tmp_path / "a.npy", np.int64, (4_000_000,))

    def mapped():
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["RssFile"].split()[0])

    array[:] = 1
    full = mapped()
    forget_pages(array)
    assert full - mapped() > 25_000  # of 31,250 KiB


def test_the_bytes_are_those_of_numpy(tmp_path):
    for array in (np.arange(10, dtype=np.int32), np.ones((7, 3), np.float32), np.empty(0, np.int8)):
        whole = io.BytesIO()
        np.save(whole, array)
        save_array(tmp_path / "a.npy", array, rows=4)
        assert (tmp_path / "a.npy").read_bytes() == whole.getvalue()


def test_a_spool_of_many_groups_is_read_in_order(tmp_path, monkeypatch):
    import polars as pl

    monkeypatch.setattr("recbench.data.events.BATCH_ROWS", 25)
    frame = pl.DataFrame({"user": [f"u{n}" for n in range(100)], "item": [f"i{n}" for n in range(100)]})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=7)
    found = list(batches(tmp_path / "a.parquet", ["user"]))
    assert len(found) > 3
    assert pl.concat(found)["user"].to_list() == frame["user"].to_list()
