"""What becomes of a run when one of its processes is stopped, killed, or fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbench.core.run_folder import RunFolder
from tests.fixtures.ports import free_port
from tests.fixtures.warm import WarmProcess, children_of

SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]
LONG = [*SASREC, "training.max_epochs=2000", "training.patience=2000"]
PAIR = ["hardware.devices=2"]


def the_folder(runs_dir):
    (folder,) = [RunFolder(path) for path in runs_dir.glob("sasrec-*")]
    return folder


def wait_for_epochs(process, runs_dir, epochs=2, seconds=150):
    """Until the run has so many epochs behind it."""
    deadline = time.monotonic() + seconds
    while not any(path.read_text().count("\n") >= epochs for path in runs_dir.glob("sasrec-*/history.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="reads from /proc whether a process is alive"
)


def test_a_process_that_is_killed_ends_the_run_with_one_line(cli_process, tiny, tmp_path):
    words = [*tiny, *PAIR, f"runs_dir={tmp_path}/runs"]
    process = cli_process(*words, *LONG, cwd=tmp_path)
    wait_for_epochs(process, tmp_path / "runs")
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    reason = "process 1 of 2 was killed by signal 9; the same command goes on from the last checkpoint"
    assert err.splitlines()[-1] == f"error: {reason}"
    assert "Traceback" not in err
    folder = the_folder(tmp_path / "runs")
    assert folder.state == "failed"
    assert reason in folder.read("status.json")["reason"]
    assert folder.resume_checkpoint.is_file()


@pytest.mark.parametrize(
    ("sent", "status", "state"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGKILL, -9, "running")],
    ids=["ctrl-c", "kill"],
)
def test_the_end_of_the_first_process_is_the_end_of_all(cli_process, tiny, tmp_path, sent, status, state):
    process = cli_process(*tiny, *PAIR, f"runs_dir={tmp_path}/runs", *LONG, cwd=tmp_path)
    wait_for_epochs(process, tmp_path / "runs")
    children = children_of(process.pid)
    assert len(children) == 1
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert gone(children)
    assert the_folder(tmp_path / "runs").state == state
    assert "Traceback" not in err
    if sent == signal.SIGINT:
        assert re.search(r"^stopped.*; \S+ has .*: the same command ", err.splitlines()[-1])


def test_a_failure_of_both_is_told_once(cli_process, tiny, tmp_path):
    """A rate at which the loss overflows: each process finds it, the first one says it."""
    words = [*tiny, *PAIR, *SASREC, "training.lr=1e30", "training.max_epochs=3", f"runs_dir={tmp_path}/runs"]
    process = cli_process(*words, cwd=tmp_path)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2
    told = [line for line in err.splitlines() if "became" in line]
    assert len(told) == 1
    assert told[0].startswith("error: the loss term 'loss' became nan")
    assert "Traceback" not in err
    assert the_folder(tmp_path / "runs").state == "failed"


def test_torchrun_starts_one_run_of_two_processes(tiny, tmp_path):
    words = [*tiny, *SASREC, "training.max_epochs=1", f"runs_dir={tmp_path}/runs"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "recbench"]
    process = WarmProcess([*launcher, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    folder = the_folder(tmp_path / "runs")
    assert (folder.state, folder.read("metrics.json")["cost/processes"]) == ("finished", 2)
    assert out.count("test, protocol") == 1
    assert err.count("epoch 1/1") == 1


def test_with_a_launcher_a_mistake_is_one_line(tiny, tmp_path):
    """Two processes in the environment that torchrun gives them."""
    port = free_port()
    words = [*tiny, "model=sasrec", "training.max_epochs=0.5", f"runs_dir={tmp_path}/runs"]
    given = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        WarmProcess(
            [sys.executable, "-m", "recbench", *words],
            cwd=tmp_path,
            env={**os.environ, **given, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    told = [process.communicate(timeout=100)[1] for process in processes]
    assert all(process.returncode not in (0, None) for process in processes)
    assert sum(line.startswith("error: ") for err in told for line in err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
