"""Generators as whole runs: codes, training, lists, ranks and metrics from one command; what cannot be ranked is refused before training."""

from __future__ import annotations

import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.experiment.build import load_model
from recbench.experiment.run import open_run, run

SMALL = [
    *("model=tiger", "model.hidden_size=32", "model.n_layers=1", "model.n_heads=2", "model.head_size=16"),
    *("model.feedforward_size=64", "model.dropout=0", "model.tokenizer.levels=2", "model.tokenizer.codebook_size=8"),
    *("training.max_epochs=1", "training.batch_size=256", "training.lr=5e-3"),
]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def free(run_config, runs_dir):
    """A run whose beams may leave the trie."""
    return run(run_config(runs_dir, *SMALL, "model.constrained=false", "model.beams=20"))


def test_a_run_of_lists_has_metrics_ranks_and_a_rate_of_invalid_ids(free):
    assert [name.split("-")[0] for name in (part.folder.key for part in free.dependencies.values())] == ["rq_kmeans"]
    metrics = free.metrics
    # Of 64 codes of two levels most items share some, and a digit follows: an untaught network spells many ids that no item has.
    assert 0 < metrics["test/invalid@10"] < 1
    assert 0 < metrics["test/hr@10"] < metrics["test/hr@20"] <= 1
    ranks = pl.read_parquet(free.folder.ranks)
    listed = ranks.filter(~pl.col("truncated"))["rank"]
    assert listed.max() <= 40
    assert ranks.filter(pl.col("truncated"))["rank"].is_infinite().all()
    assert metrics["test/hr@10"] == pytest.approx((ranks["rank"] <= 10).mean())
    assert metrics["test/truncated"] == pytest.approx(ranks["truncated"].mean())


def test_ranks_of_lists_can_be_compared_user_by_user(free):
    from recbench.evaluation.statistics.per_user import mean_per_user

    _, values = mean_per_user([free.folder.ranks], "mrr")
    assert values.mean() == pytest.approx(free.metrics["test/mrr"])
    assert mean_per_user([free.folder.ranks], "ndcg@10")[1].mean() == pytest.approx(free.metrics["test/ndcg@10"])


def test_a_stored_run_answers_without_its_tokenizer(free):
    found, stage = open_run(free.folder.path)
    model = load_model(found, stage)
    assert model.codes.shape == (stage.data.n_items + 1, 3)
    assert model.trie.n_items == stage.data.n_items


def test_constrained_lists_hold_items_only(run_config, runs_dir):
    metrics = run(run_config(runs_dir, *SMALL, "model.beams=60")).metrics
    assert metrics["test/invalid@20"] == 0


def test_given_candidates_need_the_exact_scores(run_config, runs_dir):
    sampled = [*SMALL, "protocol=sampled_999", "protocol.n_candidates=20"]
    with pytest.raises(UserError, match=r"'tiger'.*model.decoder=exact"):
        run(run_config(runs_dir, *sampled))
    metrics = run(run_config(runs_dir, *sampled, "model.decoder=exact")).metrics
    assert any(name.startswith("test/") and name.endswith("hr@10") for name in metrics)
    assert not any("truncated" in name for name in metrics)


def test_fewer_beams_than_a_cutoff_are_refused(run_config, runs_dir):
    with pytest.raises(UserError, match=r"at most 10 items a user, fewer than the cutoff 20: raise model.beams"):
        run(run_config(runs_dir, *SMALL, "model.beams=10"))


@pytest.mark.parametrize("name", ["tiger", "rpg"])
def test_a_model_that_makes_no_codes_is_refused_before_it_is_trained(run_config, runs_dir, name):
    with pytest.raises(UserError, match=r"model.tokenizer.model=sasrec makes no codes"):
        run(run_config(runs_dir, f"model={name}", "model.tokenizer.model=sasrec"))


@pytest.mark.parametrize(("name", "tokenizer"), [("tiger", "rq_kmeans"), ("rpg", "opq")])
def test_data_without_text_are_refused_by_name(compose, tmp_path, name, tokenizer):
    from recbench.config.run import RunConfig

    events = [f"u{u},i{(u + t) % 9},{t}" for u in range(12) for t in range(5)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,timestamp", *events]))
    words = [f"model={name}", "data=table", f"data.path={tmp_path / 'events.csv'}", "data.k_core=0", "tracking=off"]
    config = RunConfig.from_hydra(compose(*words, f"runs_dir={tmp_path}", f"cache_dir={tmp_path}", "hardware=cpu"))
    with pytest.raises(UserError, match=rf"'{tokenizer}' needs text.*data=table does not have"):
        run(config)


def test_the_papers_sizes_bring_its_schedule_and_leave_tiger_as_it_is(compose):
    from recbench.config.run import RunConfig

    paper = RunConfig.from_hydra(compose("model=tiger_paper", "data=amazon"))
    assert (paper.model.name, paper.model.n_layers, paper.model.dropout) == ("tiger", 4, 0.1)
    assert (paper.model.user_tokens, paper.model.separator) == (2000, False)
    assert (paper.training.schedule, paper.training.warmup_steps, paper.training.batch_size) == (
        "inverse_sqrt",
        10000,
        256,
    )
    plain = RunConfig.from_hydra(compose("model=tiger", "data=amazon"))
    assert (plain.model.n_layers, plain.training.schedule) == (6, "cosine")
