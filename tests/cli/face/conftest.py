"""A small sweep and a small training that the tests of the face share."""

from __future__ import annotations

import contextlib

import pytest

import recbench


@pytest.fixture(scope="session")
def small():
    """Words of a sasrec that trains in a second."""
    sizes = ["model.hidden_size=16", "model.feedforward_size=16", "model.n_layers=1"]
    return ["model=sasrec", *sizes, "training.max_epochs=2", "training.batch_size=256"]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The working folder of the shared runs."""
    return tmp_path_factory.mktemp("face")


@pytest.fixture(scope="session")
def words(tiny, place):
    return [*tiny, f"runs_dir={place}/runs"]


@pytest.fixture(scope="session")
def counted(words, place):
    """popularity and markov, two seeds each."""
    with contextlib.chdir(place):
        return recbench.sweep("model=popularity,markov", "seed=1,2", words)


@pytest.fixture(scope="session")
def trained(words, place, small):
    """A sasrec of two epochs."""
    with contextlib.chdir(place):
        return recbench.run(small, words)
