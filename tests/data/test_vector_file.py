"""Vectors that are ready, keyed by raw item ids."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.vector_file import ready_vectors


@pytest.fixture
def holey(tmp_path):
    """Four items, called a to d."""
    table = pl.DataFrame({"item": list("abcd")})
    return PreparedData.from_arrays(tmp_path / "holey", np.array([1, 2, 3, 4]), np.array([0, 4]), item_table=table)


IDS, VECTORS = ["d", "a", "z", "b"], np.arange(8, dtype=np.float64).reshape(4, 2) + 1


def write(path):
    if path.suffix == ".parquet":
        pl.DataFrame({"item": IDS, "vector": VECTORS.tolist()}).write_parquet(path)
    elif path.suffix == ".npz":
        np.savez(path, item=np.array(IDS), vector=VECTORS)
    else:
        np.save(path, VECTORS)
        path.with_suffix(".txt").write_text("\n".join(IDS) + "\n")
    return str(path)


@pytest.mark.parametrize("name", ["v.parquet", "v.npz", "v.npy"])
def test_vectors_find_their_items_by_raw_id(holey, tmp_path, name):
    found, absent = ready_vectors(holey, write(tmp_path / name))
    assert found.tolist() == [[3, 4], [7, 8], [0, 0], [1, 2]]
    assert found.dtype == np.float32
    assert absent == 1


def test_mistakes_in_the_file_are_named(holey, tmp_path):
    def refuses(words, path, ids=IDS, vectors=VECTORS):
        np.savez(path, item=np.array(ids), vector=vectors)
        with pytest.raises(UserError, match=words):
            ready_vectors(holey, str(path))

    path = tmp_path / "v.npz"
    refuses("NaN", path, vectors=VECTORS * np.nan)
    refuses("more than once", path, ids=["a", "a", "b", "c"])
    refuses("for none of the items; its first id is 'w', that of the data 'a'", path, ids=list("wxyz"))
    refuses("do not fit", path, ids=["a"])
    path.write_bytes(b"no archive")
    for broken in (path, tmp_path / "v.parquet"):
        broken.write_bytes(b"no archive")
        with pytest.raises(UserError, match="cannot read"):
            ready_vectors(holey, str(broken))
    pl.DataFrame({"id": IDS}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(UserError, match="cannot read"):
        ready_vectors(holey, str(tmp_path / "v.parquet"))
    for wrong in ("v.csv", "absent.npy"):
        with pytest.raises(UserError, match=wrong):
            ready_vectors(holey, str(tmp_path / wrong))
