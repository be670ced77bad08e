"""Sampled candidates: outside the user's sequence, uniform, seeded, drawn once."""

import os

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import SampledConfig
from recbench.data.split import make_split
from recbench.data.store import PreparedData

N_USERS, N_ITEMS = 60, 80


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 25, N_USERS)
    items = generator.integers(1, N_ITEMS + 1, lengths.sum())
    return PreparedData.from_arrays(
        tmp_path / "data", items, np.concatenate([[0], np.cumsum(lengths)]), n_items=N_ITEMS
    )


@pytest.mark.parametrize("n_candidates", [1, 10, 55])
def test_candidates_are_distinct_and_outside_the_complete_sequence(data, n_candidates):
    split = make_split(data, SampledConfig(n_candidates=n_candidates), None)
    for cases in (split.validation, split.test):
        assert cases.candidates.shape == (len(cases), n_candidates)
        assert cases.candidates.dtype == np.int32
        for user, negatives in zip(cases.user, cases.candidates, strict=True):
            sequence = set(data.items[data.offsets[user] : data.offsets[user + 1]].tolist())
            assert not sequence & set(negatives.tolist())
            assert len(set(negatives.tolist())) == n_candidates
            assert negatives.min() >= 1
            assert negatives.max() <= N_ITEMS


def test_every_unseen_item_can_be_drawn_up_to_the_last(tmp_path):
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 3, 4, 5, 6]), np.array([0, 3, 6]), n_items=9)
    split = make_split(data, SampledConfig(n_candidates=6), None)
    assert np.sort(split.test.candidates, axis=1).tolist() == [[4, 5, 6, 7, 8, 9], [1, 2, 3, 7, 8, 9]]


def test_draws_are_uniform(tmp_path):
    n_users, n_items, n_candidates = 4000, 13, 5
    items = np.tile([1, 2, 3], n_users)
    data = PreparedData.from_arrays(tmp_path, items, np.arange(0, 3 * n_users + 1, 3), n_items=n_items)
    candidates = make_split(data, SampledConfig(n_candidates=n_candidates), None).test.candidates
    # Together and in the first place alone: ten items are unseen, each should have a tenth.
    for drawn in (candidates, candidates[:, 0]):
        counts = np.bincount(drawn.ravel(), minlength=n_items + 1)
        assert counts[:4].sum() == 0
        five_deviations = 5 * np.sqrt(0.09 / counts.sum())
        assert np.abs(counts[4:] / counts.sum() - 0.1).max() < five_deviations


def test_seed_and_part_decide_what_is_drawn(data):
    first, again = (make_split(data, SampledConfig(n_candidates=10), None) for _ in range(2))
    other = make_split(data, SampledConfig(n_candidates=10, seed=1), None)
    assert np.array_equal(first.test.candidates, again.test.candidates)
    assert first.split_hash == again.split_hash != other.split_hash
    assert not np.array_equal(first.test.candidates, other.test.candidates)
    assert not np.array_equal(first.test.candidates, first.validation.candidates)
    assert (first.protocol_id, first.metric_prefix) == ("leave_one_out-uniform10.s0-keep-v1", "sampled10_")


def test_chunks_do_not_repeat_each_other(data, monkeypatch):
    monkeypatch.setattr("recbench.data.candidates.CHUNK_DRAWS", 200)
    candidates = make_split(data, SampledConfig(n_candidates=10), None).test.candidates
    assert len(np.unique(np.sort(candidates, axis=1), axis=0)) == len(candidates)


def test_files_are_reused_and_equal_what_memory_gives(data, tmp_path):
    cache, config = tmp_path / "cache", SampledConfig(n_candidates=10)
    first = make_split(data, config, cache)
    files = sorted(cache.iterdir())
    assert len(files) == 2
    assert all(path.suffix == ".npy" for path in files)
    assert isinstance(first.test.candidates, np.memmap)
    times = [path.stat().st_mtime_ns for path in files]
    second = make_split(data, config, cache)
    assert [path.stat().st_mtime_ns for path in sorted(cache.iterdir())] == times
    assert first.split_hash == second.split_hash == make_split(data, config, None).split_hash
    make_split(data, SampledConfig(n_candidates=11), cache)
    assert len(list(cache.iterdir())) == 4


def test_a_damaged_file_is_drawn_again(data, tmp_path):
    cache, config = tmp_path / "cache", SampledConfig(n_candidates=10)
    expected = make_split(data, config, cache).split_hash
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert make_split(data, config, cache).split_hash == expected


def test_small_catalogue_is_refused_with_numbers(data):
    with pytest.raises(UserError, match=r"wants 79 negatives .*\(catalogue 80"):
        make_split(data, SampledConfig(n_candidates=79), None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_cache_is_the_users_error(data, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cache_dir"):
        make_split(data, SampledConfig(n_candidates=10), tmp_path / "locked" / "cache")


def test_cache_that_is_a_file_is_the_users_error(data, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(UserError, match="cache_dir"):
        make_split(data, SampledConfig(n_candidates=10), tmp_path / "cache")
