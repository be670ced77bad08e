"""A small SASRec that was trained for a few epochs, which the tests compress in every way."""

from __future__ import annotations

import pytest

SASREC = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=32",
    "model.n_layers=2",
    "training.max_epochs=6",
    "training.batch_size=256",
    "training.lr=1e-2",
]


@pytest.fixture(scope="package")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("compression")


@pytest.fixture(scope="package")
def made(runs_dir, run_config):
    """made("compression=int8", ...) -> the finished Run, all in one folder of runs."""
    from recbench.experiment.run import run

    return lambda *words: run(run_config(runs_dir, *SASREC, *words))


@pytest.fixture(scope="package")
def original(made):
    return made()


@pytest.fixture(scope="package")
def stage(original):
    from recbench.experiment.context import RunContext

    return RunContext.of(original.config)


@pytest.fixture
def model_of(stage):
    """model_of(run) -> its model, read anew from its folder."""
    from recbench.experiment.build import load_model

    return lambda finished: load_model(finished, stage)


@pytest.fixture(scope="package")
def batch(stage):
    """The histories of all test cases, up to 50 events."""
    import numpy as np

    from recbench.evaluation.cost.efficiency import batches_of

    cases = stage.split.test
    return batches_of(stage.data, cases, 50, "cpu")(np.arange(len(cases)))
