"""How often the collector looks before a training, and that a training has it as ever."""

import gc
from collections.abc import Iterator

import pytest

from recbench.core import garbage


@pytest.fixture(autouse=True)
def as_python_has_it() -> Iterator[None]:
    kept = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*kept)


def test_old_objects_are_left_alone_until_a_training_begins():
    frozen = gc.get_freeze_count()
    garbage.leave_the_old()
    assert gc.get_threshold() == (700, 10, garbage.LOOKS)
    ours = [[] for _ in range(1000)]
    garbage.look_as_ever()
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() >= frozen + len(ours)


@pytest.mark.parametrize("threshold", [(700, 10, 50_000), (0, 10, 10)])
def test_who_has_them_looked_at_more_seldom_or_never_keeps_that(threshold):
    gc.set_threshold(*threshold)
    garbage.leave_the_old()
    garbage.look_as_ever()
    assert gc.get_threshold() == threshold


def test_a_command_begins_so_and_a_training_does_not(run_config, tmp_path, monkeypatch):
    from recbench.cli import main
    from recbench.experiment.run import run
    from recbench.training.learner import Learner

    monkeypatch.setattr("sys.argv", ["recbench", "--version"])
    assert main.main() == 0
    assert gc.get_threshold()[2] == garbage.LOOKS
    seen = []
    monkeypatch.setattr(Learner, "on_fit_start", lambda self: seen.append(gc.get_threshold()))
    run(run_config(tmp_path, "model=sasrec", "training.max_epochs=1"))
    assert seen == [(700, 10, 10)]


def test_a_call_from_python_changes_nothing():
    from recbench.cli import main

    assert main.main(["--version"]) == 0
    assert gc.get_threshold() == (700, 10, 10)
