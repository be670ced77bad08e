"""Prepared data whose bytes changed are refused, by name, before anything is made of them."""

from __future__ import annotations

import json
import os

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import intact
from recbench.data.prepared import PreparedData


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(intact, "_known", {})
    PreparedData.from_arrays(tmp_path / "data", np.array([1, 2, 1, 2]), np.array([0, 2, 4]), np.array([1, 2, 3, 4]))
    intact._known.clear()
    return tmp_path / "data"


def flip(path, place=-1):
    """One bit of a byte; the times of the file stay as they were."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)


@pytest.mark.parametrize("name", ["items.npy", "timestamps.npy", "offsets.npy", "items.parquet", "users.parquet"])
def test_one_bit_is_enough(folder, name):
    PreparedData.open(folder)
    intact._known.clear()  # another process
    flip(folder / name, -20)
    with pytest.raises(UserError, match=rf"damaged \({name}.*delete the folder and run again"):
        PreparedData.open(folder)


@pytest.mark.parametrize("name", ["items.npy", "timestamps.npy", "items.parquet"])
def test_data_of_before_there_were_checksums_are_held_against_their_fingerprint(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksums"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    PreparedData.open(folder)
    intact._known.clear()
    if name.endswith("npy"):
        flip(folder / name)
    else:
        pl.read_parquet(folder / name).with_columns(title=pl.lit("another")).write_parquet(folder / name)
    with pytest.raises(UserError, match="damaged"):
        PreparedData.open(folder)


@pytest.mark.parametrize("harm", ["cut", "gone", "empty"])
@pytest.mark.parametrize("name", ["items.npy", "offsets.npy", "items.parquet"])
def test_files_that_are_not_whole(folder, name, harm):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else b"")
    with pytest.raises(UserError, match="damaged"):
        PreparedData.open(folder)


@pytest.mark.parametrize("lacking", ["fingerprint", "n_users", "has_text"])
def test_a_manifest_that_lacks_something(folder, lacking):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[lacking]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="damaged"):
        PreparedData.open(folder)


def test_a_process_hashes_a_folder_once(folder, monkeypatch):
    hashed = []
    plain = intact._hash
    monkeypatch.setattr(intact, "_hash", lambda path: hashed.append(path.name) or plain(path))
    PreparedData.open(folder)
    n = len(hashed)
    PreparedData.open(folder)
    assert n == len(hashed) == 5


def test_large_data_are_hashed_again_only_where_a_file_changed(folder, monkeypatch):
    monkeypatch.setattr(intact, "AT_EVERY_START", 0)
    PreparedData.open(folder)
    intact._known.clear()
    with monkeypatch.context() as patch:
        patch.setattr(intact, "_hash", lambda path: pytest.fail("hashed again"))
        PreparedData.open(folder)
    intact._known.clear()
    flip(folder / "items.npy")
    os.utime(folder / "items.npy")
    with pytest.raises(UserError, match=r"items\.npy"):
        PreparedData.open(folder)
