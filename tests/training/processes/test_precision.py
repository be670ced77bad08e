"""Precision and compilation are matters of hardware: the same run, and the same figures to rounding."""

from __future__ import annotations

import logging
import math
import shutil

import pytest
import torch

from recbench.experiment.run import run
from recbench.training import fit
from recbench.training.strategies import Compiled, compiler_problem

SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "model.dropout=0"]
WORDS = [*SASREC, "training.max_epochs=4", "training.batch_size=200", "training.lr=5e-3", "hardware.logits=float32"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, run_config):
    return run(run_config(tmp_path_factory.mktemp("plain"), *WORDS))


def assert_near(made, plain, share):
    """The same key, finite figures, and losses and accuracy within a share of each other."""
    assert made.folder.key == plain.folder.key
    assert all(math.isfinite(value) for value in made.metrics.values() if isinstance(value, float))
    losses = [[epoch["train/loss"] for epoch in each.folder.history()] for each in (made, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=share)
    assert made.metrics["test/ndcg@10"] == pytest.approx(plain.metrics["test/ndcg@10"], rel=10 * share)


def test_mixed_precision_is_near_full_precision(plain, run_config, tmp_path):
    made = run(run_config(tmp_path, *WORDS, "hardware.precision=bf16-mixed"))
    assert_near(made, plain, 0.01)
    assert made.folder.history() != plain.folder.history()  # it was another precision


def test_without_a_compiler_training_goes_on_and_says_so(plain, run_config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fit, "compiler_problem", lambda device: "no C++ compiler")
    monkeypatch.setattr(logging.getLogger("recbench"), "propagate", True)
    made = run(run_config(tmp_path, *WORDS, "hardware.compile=true"))
    assert "torch.compile does not work here (no C++ compiler); training goes on without it" in caplog.text
    assert [e["train/loss"] for e in made.folder.history()] == [e["train/loss"] for e in plain.folder.history()]


def test_the_layers_are_compiled_in_training_only(monkeypatch):
    class Model(torch.nn.Module):
        def hidden_states(self):
            return "plain"

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: lambda: f"compiled {function()}")
    model = Model()
    callback = Compiled(model)
    assert model.hidden_states() == "plain"
    callback.on_train_epoch_start(None, None)
    assert model.hidden_states() == "compiled plain"
    callback.on_train_epoch_end(None, None)
    assert model.hidden_states() == "plain"
    callback.on_train_epoch_start(None, None)
    callback.on_exception(None, None, RuntimeError())
    assert model.hidden_states() == "plain"
    assert not torch._dynamo.config.suppress_errors


@pytest.mark.slow  # the compiler takes its time
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_compiled_layers_give_the_same_losses(plain, run_config, tmp_path):
    assert compiler_problem(torch.device("cpu")) is None
    assert_near(run(run_config(tmp_path, *WORDS, "hardware.compile=true")), plain, 1e-4)
