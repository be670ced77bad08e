"""A sweep whose rows are not tuned alike says so before its first job."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from recbench.experiment import sweep_tuned
from recbench.experiment.sweep_tuned import tuned_alike


def asked(*words, model="slmrec", data="synthetic"):
    hydra = {"overrides": {"task": list(words)}, "runtime": {"choices": {"model": model, "data": data}}}
    return tuned_alike(OmegaConf.create({"hydra": hydra}))


@pytest.fixture
def files(monkeypatch):
    """Only these two are there."""
    monkeypatch.setattr(sweep_tuned, "is_shipped", lambda name: name in ("sasrec-synthetic", "gru4rec-synthetic"))


@pytest.mark.parametrize(
    "words",
    [
        ["model=sasrec,gru4rec"],  # both have a file
        ["model=sasrec,popularity,ease"],  # what has no epochs has nothing to tune
        ["model=sasrec,bert4rec", "tuned=off"],
        ["model=bert4rec,hstu"],  # neither has one
        ["model=sasrec", "data=synthetic", "seed=1,2"],
    ],
)
def test_rows_that_are_alike_are_not_spoken_of(files, words):
    assert asked(*words) is None


def test_rows_without_a_file_are_named(files):
    said = asked("model=sasrec,bert4rec,slmrec_plain,popularity", "seed=1,2")
    assert said is not None
    assert "bert4rec, slmrec_plain have no values from a tuned file" in said
    assert "bert4rec has no values" in (asked("model=gru4rec,bert4rec") or "")
    # Of several data sets only those count where another row has a file.
    assert "bert4rec on synthetic has no" in (asked("model=sasrec,bert4rec", "data=synthetic,amazon") or "")


def test_it_is_said_before_the_first_job(cli, tiny, tmp_path, files):
    words = ["-m", "model=sasrec,no_such_model", *tiny]
    assert cli(*words, cwd=tmp_path).status == 2
    words = ["-m", "model=sasrec,bert4rec", "training.max_epochs=1", "training.max_length=-1", *tiny]
    found = cli(*words, cwd=tmp_path)  # both jobs fail at once
    assert found.err.index("not tuned alike") < found.err.index("max_length")
