"""On the default synthetic data the models stand in their expected order, below what the generator itself could predict."""

import pytest
import torch

from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate

CLOSED_FORM = ("popularity", "recent_popularity", "markov", "itemknn", "ease")


@pytest.fixture(scope="module")
def default(own_cache):
    data = prepare(SyntheticConfig(), own_cache)
    return data, make_split(data, LeaveOneOutConfig(), None), data.manifest["extra"]["oracle"]


@pytest.fixture
def reached(default, fitted):
    data, split, _ = default

    def metrics(name):
        model = fitted(name, TrainingData.of(data, split))
        with torch.no_grad():
            return evaluate(model.score, data, split.test, split, 50).metrics([10])

    return metrics


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_no_closed_form_model_beats_the_oracle(name, reached, default):
    best, found = default[2], reached(name)
    for metric in ("ndcg@10", "hr@10", "mrr"):
        assert found[metric] < best[f"test/{metric}"]


def test_the_order_that_the_structures_promise(reached, default):
    popularity, markov = (reached(name)["ndcg@10"] for name in ("popularity", "markov"))
    best = default[2]["test/ndcg@10"]
    assert 3 * popularity < markov < 0.5 * best


@pytest.mark.slow
def test_a_transformer_passes_what_the_last_item_alone_can_tell(reached, default, run_config, compose, tmp_path):
    from recbench.config.run import RunConfig
    from recbench.experiment.run import run

    words = [
        "model=sasrec",
        "model.dropout=0.2",
        "distillation=none",
        "training.max_epochs=12",
        "hardware=cpu",
        "tracking=off",
    ]
    sasrec = run(RunConfig.from_hydra(compose(*words, f"runs_dir={tmp_path}"))).metrics["test/ndcg@10"]
    assert 1.5 * reached("markov")["ndcg@10"] < sasrec < default[2]["test/ndcg@10"]
