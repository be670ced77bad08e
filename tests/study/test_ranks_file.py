"""ranks.npz: what is written is read back, with equal bytes for equal ranks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.evaluation.metrics import METRICS
from recbench.evaluation.statistics.per_user import mean_per_user
from recbench.study.ranks_file import (
    FILE,
    HISTORY,
    Group,
    KeptRun,
    StudyRanks,
    collect_ranks,
    decode,
    encode,
    read_ranks_file,
    user_totals,
    write_ranks,
)

#: Whole and half ranks that are stored exactly, and infinite ones.
RANKS = st.one_of(st.integers(2, 2048).map(lambda twice: twice / 2), st.just(float("inf")), st.just(32_768.0))


@st.composite
def groups(draw):
    """A group of one to three runs on one to thirty targets; cases and users in any order."""
    n = draw(st.integers(1, 30))
    numbers = st.lists(st.integers(0, 10**6), min_size=n, max_size=n).map(lambda found: np.array(found, np.int64))
    ranks = st.lists(RANKS, min_size=n, max_size=n).map(np.array)
    runs = [KeptRun(f"k{i}", i, (f"row{i}", "b"), draw(ranks)) for i in range(draw(st.integers(1, 3)))]
    history = draw(st.none() | numbers)
    return Group("leave_one_out-full-mask-v1", "f" * 32, "5" * 32, draw(numbers), draw(numbers), history, tuple(runs))


@settings(max_examples=40, deadline=None)
@given(st.lists(groups(), max_size=3))
def test_what_is_written_is_read_back_and_equal_ranks_give_equal_bytes(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("ranks")
    write_ranks(folder / "a.npz", StudyRanks(tuple(made)))
    found = read_ranks_file(folder / "a.npz")
    assert len(found.groups) == len(made)
    for group, wanted in zip(found.groups, made, strict=True):
        assert (group.protocol, group.fingerprint, group.split) == (wanted.protocol, wanted.fingerprint, wanted.split)
        assert np.array_equal(group.case, wanted.case)
        assert np.array_equal(group.user, wanted.user)
        assert (group.history is None) == (wanted.history is None)
        assert group.history is None or np.array_equal(group.history, wanted.history)
        assert [(run.key, run.seed, run.rows) for run in group.runs] == [(r.key, r.seed, r.rows) for r in wanted.runs]
        for run, own in zip(group.runs, wanted.runs, strict=True):
            assert np.array_equal(run.rank, own.rank)
    write_ranks(folder / "b.npz", found)
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()


@given(st.integers(65_536, 10**9).map(lambda twice: twice / 2))
def test_a_rank_beyond_the_range_stays_a_miss_at_every_cutoff_within_it(rank):
    stored, case = decode(encode(np.array([rank]))), np.zeros(1, int)
    assert stored[0] == 32_768.0
    for name in METRICS:
        assert METRICS[name](stored, case, 32_767) == METRICS[name](np.array([rank]), case, 32_767)
    assert abs(1 / stored[0] - 1 / rank) < 1 / 32_768


@given(st.integers(2049, 65_535).map(lambda twice: twice / 2))
def test_a_rank_above_1024_is_a_miss_at_every_cutoff_up_to_there_and_within_one_percent(rank):
    stored = decode(encode(np.array([rank])))
    assert stored[0] > 1024
    assert abs(stored[0] - rank) <= 0.01 * rank
    assert abs(1 / stored[0] - 1 / rank) < 1 / 100_000
    assert np.array_equal(decode(encode(stored)), stored)


@pytest.mark.parametrize("rank", [0.5, 1.25, float("nan"), -3.0, float("-inf")])
def test_what_is_no_rank_is_refused(rank):
    with pytest.raises(UserError, match="wholes or halves from 1"):
        encode(np.array([2.0, rank]))


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    assert read_ranks_file(tmp_path / "none.npz") == StudyRanks()
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    np.savez(tmp_path / "newer.npz", index=np.frombuffer(b'{"version": 99, "groups": []}', np.uint8))
    for name, message in (("text", "cannot read"), ("other", "cannot read"), ("newer", "version 99")):
        with pytest.raises(UserError, match=message):
            read_ranks_file(tmp_path / f"{name}.npz")


def job(path, row, seed=1):
    return SimpleNamespace(folder=RunFolder(path), key=path.name, row=row, seed=seed)


def test_ranks_of_run_folders_are_kept_once_and_survive_their_folders(folders, tmp_path):
    paths = [folders.add(f"a-{seed}", seed=seed) for seed in (1, 2)]
    other = folders.add("b-1", n_users=150)
    jobs = [job(paths[0], "a", 1), job(paths[1], "a", 2), job(other, "b"), job(paths[0], "the same run")]
    kept = collect_ranks(jobs, StudyRanks())
    assert [[run.key for run in group.runs] for group in kept.groups] == [["a-1", "a-2"], ["b-1"]]
    assert kept.groups[0].runs[0].rows == ("a", "the same run")
    write_ranks(tmp_path / FILE, kept)
    read = read_ranks_file(tmp_path / FILE)
    table = pl.read_parquet(paths[1] / "ranks.parquet")
    for name, values in read.columns("a-2").items():
        assert values.tolist() == table[name].to_list()
    assert HISTORY in read.columns("a-2")
    (paths[1] / "ranks.parquet").unlink()
    again = collect_ranks(jobs, read)
    write_ranks(tmp_path / "again.npz", again)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / FILE).read_bytes()


def test_totals_of_users_are_those_of_the_folders(folders):
    paths = [folders.add(f"a-{seed}", seed=seed) for seed in (1, 2)]
    kept = collect_ranks([job(path, "a") for path in paths], StudyRanks())
    found = user_totals(kept, ["a-1", "a-2"], "ndcg@10")
    wanted = mean_per_user([path / "ranks.parquet" for path in paths], "ndcg@10")
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert user_totals(kept, ["a-1", "gone"], "ndcg@10") is None


def test_a_run_takes_about_forty_kilobytes(tmp_path):
    """22,363 users, 12,101 items, ranks drawn so that few are alike: the worst that Beauty can do."""
    n = 22_363
    rank = np.ceil(12_101 * np.random.default_rng(0).random((2, n)))
    runs = [tuple(KeptRun(f"k{i}", i, ("a",), rank[i]) for i in range(count)) for count in (1, 2)]
    for i, some in enumerate(runs):
        group = Group("p", "f", "s", np.arange(n), np.arange(n), None, some)
        write_ranks(tmp_path / f"{i}.npz", StudyRanks((group,)))
    one, two = ((tmp_path / f"{i}.npz").stat().st_size for i in (0, 1))
    assert two - one < 45_000
    assert one < 46_000
