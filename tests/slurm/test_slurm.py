"""Against a real Slurm: a sweep, jobs of two tasks, one that is preempted, one that is cancelled, and a study. ``.ci/slurm`` runs these.

The cluster may be one machine with two cores.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

from recbench.core.run_folder import RunFolder

pytestmark = [pytest.mark.slurm]

SMALL = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]
PLACE = ["hardware=slurm", "hardware.cpus=1", "hardware.minutes=10", "hardware.accelerator=cpu", "hardware.threads=1"]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    if shutil.which("sinfo") is None:
        pytest.skip("there is no Slurm here (no command sinfo)")
    answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    if answer.returncode or not answer.stdout.strip():
        pytest.skip("Slurm is installed, and none answers; .ci/slurm starts one")


@pytest.fixture
def words(tiny):
    return [word for word in tiny if word != "hardware=cpu"] + SMALL + PLACE


def wait_for(condition, process, seconds=600):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    return found


def under_way(tmp_path, epochs):
    """A run with so many epochs behind it, once there is one."""
    folders = [RunFolder(path.parent) for path in tmp_path.glob("runs/sasrec-*/history.jsonl")]
    return next((f for f in folders if f.state == "running" and len(f.history()) >= epochs), None)


def job_id():
    """The one that runs, as scancel names it."""
    answer = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i"], capture_output=True, text=True, check=True)
    (found,) = answer.stdout.split()
    return found


def test_a_sweep_of_four_jobs(cli_process, words, tmp_path):
    out, err = (p := cli_process("-m", *words, "training.max_epochs=2", "seed=1,2,3,4", cwd=tmp_path)).communicate(
        timeout=900
    )
    assert p.returncode == 0, err
    assert "4 of 4 jobs finished" in out
    assert len(list(tmp_path.glob("runs/sasrec-*/metrics.json"))) == 4
    assert "Slurm jobs" in err


def losses(folder):
    return [epoch["train/loss"] for epoch in folder.history()]


def test_a_job_of_two_tasks_trains_as_one_process_does(cli_process, words, tmp_path):
    """Once as a job of a sweep, once by ``srun`` from here: the same figures to rounding."""
    words = [*words, "training.max_epochs=3", "model.dropout=0"]
    alone = [word for word in words if not word.startswith("hardware")]
    _, err = (p := cli_process(*alone, "hardware=cpu", "runs_dir=one", cwd=tmp_path)).communicate(timeout=900)
    assert p.returncode == 0, err
    out, err = (p := cli_process("-m", *words, "hardware.devices=2", "runs_dir=sweep", cwd=tmp_path)).communicate(
        timeout=900
    )
    assert p.returncode == 0, err
    assert "1 of 1 jobs finished" in out
    srun = ["srun", "--ntasks=2", "--cpus-per-task=1", sys.executable, "-m", "recbench", *alone, "hardware=ddp"]
    done = subprocess.run(
        [*srun, "runs_dir=srun"], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    one, *two = (RunFolder(next(tmp_path.glob(f"{place}/sasrec-*"))) for place in ("one", "sweep", "srun"))
    assert one.read("metrics.json")["cost/processes"] == 1
    for folder in two:
        assert folder.read("metrics.json")["cost/processes"] == 2
        assert losses(folder) == pytest.approx(losses(one), rel=1e-4)


def test_a_preempted_job_is_queued_again_and_resumes(cli_process, words, tmp_path):
    process = cli_process("-m", *words, "training.max_epochs=60", "training.patience=60", cwd=tmp_path)
    folder = wait_for(lambda: under_way(tmp_path, 3), process)
    subprocess.run(
        ["scancel", "--signal=USR2", job_id()], check=True
    )  # what submitit asks Slurm to send before it preempts
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "1 of 1 jobs finished" in out
    assert "continuing" in (folder.path / "log.txt").read_text()
    assert [epoch["epoch"] for epoch in folder.history()] == list(range(60))


def test_a_cancelled_job_is_named_and_the_same_command_makes_it_good(cli_process, words, tmp_path):
    command = ["-m", *words, "training.max_epochs=60", "training.patience=60"]
    process = cli_process(*command, cwd=tmp_path)
    folder = wait_for(lambda: under_way(tmp_path, 3), process)
    subprocess.run(["scancel", job_id()], check=True)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err
    assert "0 of 1 jobs finished" in out
    assert "Slurm job" in out
    assert not folder.finished
    out, err = (p := cli_process(*command, cwd=tmp_path)).communicate(timeout=900)
    assert p.returncode == 0, err
    assert "continuing" in (folder.path / "log.txt").read_text()


def test_runs_of_a_study_are_jobs_of_the_cluster(cli_process, words, tmp_path):
    import yaml

    folder = tmp_path / "experiments" / "mini"
    folder.mkdir(parents=True)
    content = {"base": [*words, "training.max_epochs=1"], "seeds": [1, 2], "rows": {"one": []}, "columns": ["ndcg@10"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    _, err = (p := cli_process("+experiment=mini", cwd=tmp_path)).communicate(timeout=900)
    assert p.returncode == 0, err
    assert "2 of 2 runs finished" in err
    for path in tmp_path.glob("runs/sasrec-*/provenance.json"):
        assert json.loads(path.read_text())
