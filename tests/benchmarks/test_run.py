"""Which runs a comparison makes, in which order and with which task, and how each is started."""

import sys

import numpy as np
import pytest

from benchmarks import run, systems
from benchmarks.data import Sequences


@pytest.fixture
def folder(tmp_path):
    """A data folder of 20 users with 6 events each."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(15)[:6] + 1 for _ in range(20)])
    Sequences(items, np.arange(21) * 6, np.arange(120)).save(tmp_path / "arrays")
    return tmp_path / "arrays"


@pytest.fixture
def session(folder, tmp_path, monkeypatch):
    def begin(*words):
        def place(*parts):
            there = tmp_path.joinpath("bench", *parts)
            there.mkdir(parents=True, exist_ok=True)
            return there

        monkeypatch.setattr(run, "bench_folder", place)
        monkeypatch.setattr(systems, "bench_folder", place)
        monkeypatch.setattr(run, "commit", lambda: "abc")
        return run.Session(run.parse(["--data", str(folder), "--name", "n", *words]))

    return begin


def test_every_round_ends_with_its_floor_and_quality_begins_with_ours(session):
    given = session("--rounds", "2", "--systems", "recbole", "ours", "--reach", "0.1")
    assert given.wanted() == [
        ("speed", 1, "recbole"),
        ("speed", 1, "ours"),
        ("speed", 1, "floor"),
        ("speed", 2, "recbole"),
        ("speed", 2, "ours"),
        ("speed", 2, "floor"),
        ("quality", 1, "ours"),
        ("quality", 1, "recbole"),
    ]


def test_other_data_than_beauty_have_no_bar_of_their_own(session):
    assert {stage for stage, *_ in session("--systems", "ours").wanted()} == {"speed"}


def test_slow_systems_are_cut_and_quick_ones_make_several_epochs(session):
    given = session("--max-steps", "7", "--systems", "recbole", "ours", "--give-up", "3")
    slow, quick = given.task("speed", "recbole"), given.task("speed", "ours")
    assert (slow.max_steps, slow.epochs) == (7, 1)
    assert (quick.max_steps, quick.epochs) == (0, run.QUICK_EPOCHS)
    assert slow.batch_targets == quick.batch_targets == 2048
    assert (slow.reach, slow.give_up, quick.give_up) == (0.0, 0.0, 0.0)


def test_a_rival_gives_up_at_so_many_times_our_seconds(session):
    given = session("--reach", "0.1", "--give-up", "3", "--systems", "recbole", "ours")
    assert given.task("quality", "recbole").give_up == 0.0  # nothing to compare with yet
    lines = [
        {"event": "ready", "at": 1.0},
        {"event": "epoch", "at": 5.0, "steps": 1, "seconds": 4.0, "epoch_seconds": 4.0, "extrapolated": False},
        {"event": "evaluation", "split": "test", "at": 6.0, "seconds": 1.0, "ndcg@10": 0.2, "hr@10": 0.2},
        {"event": "evaluation", "split": "validation", "at": 7.0, "seconds": 1.0, "ndcg@10": 0.2, "hr@10": 0.2},
        {"event": "exit", "at": 7.0, "peak_rss_bytes": 1, "others_share": 0.0},
    ]
    given.record.write("quality", 1, "ours", lines)
    task = given.task("quality", "recbole")
    assert task.give_up == pytest.approx(3 * 6.0)
    assert (task.reach, task.batch_targets, task.max_steps) == (0.1, 0, 0)


def test_a_run_that_is_there_is_not_made_again(session, monkeypatch):
    given = session("--systems", "ours", "--rounds", "1")
    monkeypatch.setattr(run, "launch", lambda *_: pytest.fail("started"))
    given.record.write("speed", 1, "ours", [])
    given.make("speed", 1, "ours")
    with pytest.raises(pytest.fail.Exception, match="started"):
        given.make("speed", 1, "floor")


def test_after_its_minutes_nothing_is_started(session, monkeypatch):
    given = session("--systems", "ours", "--minutes", "0.0000001")
    monkeypatch.setattr(run, "launch", lambda *_: pytest.fail("started"))
    given.make("speed", 1, "ours")
    assert given.record.read("speed", 1, "ours") is None


def test_a_comparison_of_other_data_needs_another_name(session, folder):
    session("--systems", "ours")
    with pytest.raises(SystemExit, match="max_steps"):
        session("--systems", "ours", "--max-steps", "5")


def test_ours_runs_here_and_a_one_negative_epoch_without_recbench_on_its_path(session, folder):
    given = session("--systems", "ours")
    ours = systems.command("ours", given.task("speed", "ours"), folder, "d")
    other = systems.command("one_negative", given.task("speed", "one_negative"), folder, "d")
    assert ours.arguments[0] == other.arguments[0] == sys.executable
    assert ours.environ["PYTHONPATH"].endswith("/src")
    assert not other.environ["PYTHONPATH"].endswith("/src")
    assert "LD_PRELOAD" not in ours.environ


def test_what_is_no_data_is_named(tmp_path):
    with pytest.raises(SystemExit, match="neither a folder"):
        systems.data_folder(tmp_path / "nothing")
