"""A split goes out whole, and lists that another framework would make come back with the figures that our own run has."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import yaml

from recbench.cli.foreign.layouts import history_is_training, write_split
from recbench.cli.foreign.results import import_results
from recbench.core.errors import UserError
from recbench.evaluation.statistics.compare import judge
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.report.boards import boards_of
from recbench.report.collect import read_run
from recbench.report.entrants import entrants_of


@pytest.fixture(scope="module")
def ours(run_config, tmp_path_factory):
    """A run with its lists, its config and its data."""
    config = run_config(tmp_path_factory.mktemp("runs"), "model=markov", "evaluation.metrics=[stability]")
    return run(config), config, RunContext.of(config)


@pytest.fixture(scope="module")
def lists(ours):
    """Its lists as a foreign file would hold them, by raw ids."""
    made, _, stage = ours
    stored = pl.read_parquet(made.folder.path / "lists.parquet").with_columns(pl.col("items").arr.to_list())
    rows = stored.with_columns(user=pl.Series(stage.split.test.user)).explode("items")
    rows = rows.with_columns(rank=pl.int_range(1, pl.len() + 1).over("case")).filter(pl.col("items") > 0)
    names, items = stage.data.user_ids()["user_id"], stage.data.item_table()["item"]
    return pl.DataFrame(
        {
            "user": names.gather(rows["user"]),
            "item": items.gather(rows["items"].cast(pl.Int64) - 1),
            "rank": rows["rank"],
        }
    ).sample(fraction=1.0, shuffle=True, seed=1)


def test_lists_come_back_with_our_own_figures_and_stand_in_one_table(ours, lists, tmp_path):
    made, config, _ = ours
    lists.write_csv(tmp_path / "lists.csv")
    folder, metrics = import_results(tmp_path / "lists.csv", "Markov (elsewhere)", config)
    own = made.folder.read("metrics.json")
    # A list orders what the scores tie, so hits may differ by ties at its end alone.
    assert metrics["test/coverage@20"] == own["test/coverage@20"]
    assert metrics["test/novelty@5"] == pytest.approx(own["test/novelty@5"])
    assert metrics["test/ndcg@20"] == pytest.approx(own["test/ndcg@20"], abs=0.03)
    verdicts = judge(entrants_of([made.folder.path, folder.path]), "ndcg@10", resamples=200)
    assert {verdict.name for verdict in verdicts} == {"markov", "Markov (elsewhere)"}
    board = boards_of([read_run(made.folder.path), read_run(folder.path)])
    assert len(board) == 1
    assert {line.name for line in board[0].measured} == {"markov", "Markov (elsewhere)"}
    again, _ = import_results(tmp_path / "lists.csv", "Markov (elsewhere)", config)
    assert again.path == folder.path


def test_ranks_come_back_exactly(ours, tmp_path):
    made, config, stage = ours
    ranks = pl.read_parquet(made.folder.ranks)
    names, items = stage.data.user_ids()["user_id"], stage.data.item_table()["item"]
    table = pl.DataFrame(
        {
            "user": names.gather(ranks["user"]),
            "target": items.gather(ranks["target"].cast(pl.Int64) - 1),
            "rank": ranks["rank"],
        }
    )
    table.write_parquet(tmp_path / "ranks.parquet")
    plain = _without_metrics(config)
    folder, metrics = import_results(tmp_path / "ranks.parquet", "ranks", plain)
    own = made.folder.read("metrics.json")
    for name in ("ndcg@10", "hr@5", "mrr"):
        assert metrics[f"test/{name}"] == pytest.approx(own[f"test/{name}"], rel=1e-12)
    assert np.array_equal(pl.read_parquet(folder.ranks)["rank"], ranks["rank"])
    table.head(5).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(UserError, match="users of the test have no row"):
        import_results(tmp_path / "few.parquet", "x", plain)


def _without_metrics(config):
    from dataclasses import replace

    return replace(config, evaluation=replace(config.evaluation, metrics=[]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: pl.concat([t, t.head(1).with_columns(user=pl.lit("nobody"))]),
            "1 users are unknown to these data, such as 'nobody'",
        ),
        (lambda t: pl.concat([t, t.head(1).with_columns(item=pl.lit("nothing"))]), "1 items are unknown"),
        (lambda t: t.filter(pl.col("user") != t["user"][0]), "1 users of the test have no row"),
        (lambda t: pl.concat([t, t.head(1)]), "holds an item twice"),
        (lambda t: t.drop("rank"), "lists have user, item and rank or score"),
        (lambda t: t.with_columns(rank=pl.lit("first")), "a number in rank"),
    ],
)
def test_a_file_that_does_not_fit_the_split_is_refused(ours, lists, tmp_path, change, message):
    change(lists.cast({"rank": pl.String}) if "first" in message else lists).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match=message):
        import_results(tmp_path / "bad.parquet", "bad", ours[1])


@pytest.mark.parametrize("layout", ["recbole", "rectools"])
def test_a_split_goes_out_whole(ours, tmp_path, layout):
    _, _, stage = ours
    data, split = stage.data, stage.split
    counts = write_split(data, split, layout, tmp_path / "out")
    assert history_is_training(split)
    if layout == "recbole":
        settings = yaml.safe_load((tmp_path / "out" / "recbole.yaml").read_text())
        place = tmp_path / "out" / settings["dataset"]
        parts = [
            pl.read_csv(place / f"{settings['dataset']}.{name}.inter", separator="\t", infer_schema=False)
            for name in settings["benchmark_filename"]
        ]
        assert parts[0].columns == ["user_id:token", "item_id:token", "timestamp:float"]
    else:
        parts = [
            pl.read_parquet(tmp_path / "out" / f"interactions_{n}.parquet") for n in ("train", "validation", "test")
        ]
        assert parts[0].columns == ["user_id", "item_id", "weight", "datetime"]
    assert [part.height for part in parts] == list(counts.values())
    assert sum(counts.values()) == data.n_interactions  # leave-one-out uses every event once
    names, items = data.user_ids()["user_id"].to_list(), data.item_table()["item"].to_list()
    expected = {(names[u], items[t - 1]) for u, t in zip(split.test.user, split.test.targets, strict=True)}
    assert set(zip(parts[2].to_series(0), parts[2].to_series(1), strict=True)) == expected
    with pytest.raises(UserError, match="is there already"):
        write_split(data, split, layout, tmp_path / "out")
