"""evaluation.monitor: the metric that keeps an epoch and ends a training, its key, and the key at the default."""

from __future__ import annotations

import pytest

from recbench.config.run import RunConfig
from recbench.config.settings import EvaluationConfig
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key
from recbench.experiment.run import run
from tests.fixtures.words import SASREC

WORDS = [*SASREC, "training.max_epochs=8", "training.batch_size=150", "training.lr=0.03", "training.patience=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("monitor", ["hr@3", "mrr", "recall@7", "precision@2"])
def test_the_best_epoch_is_that_of_the_named_metric(run_config, place, monitor):
    made = run(run_config(place, *WORDS, f"evaluation.monitor={monitor}"))
    curve = [epoch[f"validation/{monitor}"] for epoch in made.folder.history()]
    best = made.metrics["cost/best_epoch"]
    assert curve[best] == max(curve)
    assert len(curve) == 8 or len(curve) - 1 - best == 3
    assert made.metrics[f"validation/{monitor}"] == made.validation == curve[best]
    assert f"test/{monitor}" not in made.metrics or monitor == "mrr"


def test_with_one_target_recall_is_the_hit_rate(run_config, place):
    made = run(run_config(place, *WORDS, "evaluation.monitor=recall@10"))
    assert all(epoch["validation/recall@10"] == epoch["validation/hr@10"] for epoch in made.folder.history())


def test_the_key_changes_only_where_the_choice_can(run_config, place):
    def key(*words):
        config = run_config(place, *words)
        return run_key(config, stage)

    stage = RunContext.of(run_config(place, *WORDS))
    assert key(*WORDS) == key(*WORDS, "evaluation.monitor=ndcg@10")
    assert key(*WORDS) != key(*WORDS, "evaluation.monitor=hr@10")
    other = [*WORDS, "evaluation.cutoffs=[5,50]"]
    assert key(*other) == key(*other, "evaluation.monitor=ndcg@50") != key(*other, "evaluation.monitor=ndcg@10")
    assert key("model=markov") == key("model=markov", "evaluation.monitor=hr@3")


def test_a_stored_config_knows_it_and_one_of_before_gets_the_usual(run_config, place):
    config = run_config(place, *WORDS, "evaluation.monitor=hr@3")
    assert RunConfig.from_dict(config.as_dict()).evaluation.monitor == "hr@3"
    before = config.as_dict()
    del before["evaluation"]["monitor"]
    assert RunConfig.from_dict(before).evaluation.monitor == "ndcg@10"
    assert EvaluationConfig([7, 3]).monitor == "ndcg@7"


def test_two_runs_that_differ_by_it_are_two_entrants(run_config, place):
    from recbench.report.entrants import entrants_of

    runs = [run(run_config(place, *WORDS, f"evaluation.monitor={name}")).folder.path for name in ("hr@3", "mrr")]
    names = [entrant.name for entrant in entrants_of(runs)]
    assert len(set(names)) == 2
    assert any("hr@3" in name or "mrr" in name for name in names)


def test_the_help_and_a_mistake_name_it(cli, tiny, tmp_path):
    assert "monitor" in cli("--help", cwd=tmp_path).out
    wrong = cli(*tiny, *WORDS, "evaluation.monitor=ndgc@7", cwd=tmp_path)
    assert wrong.status == 2
    assert wrong.err.count("\n") == 1
    assert "did you mean 'ndcg@7'?" in wrong.err
    assert not (tmp_path / "runs").exists()
