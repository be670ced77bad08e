"""Keys, folders, atomic files, locks: runs as they lie on disk."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import pytest

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, locked, open_folder, recording, replacing


def test_an_unfinished_replacement_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        1 / 0
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_a_replacement_is_seen_only_when_it_is_whole(tmp_path):
    path = tmp_path / "metrics.json"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_a_full_disk_is_told_as_such(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write .*metrics.json: No space left on device"),
        replacing(tmp_path / "metrics.json"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_folder_come_back_as_they_went(tmp_path):
    folder = open_folder(tmp_path, "x-1")
    content = {"name": "off", "lr": 1e-3, "n": 3, "nothing": None, "yes": True, "cutoffs": [1, 10]}
    folder.write("metrics.json", content)
    folder.write("config.yaml", content)
    assert folder.read("metrics.json") == content
    assert folder.config() == content
    assert folder.read("absent.json") == {}
    folder.write_history([{"epoch": 0, "train/loss": 1.5}, {"epoch": 1, "train/loss": 1.0}])
    assert folder.history() == [{"epoch": 0, "train/loss": 1.5}, {"epoch": 1, "train/loss": 1.0}]


@pytest.mark.parametrize("name", ["open_folder", "locked"])
def test_a_runs_dir_that_cannot_be_written_is_told_with_the_key_to_change(tmp_path, name):
    # Below a regular file: a folder that not even root can make.
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"runs_dir=PATH"):
        if name == "open_folder":
            open_folder(blocked / "runs", "x-1")
        else:
            with locked(RunFolder(blocked / "runs" / "x-1")):
                pass


def test_states_and_reasons(tmp_path):
    folder = open_folder(tmp_path, "x-1")
    assert (folder.state, folder.finished) == ("absent", False)
    with recording(folder):
        assert folder.state == "running"
        logging.getLogger("recbench.something").warning("told while it ran")
        folder.set_state("finished")
    assert folder.finished
    assert "told while it ran" in (folder.path / "log.txt").read_text()
    logging.getLogger("recbench.something").warning("told afterwards")
    assert "told afterwards" not in (folder.path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (FloatingPointError("the loss became nan"), "failed", "FloatingPointError: the loss became nan"),
        (UserError("n_blocks=3 does not divide"), "failed", "UserError: n_blocks=3 does not divide"),
        (KeyboardInterrupt(), "interrupted", "stopped from the keyboard"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_whatever_ends_a_run_leaves_its_reason(tmp_path, error, state, reason):
    folder = open_folder(tmp_path, "x-1")
    with pytest.raises(type(error)), recording(folder):
        raise error
    status = folder.read("status.json")
    assert (status["state"], status["reason"]) == (state, reason)
    assert status["started"] <= status["updated"] <= time.time()


def test_the_start_survives_a_second_attempt_and_the_old_reason_does_not(tmp_path):
    folder = open_folder(tmp_path, "x-1")
    with pytest.raises(ZeroDivisionError), recording(folder):
        1 / 0
    first = folder.read("status.json")
    with recording(folder):
        folder.set_state("finished")
    second = folder.read("status.json")
    assert second["started"] == first["started"]
    assert "reason" not in second


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    folder = open_folder(tmp_path, "x-1")
    with pytest.raises(AssertionError), replacing(folder.weights) as temporary:
        left = temporary.name
        raise AssertionError  # the name that a killed process would have left
    (folder.path / left).write_text("half")
    folder.write("metrics.json", {})
    with recording(folder):
        pass
    assert sorted(path.name for path in folder.path.iterdir()) == ["log.txt", "metrics.json", "status.json"]


HOLDER = """
import sys, time
from pathlib import Path
from recbench.core.run_folder import locked, open_folder
folder = open_folder(Path(sys.argv[1]), "x-1")
with locked(folder):
    print("held", flush=True)
    sys.stdin.readline()
    folder.set_state("finished")
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of run x-1 until it reads a line; then it finishes the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_waits_and_finds_the_run_finished(tmp_path, holder, caplog):
    folder = open_folder(tmp_path, "x-1")
    told = []

    class Listener(logging.Handler):
        def emit(self, record):
            # The moment at which we say that we wait is the moment to let the other go on.
            told.append((record.getMessage(), folder.finished))
            holder.stdin.write("\n")
            holder.stdin.flush()

    log = logging.getLogger("recbench.core.run_folder")
    listener = Listener()
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    try:
        with locked(folder):
            assert folder.finished
    finally:
        log.removeHandler(listener)
        log.setLevel(logging.NOTSET)
    assert told == [("waiting for another process that works on x-1", False)]


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    folder = open_folder(tmp_path, "x-1")
    with locked(folder):
        assert not folder.finished


def test_runs_of_different_keys_do_not_wait_for_each_other(tmp_path, holder):
    with locked(open_folder(tmp_path, "x-2")):
        assert holder.poll() is None
