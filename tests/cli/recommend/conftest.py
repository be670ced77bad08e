"""One finished run for the tests of this folder."""

from __future__ import annotations

import pytest

from recbench.experiment.run import run


@pytest.fixture(scope="package")
def finished(run_config, tmp_path_factory):
    """A trained run on the tiny data."""
    words = ("model=sasrec", "model.hidden_size=16", "training.max_epochs=1", "training.max_length=20")
    return run(run_config(tmp_path_factory.mktemp("runs"), *words))
