"""Training and evaluation by two processes (gloo, on the CPU) against one: the same losses to rounding, the same figures exactly."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.evaluation import blocks
from recbench.experiment import evaluate
from recbench.experiment.build import load_model
from recbench.experiment.context import FOLLOWER, RunContext
from recbench.experiment.run import run
from recbench.training.processes.leader import team
from recbench.training.processes.ranks import here
from tests.fixtures.warm import use_warm_processes

#: So few history positions a block make blocks of 26 cases of the evaluation: seven, of which the first process gets four and the last has 4
#: cases.
POSITIONS = 26 * 20
BLOCKS = ["training.max_length=20", "hardware.logits=float32"]
SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", *BLOCKS]
#: All windows in one batch, so an epoch is a step, and the epoch's loss is that of the step.
STEPS = ["training.max_epochs=20", "training.patience=20", "training.batch_size=100000", "training.lr=5e-3"]
EXACT = [*SASREC, *STEPS, "model.dropout=0", "training.gradient_clip=0.5", "training.weight_decay=0.1"]
SHORT = [*SASREC, "training.max_epochs=3", "training.batch_size=400", "training.lr=5e-3", "model.dropout=0.2"]
CANDIDATES = ["protocol=sampled_999", "protocol.n_candidates=20"]
STUDENT = [
    *BLOCKS,
    *["model=slmrec", "model.n_layers=2", "model.tiny_hidden_size=16", "model.tiny_n_heads=2"],
    *["model.tiny_feedforward_size=16", "model.item_table.hidden_size=16", "model.item_table.feedforward_size=16"],
    *["model.item_table.training.max_epochs=1", "distillation.teacher.n_layers=4", "distillation.n_blocks=2"],
    *["distillation.force=true", "training.max_epochs=1", "training.batch_size=1000", "training.lr=5e-3"],
]


@pytest.fixture(scope="module", autouse=True)
def warm():
    """The second process of each pair is a warm one."""
    with pytest.MonkeyPatch.context() as patch:
        use_warm_processes(patch)
        patch.setattr(blocks, "BLOCK_POSITIONS", POSITIONS)
        patch.setenv("RECBENCH_TESTS_BLOCK_POSITIONS", str(POSITIONS))
        yield


@pytest.fixture(scope="module")
def runs(warm, tmp_path_factory, run_config):
    """Runs by name: of one process, and of the same two processes one after the other."""
    one, two, sharded = (tmp_path_factory.mktemp(name) for name in ("one", "two", "sharded"))
    found = {"one": run(run_config(one, *EXACT))}
    pair = run_config(two, *EXACT, "hardware.devices=2")
    with team(pair.hardware, FOLLOWER):
        found["two"] = run(pair)
        found["fsdp"] = run(run_config(sharded, *EXACT, "hardware.devices=2", "hardware.strategy=fsdp"))
        found["short"] = run(run_config(two, *SHORT, "hardware.devices=2"))
        found["short fsdp"] = run(run_config(sharded, *SHORT, "hardware.devices=2", "hardware.strategy=fsdp"))
        found["candidates"] = run(run_config(two, *SHORT, *CANDIDATES, "hardware.devices=2"))
        found["student"] = run(run_config(two, *STUDENT, "hardware.devices=2"))
        with pytest.raises(UserError, match=r"model.auxiliary=\[duorec\].*hardware.devices=1"):
            run(run_config(two, *SHORT, "model.auxiliary=[duorec]", "hardware.devices=2"))
    return found


def losses(made):
    return [epoch["train/loss"] for epoch in made.folder.history()]


@pytest.mark.parametrize("name", ["two", "fsdp"])
def test_twenty_steps_have_the_losses_of_one_process(runs, name):
    one, other = losses(runs["one"]), losses(runs[name])
    assert len(other) == 20
    assert one[-1] < 0.95 * one[0]
    assert other == pytest.approx(one, rel=1e-5)
    ours, theirs = (load_file(runs[n].folder.weights) for n in ("one", name))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_allclose(theirs[key], value, atol=2e-4, err_msg=key)


@pytest.mark.parametrize("name", ["two", "short", "candidates", "fsdp", "student"])
def test_two_processes_find_the_very_figures_of_one(runs, tmp_path, name):
    """Ranks and every metric of the run, against those that this process alone finds for the stored weights."""
    made = runs[name]
    stage = RunContext.of(made.config)
    model = load_model(made, stage)
    assert here().world == 1
    alone = evaluate.test(model, stage.data, stage.split, made.config, RunFolder(tmp_path))
    assert made.metrics["cost/processes"] == 2
    assert blocks.block_rows(stage.data.n_items, 20) == 26
    assert 26 * 6 < len(stage.split.test) < 26 * 7
    assert pl.read_parquet(made.folder.ranks).equals(pl.read_parquet(tmp_path / "ranks.parquet"))
    compared = {key: value for key, value in alone.items() if not key.startswith("cost/")}
    assert {
        f"test/{stage.split.metric_prefix}{figure}" for figure in ("ndcg@10", "coverage@10", "gini@5")
    } <= compared.keys()
    assert {key: made.metrics[key] for key in compared} == compared
    last = made.folder.history()[-1]
    if made.metrics["cost/best_epoch"] == last["epoch"]:
        validated = evaluate.validate(model, stage.data, stage.split, made.config)
        assert {key: last[f"validation/{key}"] for key in validated} == validated


def test_a_student_and_what_it_stands_on_are_each_made_once_by_both(runs):
    student = runs["student"]
    assert set(student.dependencies) == {"item_table", "teacher"}
    assert all(part.metrics["cost/processes"] == 2 for part in student.dependencies.values())
    assert (student.dependencies["teacher"].folder.path / "taught").is_dir()


def test_hardware_is_no_part_of_the_key(runs):
    assert runs["one"].folder.key == runs["two"].folder.key == runs["fsdp"].folder.key


def test_a_run_of_two_processes_leaves_what_a_run_of_one_leaves(runs):
    left = [sorted(file.name for file in runs[name].folder.path.iterdir()) for name in ("one", "two", "fsdp")]
    assert left[0] == left[1] == left[2]
    assert [epoch["epoch"] for epoch in runs["two"].folder.history()] == list(range(20))


class Stop(Exception):
    """Whatever ends the first process."""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_training_of_two_processes_resumes_as_if_nothing_had_happened(
    runs, run_config, tmp_path, monkeypatch, strategy
):
    from recbench.training import fit

    config = run_config(tmp_path, *SHORT, "hardware.devices=2", f"hardware.strategy={strategy}")
    store = fit.ResumePoint.on_train_epoch_end

    def stop_after(self, trainer, learner):
        store(self, trainer, learner)
        if trainer.current_epoch == 1:
            raise Stop

    whole = runs["short" if strategy == "ddp" else "short fsdp"]
    with monkeypatch.context() as patch:
        patch.setattr(fit.ResumePoint, "on_train_epoch_end", stop_after)
        with pytest.raises(Stop):
            run(config)
    folder = RunFolder(tmp_path / whole.folder.key)
    assert (folder.state, len(folder.history())) == ("failed", 2)
    resumed = run(config)
    assert losses(resumed) == losses(whole)
    ours, theirs = load_file(whole.folder.weights), load_file(resumed.folder.weights)
    assert all(np.array_equal(value, theirs[key]) for key, value in ours.items())
