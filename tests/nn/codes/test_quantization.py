"""Residual quantisation against loops, and where there is little to quantise."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from recbench.nn.codes.quantization import (
    _sinkhorn_of_logarithms,
    kmeans_codebook,
    nearest_codes,
    quantize_level_by_level,
    relative_error,
    sinkhorn,
    uniform_codes,
    unit_rows,
)

rng = np.random.default_rng(0)
VECTORS = rng.normal(size=(200, 6)).astype(np.float32)
FIT = partial(kmeans_codebook, seed=1)


@pytest.mark.parametrize("normalize", [False, True])
def test_each_level_codes_what_the_one_before_left_over(normalize):
    books = []

    def fit(residual, size):
        books.append(FIT(residual, size))
        return books[-1]

    found = quantize_level_by_level(VECTORS, 3, 8, fit, normalize)
    for x, codes, vector in zip(VECTORS.astype(np.float64), found.codes, found.vectors, strict=True):
        residual, scale, total = x.copy(), 1.0, np.zeros(6)
        for level in range(3):
            if normalize:
                scale *= np.linalg.norm(residual)
                residual /= np.linalg.norm(residual)
            distances = [np.sum((residual - e) ** 2) for e in books[level]]
            assert distances[codes[level]] <= min(distances) + 1e-5
            total += scale * books[level][codes[level]]
            residual -= books[level][codes[level]]
        np.testing.assert_allclose(vector, total, atol=1e-4)


def test_more_levels_leave_less_over():
    errors = [relative_error(VECTORS, quantize_level_by_level(VECTORS, m, 16, FIT).vectors) for m in (1, 2, 3)]
    assert 1 > errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2] > 0


def test_lloyd_finds_clusters_that_stand_apart_and_mini_batches_do_too():
    centres = 100 * np.eye(5, dtype=np.float32)
    vectors = np.repeat(centres, 40, axis=0) + rng.normal(size=(200, 5)).astype(np.float32)
    for batch in (0, 64):
        codes = nearest_codes(vectors, kmeans_codebook(vectors, 5, seed=2, batch=batch)).reshape(5, 40)
        assert all(len(set(row)) == 1 for row in codes.tolist())
        assert len(set(codes[:, 0].tolist())) == 5


def test_a_codebook_larger_than_the_data_codes_each_row_exactly():
    found = quantize_level_by_level(VECTORS[:5], 3, 256, FIT)
    np.testing.assert_array_equal(found.vectors, VECTORS[:5])
    assert sorted(found.codes[:, 0].tolist()) == [0, 1, 2, 3, 4]
    assert not found.codes[:, 1:].any()
    assert relative_error(VECTORS[:5], found.vectors) == 0


@pytest.mark.parametrize("uniform", ["none", "sinkhorn"])
@pytest.mark.parametrize("normalize", [False, True])
def test_vectors_that_are_all_equal_get_one_tuple(uniform, normalize):
    for vectors in (np.zeros((7, 3)), np.full((7, 3), 0.5), VECTORS[:1]):
        found = quantize_level_by_level(vectors, 3, 4, FIT, normalize, uniform)
        assert len(np.unique(found.codes, axis=0)) == 1
        np.testing.assert_allclose(found.vectors, vectors, atol=1e-6)
        assert relative_error(vectors, found.vectors) == 0


def test_few_different_rows_among_many_are_found():
    vectors = np.repeat(VECTORS[:3], 50, axis=0)
    assert np.unique(nearest_codes(vectors, kmeans_codebook(vectors, 16, seed=0))).tolist() == [0, 1, 2]


def test_sinkhorn_gives_rows_and_columns_their_mass():
    distances = np.abs(VECTORS @ rng.normal(size=(6, 9)))
    plan = sinkhorn(distances, epsilon=0.1, rounds=200)
    np.testing.assert_allclose(plan.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(plan.sum(0), 200 / 9, rtol=1e-3)
    spread = distances.max() - distances.min()
    logs = _sinkhorn_of_logarithms((distances.min() - distances) * 2 / spread / 0.1, 200)
    np.testing.assert_allclose(plan, logs, atol=1e-8)


def test_the_uniform_mapping_uses_codes_evenly_where_the_nearest_would_not():
    book = np.concatenate([np.zeros((1, 6)), 10 + rng.normal(size=(7, 6))]).astype(np.float32)
    assert set(nearest_codes(VECTORS, book).tolist()) == {0}
    counts = np.bincount(uniform_codes(VECTORS, book), minlength=8)
    assert counts.min() >= 15
    assert counts.max() <= 50  # the code of most mass is taken, which is not the plan itself


def test_unit_rows_leave_zero_alone():
    rows, length = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(length, [[5], [0]])
