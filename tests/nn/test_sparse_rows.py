"""Sums of sparse rows against the dense product."""

import numpy as np
import pytest
import torch
from scipy import sparse

from recbench.nn import sparse_rows
from recbench.nn.sparse_rows import add_rows, from_scipy, keep_largest, last_items


@pytest.mark.parametrize("entries_at_once", [1, 5, 10**6])
def test_add_rows_is_the_dense_product(monkeypatch, entries_at_once):
    monkeypatch.setattr(sparse_rows, "ENTRIES_AT_ONCE", entries_at_once)
    rng = np.random.default_rng(0)
    dense = rng.random((8, 8)) * (rng.random((8, 8)) < 0.4)
    dense[0] = 0.0
    rows, factor = rng.integers(0, 8, size=(6, 5)), rng.random((6, 5))
    start = rng.random((6, 8))
    out = torch.tensor(start, dtype=torch.float32)
    add_rows(out, torch.tensor(rows), torch.tensor(factor).float(), *from_scipy(sparse.csr_array(dense)))
    np.testing.assert_allclose(out, start + np.einsum("bl,blv->bv", factor, dense[rows]), rtol=1e-5)


def test_add_rows_of_nothing_changes_nothing():
    matrix = from_scipy(sparse.csr_array((4, 4)))
    out = torch.ones(2, 4)
    assert add_rows(out, torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0), *matrix).tolist() == [[1] * 4] * 2
    assert add_rows(out, torch.tensor([[1], [2]]), torch.ones(2, 1), *matrix).tolist() == [[1] * 4] * 2


def test_last_items_ignores_padding_and_empty_histories():
    items = torch.tensor([[5, 6, 0], [7, 0, 0], [0, 0, 0]])
    assert last_items(items, torch.tensor([2, 1, 0])).tolist() == [[6], [7], [0]]
    assert last_items(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0])).tolist() == [[0], [0]]


def test_keep_largest_prefers_the_lower_column_among_equals():
    matrix = sparse.csr_array(np.array([[0.0, 1.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.5, 0.0]]))
    assert keep_largest(matrix, 2).toarray().tolist() == [[0, 1, 3, 0], [0, 0, 0, 0], [2, 0, 0.5, 0]]
    assert keep_largest(matrix, 1).toarray().tolist() == [[0, 0, 3, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
