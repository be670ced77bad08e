"""Against a Ray of two nodes on this machine: a sweep over both, a worker killed with -9, and what is said where no cluster is."""

from __future__ import annotations

import os
import signal
import time

import pytest

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment.launchers.on_ray import check_answers

pytestmark = pytest.mark.services

SMALL = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]


def test_nobody_at_the_address_is_one_line():
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:9 "):
        check_answers("127.0.0.1:9")
    check_answers("auto")


def test_a_sweep_over_two_nodes_survives_a_killed_worker(address, cli_process, tiny, tmp_path):
    place = [word for word in tiny if word != "hardware=cpu"]
    words = [
        *place,
        *SMALL,
        "hardware=ray",
        "hardware.accelerator=cpu",
        "hardware.threads=1",
        "training.max_epochs=25",
        "training.patience=25",
    ]
    process = cli_process("-m", *words, "seed=1,2", f"hydra.launcher.address={address}", cwd=tmp_path)
    deadline = time.monotonic() + 240
    killed = both = None
    while killed is None or not both:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        running = [
            f for p in tmp_path.glob("runs/sasrec-*/history.jsonl") if (f := RunFolder(p.parent)).state == "running"
        ]
        both = both or len({folder.read("status.json")["pid"] for folder in running}) == 2  # a node has room for one
        if killed is None:
            # An epoch's line is written before its checkpoint: with the fourth line that of the first three is there.
            killed = next((f for f in running if len(f.history()) >= 4), None)
            if killed is not None:
                before = killed.history()[:3]
                os.kill(killed.read("status.json")["pid"], signal.SIGKILL)
        time.sleep(0.1)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "2 of 2 jobs finished" in out
    assert killed.finished
    assert len(killed.history()) == 25
    assert killed.history()[:3] == before  # their seconds too: it went on, and did not begin anew
    again, err = (
        p := cli_process("-m", *words, "seed=1,2", f"hydra.launcher.address={address}", cwd=tmp_path)
    ).communicate(timeout=240)
    assert p.returncode == 0, err
    assert "2 of them before" in again
