"""Catalogues so wide that a block holds few users: stated memory, and the figures of any other way to rank them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.evaluation.blocks import BLOCK_SCORES, WIDE_BLOCK_SCORES, WIDE_ROWS, block_rows, is_wide
from recbench.evaluation.evaluate import evaluate
from recbench.experiment.asking import score_function
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

MAX_LENGTH = 5


@pytest.fixture(scope="module")
def wide(make_data):
    """(data, split, model): 70 users over 300,000 items, and an untrained model."""
    generator = np.random.default_rng(3)
    data = make_data(
        [generator.integers(1, 300_001, generator.integers(3, 9)).tolist() for _ in range(70)], n_items=300_000
    )
    torch.manual_seed(1)
    model = SASRec(
        SASRecConfig(hidden_size=4, n_heads=1, n_layers=1), ModelContext(data.n_items, data.n_users, MAX_LENGTH)
    )
    return data, make_split(data, LeaveOneOutConfig(seen_items="mask"), None), model.eval()


def test_blocks_keep_to_their_bounds_and_narrow_ones_are_as_ever():
    for n_items in (12_101, 100_000, 262_000):
        assert block_rows(n_items, 1) == BLOCK_SCORES // (n_items + 1)
        assert not is_wide(n_items) or block_rows(n_items, 1) >= WIDE_ROWS
    for n_items in (300_000, 1_000_000, 3_000_000, 30_000_000):
        rows = block_rows(n_items, 1)
        assert is_wide(n_items)
        assert 1 <= rows <= WIDE_ROWS
        assert rows * (n_items + 1) <= WIDE_BLOCK_SCORES
    assert block_rows(1_000_000, 50) == 32
    assert block_rows(2 * WIDE_BLOCK_SCORES, 50) == 1


def test_no_tensor_of_an_evaluation_is_larger_than_the_stated_block(wide, largest_made):
    data, split, model = wide
    with largest_made() as largest:
        found = evaluate(score_function(model, torch.device("cpu")), data, split.test, split, MAX_LENGTH, top_k=10)
    assert len(found.rank) == 70
    rows = block_rows(data.n_items, MAX_LENGTH)
    assert rows == 27 or rows == WIDE_ROWS
    assert 2**22 < largest.values <= rows * (data.n_items + 1) <= WIDE_BLOCK_SCORES


def test_ranks_and_lists_are_those_of_plain_scores(wide):
    data, split, model = wide
    wanted = evaluate(model.score, data, split.test, split, MAX_LENGTH, top_k=10, rows=7)
    found = evaluate(score_function(model, torch.device("cpu")), data, split.test, split, MAX_LENGTH, top_k=10)
    # Products of another shape may round otherwise: a rank may move past a score that is equal but for the last bit.
    assert np.abs(found.rank - wanted.rank).max() <= 2
    assert (found.top_k == wanted.top_k).mean() > 0.99
    again = evaluate(score_function(model, torch.device("cpu")), data, split.test, split, MAX_LENGTH, top_k=10)
    assert np.array_equal(found.rank, again.rank)


def test_items_of_equal_vectors_stay_tied(wide):
    data, split, model = wide
    with torch.no_grad():
        model.item_embedding.weight[1:] = model.item_embedding.weight[1].clone()
    found = evaluate(score_function(model, torch.device("cpu")), data, split.test, split, MAX_LENGTH)
    seen = found.n_equal - (data.n_items - found.history_length)
    assert ((seen >= 0) & (seen <= 8)).all()  # all items but the distinct ones of the history


def test_a_narrow_catalogue_is_scored_by_the_model_itself(tiny_data):
    model = SASRec(SASRecConfig(), ModelContext(tiny_data.n_items, tiny_data.n_users, 5))
    assert score_function(model, torch.device("cpu")) == model.score
    assert is_wide(1_000_000)
