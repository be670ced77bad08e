"""What MLflow is told: names that a person reads, few costs, parameters as on the command line."""

from __future__ import annotations

from recbench.config.run_name import run_name
from recbench.tracking.describe import COSTS, metrics_of, parameters_of, sweep_tags, tags_of


def test_eight_costs_at_most_are_metrics():
    final = {"test/ndcg@10": 0.1, "cost/device": "cpu", **dict.fromkeys(COSTS, 1.0), "cost/energy_joules": 5.0}
    names = [point.name for point in metrics_of(final, [], 0, 0)]
    assert names[0] == "test/ndcg_at_10"
    assert sorted(names[1:]) == sorted(COSTS)
    assert len(COSTS) <= 8


def test_parameters_are_named_as_on_the_command_line():
    config = {
        "seed": 1,
        "model": {"name": "slmrec", "item_table": {"model": "sasrec"}},
        "evaluation": {"cutoffs": [1, 10]},
        "tracking": {"uri": "postgresql://me:secret@host/db"},
    }
    assert dict(parameters_of(config)) == {
        "seed": "1",
        "model": "slmrec",
        "model.item_table.model": "sasrec",
        "evaluation.cutoffs": "[1, 10]",
    }


def test_a_run_is_called_by_its_model_what_sets_it_apart_and_its_seed():
    config = {"model": {"name": "sasrec"}, "data": {"name": "synthetic"}, "seed": 2}
    assert tags_of("sasrec-1", config, {}, {})["mlflow.runName"] == "sasrec seed 2"
    assert run_name({**config, "compression": {"name": "int8"}}) == "sasrec (int8) seed 2"
    words = ["model=sasrec", "seed=2", "data=amazon", "training.lr=0.1", "hardware.threads=1", "+model.n_layers=3"]
    assert run_name(config, words) == "sasrec (data=amazon, lr=0.1, n_layers=3) seed 2"


def test_a_sweep_is_called_by_its_words():
    tags = sweep_tags("2026-11-28", ["-m", "data=amazon", "model=a,b", "hardware=cpu"], None)
    assert tags["mlflow.runName"] == "sweep model=a,b data=amazon"
    assert tags["recbench.sweep"] == "-m data=amazon model=a,b hardware=cpu"
    assert sweep_tags("2026-11-28", ["-m"], None)["mlflow.runName"] == "sweep 2026-11-28"
