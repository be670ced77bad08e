"""Runs that are forked are what fresh processes are: their results, their words, their status, and what ends them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from recbench.config.settings import HardwareConfig, SlurmConfig
from recbench.core.run_folder import RunFolder
from recbench.experiment.run import run
from recbench.experiment.sweep import RECORD_VARIABLE
from recbench.study import forked
from recbench.study.forked import Forked, can_be_forked
from recbench.study.pool import own_log

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked under Linux alone")


@pytest.fixture
def begun(tiny, tmp_path, monkeypatch):
    """begun(NAME, words ...): a forked run, whose words go to NAME.log."""
    monkeypatch.chdir(tmp_path)
    processes = []

    def start(name, *words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", RECORD_VARIABLE: str(tmp_path / f"{name}.json")}
        with own_log(tmp_path / f"{name}.log") as log:
            processes.append(Forked([*tiny, *words], environment, log))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def test_results_are_those_of_a_run_in_this_process(begun, run_config, tmp_path):
    words = ["model=sasrec", "model.hidden_size=16", "training.max_epochs=2", "training.batch_size=400"]
    before = dict(os.environ)
    process = begun("a", *words)
    assert dict(os.environ) == before
    process.wait(120)
    assert process.poll() == 0, (tmp_path / "a.log").read_text()
    (folder,) = (tmp_path / "runs").glob("sasrec-*")
    here = run(run_config(tmp_path / "other", *words))
    assert folder.name == here.folder.key
    found = json.loads((folder / "metrics.json").read_text())
    told = {key: value for key, value in here.metrics.items() if key.startswith(("test/", "validation/"))}
    assert told
    assert {key: found[key] for key in told} == told
    assert "model=sasrec" in json.loads((folder / "provenance.json").read_text())["command"]
    assert "epoch 2/2" in (tmp_path / "a.log").read_text()


def test_what_is_wrong_is_told_and_ends_it_with_2(begun, tmp_path):
    process = begun("b", "model=nobody")
    process.wait(60)
    assert process.poll() == 2
    assert "nobody" in (tmp_path / "b.log").read_text()


def test_it_is_stopped_as_ctrl_c_would_and_holds_its_log_until_then(begun, tmp_path):
    process = begun("c", "model=sasrec", "training.max_epochs=5000", "training.patience=5000", "training.batch_size=50")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    deadline = time.monotonic() + 120
    while not (found := list(tmp_path.glob("runs/sasrec-*/history.jsonl"))):
        assert process.poll() is None, (tmp_path / "c.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with (tmp_path / "c.log").open("ab") as log, pytest.raises(OSError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.poll() == 130
    assert RunFolder(found[0].parent).state == "interrupted"
    process.send_signal(signal.SIGINT)  # to nobody


def test_it_can_be_stopped_though_the_study_runs_in_the_background_of_a_script(tmp_path):
    """There a shell has its commands ignore SIGINT, and children inherit that."""
    with (tmp_path / "log").open("wb") as log:
        child = os.fork()
        if not child:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                forked.runpy.run_module = lambda *_, **__: None
                forked._run([], dict(os.environ), str(tmp_path), forked.Inherited(log.fileno()))
            finally:  # whatever happens, no second pytest
                os._exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_one_that_is_killed_says_by_what(begun):
    process = begun("d", "model=sasrec", "training.max_epochs=5000")
    process.kill()
    process.wait(20)
    assert process.poll() == -signal.SIGKILL


def test_neither_a_gpu_nor_a_cluster_nor_several_processes(monkeypatch):
    monkeypatch.setattr(forked, "DRIVERS", ())
    assert can_be_forked(HardwareConfig())
    assert not can_be_forked(HardwareConfig(devices=2))
    assert not can_be_forked(HardwareConfig(nodes=2))
    assert not can_be_forked(SlurmConfig())
    monkeypatch.setattr(forked, "DRIVERS", (os.devnull,))
    assert not can_be_forked(HardwareConfig())
    assert can_be_forked(HardwareConfig(accelerator="cpu"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_be_forked(HardwareConfig(accelerator="cpu"))


def test_what_sends_runs_to_mlflow_is_imported_once_and_leaves_no_thread():
    code = (
        "import sys, threading; import recbench.study.tracking_imports;"
        "print(threading.active_count(), 'recbench.tracking.library' in sys.modules, "
        "'mlflow.store.tracking.sqlalchemy_store' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.split() == ["1", "True", "True"]
