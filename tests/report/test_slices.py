"""The metric by activity and by popularity."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.evaluation.metrics import METRICS
from recbench.report.boards import boards_of
from recbench.report.collect import read_folder
from recbench.report.slices import Slices, _Groups, by_activity, by_popularity, training_counts


def test_groups_cover_every_value_once():
    values = np.array([3, 3, 3, 3, 4, 5, 9, 20, 20, 21])
    groups = _Groups.of(values)
    assert sum(groups.sizes) == len(values)
    assert groups.labels[0].startswith("3")
    assert groups.labels[-1].endswith("21")
    assert groups.mean(values, np.ones(10)).tolist() == [1.0] * len(groups.labels)


def test_one_value_is_one_group():
    assert _Groups.of(np.array([5, 5, 5])).labels == ("5",)


def test_activity_means_are_those_of_the_users_in_each_group(folders):
    folders.add("a-1", seed=1)
    folders.add("a-2", seed=2)
    (board,) = boards_of(read_folder(folders.path))
    found = by_activity(board)
    assert isinstance(found, Slices)
    assert sum(found.counts) == 200
    weighted = np.average(found.values["sasrec"], weights=found.counts)
    assert weighted == pytest.approx(board.lines[0].mean("ndcg@10"))


def test_without_the_prepared_data_popularity_is_skipped_with_a_word(folders, tmp_path):
    folders.add("a-1")
    (board,) = boards_of(read_folder(folders.path))
    assert "the prepared data are not here" in by_popularity(board, [tmp_path])


def test_without_ranks_both_are_skipped_with_a_word(folders):
    folders.add("a-1", ranks=False)
    (board,) = boards_of(read_folder(folders.path))
    assert by_activity(board).startswith("By user activity: skipped")
    assert by_popularity(board, []).startswith("By item popularity: skipped")


def test_popularity_counts_are_those_of_training_alone(folders, tiny_data, tiny_split, own_cache):
    from recbench.data.training import TrainingData

    folders.add("a-1", data=tiny_data.fingerprint, split=tiny_split.split_hash)
    (run,) = read_folder(folders.path)
    counts = training_counts(run, [own_cache])
    assert counts.tolist() == np.asarray(TrainingData.of(tiny_data, tiny_split).item_counts()).tolist()
    (board,) = boards_of([run])
    found = by_popularity(board, [own_cache])
    assert isinstance(found, Slices)
    ranks = pl.read_parquet(run.ranks)
    of, rank = counts[ranks["target"].to_numpy()], ranks["rank"].to_numpy()
    top = of >= int(found.labels[-1].split("–")[0].replace(",", ""))
    expected = METRICS["ndcg"](rank[top], np.arange(top.sum()), 10).mean()
    assert found.values["sasrec"][-1] == pytest.approx(expected)


def test_a_split_that_this_version_makes_otherwise_is_not_believed(folders, tiny_data, own_cache):
    folders.add("a-1", data=tiny_data.fingerprint, split="0" * 32)
    (run,) = read_folder(folders.path)
    assert training_counts(run, [own_cache]) == "this version splits the prepared data differently"
