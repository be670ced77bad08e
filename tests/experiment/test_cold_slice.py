"""The slice of items without a training event: its figures, and what a person sees of it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.evaluation.metrics import ranking_metrics
from recbench.experiment.context import RunContext
from recbench.experiment.run import run

WORDS = ("protocol=temporal", "protocol.test_quantile=0.95", "data=table", "data.k_core=0", "training.max_length=10")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Events over 12 items, to which three new ones come at the end."""
    generator = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{generator.integers(15 if time > 90 else 12)}", time)
        for user in range(40)
        for time in sorted(generator.choice(100, 12, replace=False).tolist())
    ]
    path = tmp_path_factory.mktemp("events") / "events.csv"
    pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row").write_csv(path)
    return (*WORDS, f"data.path={path}", "tracking=off", "hardware=cpu")


@pytest.fixture(scope="module")
def config_of(compose, words, tmp_path_factory):
    from recbench.config.run import RunConfig

    place = tmp_path_factory.mktemp("runs")
    return lambda *more: RunConfig.from_hydra(compose(*words, f"runs_dir={place}", *more))


def test_figures_of_cold_targets_and_of_the_others(config_of):
    config = config_of("model=markov")
    stage, made = RunContext.of(config), run(config_of("model=markov"))
    ranks = pl.read_parquet(made.folder.ranks)
    counts = np.zeros(stage.data.n_items + 1)
    for start, end in zip(stage.split.train_start, stage.split.train_end, strict=True):
        np.add.at(counts, stage.data.items[start:end], 1)
    cold = counts[ranks["target"].to_numpy()] == 0
    assert 0 < cold.sum() == made.metrics["cold/targets"] < len(cold)
    for part, chosen in (("cold", cold), ("warm", ~cold)):
        rank = ranks["rank"].to_numpy()[chosen]
        expected = ranking_metrics(
            rank, np.arange(len(rank)), np.ones(len(rank), int), stage.data.n_items, [1, 5, 10, 20]
        )
        for name in ("ndcg@10", "hr@5", "mrr@20", "mrr"):
            assert made.metrics[f"{part}/{name}"] == pytest.approx(expected[name])


def test_a_run_prints_the_slice_and_drop_leaves_none(config_of, words, cli, tmp_path):
    done = cli(*words, "model=markov", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "targets are items without a training event: ndcg@10 0." in done.out
    dropped = cli(*words, "model=markov", "protocol.cold_items=drop", cwd=tmp_path)
    assert dropped.status == 0, dropped.err
    assert "without a training event:" not in dropped.out
    assert "-last-warm-" in dropped.out


def test_the_report_has_a_column_for_items_without_events(config_of):
    from recbench.report.slices import _Groups

    groups = _Groups.with_zero(np.array([0, 0, 0, 0, 0, 1, 2, 3, 9, 9]))
    assert groups.labels[0] == "0"
    assert groups.sizes[0] == 5
    assert sum(groups.sizes) == 10
    assert _Groups.with_zero(np.array([1, 2, 3])).labels == _Groups.of(np.array([1, 2, 3])).labels


def test_other_splits_have_other_keys_and_the_default_its_own(config_of):
    from recbench.experiment.key import run_key

    keys = []
    for word in ("protocol.cold_items=rank", "protocol.cold_items=drop", "protocol.fit_on_validation=true"):
        config = config_of("model=markov", word)
        keys.append(run_key(config, RunContext.of(config)))
    plain = config_of("model=markov")
    assert keys[0] == run_key(plain, RunContext.of(plain))
    assert len(set(keys)) == 3


def test_recommend_lists_no_item_that_is_not_ranked(config_of, tmp_path):
    from recbench.cli.recommend.bulk import recommend_all
    from recbench.cli.recommend.model_of_run import open_model

    made = run(config_of("model=popularity", "protocol.cold_items=drop"))
    opened = open_model(made.folder.path)
    recommend_all(opened, tmp_path / "lists.parquet", 50, mask_seen=False)
    listed = set(pl.read_parquet(tmp_path / "lists.parquet")["item"])
    items = opened.stage.data.item_table()["item"].to_numpy()
    assert listed == set(items[opened.stage.split.ranked[1:]])
    assert len(listed) < len(items)
