"""When a training validates, whose weights it keeps, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from recbench.experiment import evaluate
from recbench.experiment.run import run
from recbench.models.sequential.sasrec import SASRec

SASREC = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "training.batch_size=200",
    "training.lr=5e-3",
]


def validated(made):
    return [epoch["epoch"] for epoch in made.folder.history() if "validation/ndcg@10" in epoch]


def validation_of(made):
    return {name.partition("/")[2]: v for name, v in made.metrics.items() if name.startswith("validation/")}


def test_validation_comes_every_so_many_epochs_and_after_the_last(run_config, tmp_path):
    made = run(run_config(tmp_path, *SASREC, "training.max_epochs=5", "training.validate_every=2"))
    assert validated(made) == [1, 3, 4]
    history = made.folder.history()
    assert [epoch["epoch"] for epoch in history] == [0, 1, 2, 3, 4]
    assert all("train/loss" in epoch for epoch in history)


@pytest.mark.parametrize(
    ("words", "times"),
    [([*SASREC, "training.max_epochs=3"], 3), (["model=markov"], 1), (["model=rq_kmeans"], 0)],
    ids=["trained", "computed", "codes"],
)
def test_every_epoch_is_validated_once_and_what_is_computed_is_too(run_config, tmp_path, monkeypatch, words, times):
    validate, asked = evaluate.validate, []
    monkeypatch.setattr(evaluate, "validate", lambda *given: asked.append(validate(*given)) or asked[-1])
    made = run(run_config(tmp_path, *words))
    assert len(asked) == times
    assert validation_of(made) == (max(asked, key=lambda values: values["ndcg@10"]) if asked else {})


def test_a_computed_model_can_be_tested_alone_and_validated_later(run_config, tmp_path):
    words = ["model=markov", "evaluation.validate="]
    alone = run(run_config(tmp_path, words[0], words[1] + "false"))
    assert not validation_of(alone)
    assert alone.metrics["test/ndcg@10"] > 0
    later = run(run_config(tmp_path, words[0], words[1] + "true"))
    assert later.reused
    assert later.folder.key == alone.folder.key
    fresh = run(run_config(tmp_path / "other", *words[:1]))
    assert validation_of(later) == validation_of(fresh) != {}
    assert later.metrics["test/ndcg@10"] == alone.metrics["test/ndcg@10"]


def test_what_is_trained_does_not_depend_on_how_often_it_is_validated(run_config, tmp_path):
    often = run(run_config(tmp_path, *SASREC, "training.max_epochs=3"))
    once = run(run_config(tmp_path, *SASREC, "training.max_epochs=3", "training.validate_every=3"))
    assert often.folder.key != once.folder.key
    assert [epoch["train/loss"] for epoch in often.folder.history()] == [
        epoch["train/loss"] for epoch in once.folder.history()
    ]
    assert once.metrics["cost/best_epoch"] == 2
    assert often.metrics["cost/best_epoch"] == 2, "still gaining, so that both keep the weights of the last epoch"
    left, right = load_file(often.folder.weights), load_file(once.folder.weights)
    assert all(np.array_equal(value, right[name]) for name, value in left.items())


def test_patience_ends_at_the_first_validation_that_comes_too_late(run_config, tmp_path):
    words = [*SASREC, "training.max_epochs=40", "training.patience=2", "training.validate_every=3", "training.lr=0.05"]
    made = run(run_config(tmp_path, *words))
    found, best = validated(made), made.metrics["cost/best_epoch"]
    assert found[-1] - best >= 2
    assert found[-1] < 39, "patience did not end this training"
    assert found[-1] - best == 3, "one validation after the best one is late enough"


def test_an_epoch_of_so_many_steps_trains_on_so_many_batches(run_config, tmp_path):
    words = [*SASREC, "training.max_epochs=2", "training.schedule=cosine"]
    made = run(run_config(tmp_path, *words, "training.epoch_steps=2"))
    plain = run(run_config(tmp_path, *words))
    assert made.folder.key != plain.folder.key
    assert run(run_config(tmp_path, *words, "training.epoch_steps=0")).folder.key == plain.folder.key
    every = plain.metrics["cost/targets_per_epoch"]
    steps = -(-every // 200)
    assert steps > 2
    assert made.metrics["cost/targets_per_epoch"] == every * 2 // steps
    assert made.folder.history()[0]["train/loss"] != plain.folder.history()[0]["train/loss"]


def test_fewer_steps_than_none_are_refused(cli, tmp_path):
    answer = cli("model=sasrec", "training.epoch_steps=-1", cwd=tmp_path)
    assert answer.status == 2
    assert "training.epoch_steps" in answer.err


@pytest.mark.parametrize("value", [0, -1])
def test_less_than_every_epoch_is_refused(cli, tmp_path, value):
    answer = cli("model=sasrec", f"training.validate_every={value}", cwd=tmp_path)
    assert answer.status == 2
    assert "training.validate_every" in answer.err


def test_a_model_is_told_that_it_trains_before_the_first_step(run_config, tmp_path, monkeypatch):
    """Lightning leaves the modes of modules as it finds them, so what ``train`` of a model keeps still would not be still."""
    calls, train, loss = [], SASRec.train, SASRec.training_loss
    monkeypatch.setattr(SASRec, "train", lambda model, mode=True: calls.append(mode) or train(model, mode))
    monkeypatch.setattr(SASRec, "training_loss", lambda model, batch: calls.append("step") or loss(model, batch))
    run(run_config(tmp_path, *SASREC, "training.max_epochs=1"))
    assert calls[: calls.index("step")][-1:] == [True]
