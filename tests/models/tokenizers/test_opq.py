"""Product codes: what they reconstruct, and vectors that hold less than was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.registry import lookup
from recbench.models.tokenizers.opq import product_codes, whitened
from recbench.nn.codes.quantization import relative_error


def test_whitened_components_have_unit_variance_and_no_correlation():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(500, 10)) @ generator.normal(size=(10, 10)) + 3
    found = whitened(vectors, components=6, pieces=3)
    assert found.shape == (500, 6)
    np.testing.assert_allclose(found.T @ found / 500, np.eye(6), atol=1e-4)


@pytest.mark.parametrize(
    ("rank", "components", "pieces", "width"), [(3, 8, 4, 4), (5, 8, 4, 8), (0, 8, 4, 4), (8, 6, 4, 8)]
)
def test_directions_without_content_are_dropped_and_the_width_is_a_multiple_of_the_pieces(
    rank, components, pieces, width
):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, rank)) @ generator.normal(size=(rank, 12))
    found = whitened(vectors, components, pieces)
    assert found.shape == (50, width)
    assert (found.std(axis=0) > 0.5).sum() == min(rank, components)


def test_a_turn_helps_and_more_codes_reconstruct_more():
    generator = np.random.default_rng(0)
    # Clusters in pairs of directions that the first, random turn mixes.
    centres = generator.normal(size=(4, 8, 2))
    chosen = generator.integers(0, 8, size=(4, 600))
    vectors = np.concatenate([centres[p, chosen[p]] for p in range(4)], axis=1).astype(np.float32)
    vectors = vectors @ np.linalg.qr(generator.normal(size=(8, 8)))[0].astype(np.float32)
    errors = {rounds: relative_error(vectors, product_codes(vectors, 4, 8, rounds, 0).vectors) for rounds in (0, 5, 40)}
    assert errors[40] < errors[5] < errors[0] < 1
    fewer = relative_error(vectors, product_codes(vectors, 4, 3, 40, 0).vectors)
    assert errors[40] < fewer < 1


def test_as_many_codes_as_vectors_reconstruct_them():
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    found = product_codes(vectors, 3, 32, 4, 0)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-4)
    assert found.codes.shape == (20, 3)


def fitted(train, seed, **keys):
    entry = lookup("opq")
    vectors = torch.randn(train.n_items + 1, 6, generator=torch.Generator().manual_seed(0))
    model = entry.model(entry.config(**keys), ModelContext(train.n_items, 1, 5, seed=seed, text_vectors=vectors))
    model.fit_to(train)
    return model


def test_the_seed_decides(training_of):
    train = training_of([[1, 2, 3]], n_items=30)
    codes = [fitted(train, seed, levels=4, codebook_size=4, components=6).codes for seed in (1, 1, 2)]
    assert codes[0].shape == (31, 4)
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


@pytest.mark.parametrize("keys", [{"components": 0}, {"rounds": -1}])
def test_keys_that_make_no_sense_are_refused(keys):
    entry = lookup("opq")
    with pytest.raises(UserError, match="components"):
        entry.model(entry.config(**keys), ModelContext(3, 1, 5))
