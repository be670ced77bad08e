"""Trainings that were cut short: whatever ended them, the same command goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import re
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from recbench.core.run_folder import RunFolder
from recbench.experiment import evaluate
from recbench.experiment.run import run
from recbench.training import fit
from tests.fixtures.words import DISTILLED_SLMREC as SLMREC
from tests.fixtures.words import SASREC

#: Two or three steps an epoch.
LONG = ["training.max_epochs=5", "training.batch_size=700", "training.lr=5e-3", "training.patience=5"]
CASES = {
    "sasrec": [*SASREC, *LONG, "model.dropout=0.3"],
    "seldom validated": [*SASREC, *LONG, "model.dropout=0.3", "training.validate_every=4", "training.patience=1"],
    "epochs of two steps": [*SASREC, *LONG, "training.batch_size=200", "training.epoch_steps=2", "model.dropout=0.3"],
    "a sampled loss and a schedule": [
        *SASREC,
        *LONG,
        "model.loss=sampled_softmax",
        "model.n_negatives=16",
        "training.schedule=cosine",
        "training.warmup_steps=2",
        "training.weight_decay=0.1",
        "training.gradient_clip=0.5",
    ],
    "contrastive terms, one with an optimiser of its own": [
        *SASREC,
        *LONG,
        "model.auxiliary=[cl4srec,duorec,mclrec]",
        "model.mclrec.stages=released",
        "model.dropout=0.3",
    ],
    "a student and its heads": [*SLMREC, *LONG, "distillation.force=true", "model.dropout=0.3"],
}


def weights_of(made):
    return load_file(made.folder.weights)


def same_weights(left, right):
    left, right = weights_of(left), weights_of(right)
    return left.keys() == right.keys() and all(np.array_equal(value, right[name]) for name, value in left.items())


class Stop(Exception):
    """Whatever ends a process."""


@contextlib.contextmanager
def stopping(moment, epoch, key_start, what=Stop):
    """Raise in the given epoch of the run whose key starts like that, at one of three moments."""
    with pytest.MonkeyPatch.context() as patch:

        def hook(owner, name, after):
            original = getattr(owner, name)

            def wrapped(self, trainer, *rest):
                folder = getattr(self, "folder", None) or RunFolder(self.path.parent)
                wanted = trainer.current_epoch == epoch and folder.key.startswith(key_start)
                if wanted and not after:
                    raise what
                original(self, trainer, *rest)
                if wanted:
                    raise what

            patch.setattr(owner, name, wrapped)

        if moment == "after its checkpoint":
            hook(fit.ResumePoint, "on_train_epoch_end", after=True)
        elif moment == "before its checkpoint":
            hook(fit.ResumePoint, "on_train_epoch_end", after=False)
        else:
            hook(fit.BestEpoch, "on_train_batch_end", after=True)
        yield


def without_times(history):
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in history]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, run_config):
    made = {}

    def get(case):
        if case not in made:
            made[case] = run(run_config(tmp_path_factory.mktemp("whole"), *CASES[case]))
        return made[case]

    return get


MOMENTS = [("after its checkpoint", 2), ("before its checkpoint", 2), ("in the middle", 3), ("after its checkpoint", 4)]


@pytest.mark.parametrize(
    ("case", "moment", "epoch"),
    [
        (case, *moment)
        for case in CASES
        # Every moment with what remembers its validations and with the one that has optimisers of several kinds; the others have no
        # code of their own before a checkpoint.
        for moment in (MOMENTS if case.startswith(("seldom", "contrastive")) else MOMENTS[2:])
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(uninterrupted, run_config, tmp_path, case, moment, epoch):
    config = run_config(tmp_path, *CASES[case])
    whole = uninterrupted(case)
    with stopping(moment, epoch, whole.folder.key), pytest.raises(Stop):
        run(config)
    folder = RunFolder(tmp_path / whole.folder.key)
    assert (folder.state, folder.resume_checkpoint.is_file()) == ("failed", True)
    resumed = run(config)
    assert not resumed.reused
    assert same_weights(resumed, whole)
    assert without_times(resumed.folder.history()) == without_times(whole.folder.history())
    assert resumed.metrics["test/ndcg@10"] == whole.metrics["test/ndcg@10"]
    assert not folder.resume_checkpoint.exists()


def test_what_was_trained_is_not_trained_again(run_config, tmp_path, uninterrupted):
    """A run that ends between its training and its test resumes at the test."""
    case = "sasrec"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "test", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            run(run_config(tmp_path, *CASES[case]))
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Learner, "training_step", lambda *_: steps.append(1))
        resumed = run(run_config(tmp_path, *CASES[case]))
    assert steps == []
    assert same_weights(resumed, uninterrupted(case))


def test_patience_that_was_over_is_still_over_after_a_restart(run_config, tmp_path):
    words = [*SASREC, "training.max_epochs=30", "training.patience=1", "training.lr=0.05", "training.batch_size=100"]
    whole = run(run_config(tmp_path / "whole", *words))
    epochs = len(whole.folder.history())
    assert epochs < 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "test", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            run(run_config(tmp_path / "cut", *words))
    resumed = run(run_config(tmp_path / "cut", *words))
    assert len(resumed.folder.history()) == epochs
    assert same_weights(resumed, whole)


def test_ctrl_c_is_told_and_the_same_command_goes_on(cli, tiny, tmp_path, uninterrupted):
    words = [*tiny, *CASES["sasrec"]]
    handler = signal.getsignal(signal.SIGINT)
    try:
        with stopping("in the middle", 2, "sasrec", KeyboardInterrupt):
            stopped = cli(*words, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped.status == 130
    assert re.fullmatch(
        r"stopped; sasrec-\w+ has a checkpoint after \d+ epochs?: the same command goes on from there",
        stopped.err.splitlines()[-1],
    )
    (folder,) = [RunFolder(path) for path in (tmp_path / "runs").glob("sasrec-*")]
    assert folder.state == "interrupted"
    assert cli(*words, cwd=tmp_path).status == 0
    assert load_file(folder.weights).keys() == weights_of(uninterrupted("sasrec")).keys()
    assert folder.finished
    assert "continuing" in (folder.path / "log.txt").read_text()


def test_kill_9_and_the_same_command_again(cli, cli_process, tiny, tmp_path, run_config):
    words = [*tiny, *SASREC, "training.max_epochs=16", "training.patience=16", "training.batch_size=100"]
    process = cli_process(*words, f"runs_dir={tmp_path}/runs", cwd=tmp_path)
    deadline = time.monotonic() + 90
    history = []
    while len(history) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
        history = [
            line for path in tmp_path.glob("runs/sasrec-*/history.jsonl") for line in path.read_text().splitlines()
        ]
    process.kill()
    process.communicate()
    (folder,) = [RunFolder(path) for path in (tmp_path / "runs").glob("sasrec-*")]
    assert folder.state == "running"  # nobody was left to say otherwise
    assert len(folder.history()) < 16
    again = cli(*words, f"runs_dir={tmp_path}/runs", cwd=tmp_path)
    assert again.status == 0, again.err
    assert "continuing" in again.err
    assert [epoch["epoch"] for epoch in folder.history()] == list(range(16))
    assert [path.name for path in folder.path.glob(".*")] == []  # what was half written when it was killed
    whole = run(run_config(tmp_path / "whole", *words[len(tiny) :]))
    assert np.array_equal(
        load_file(folder.weights)["item_embedding.weight"], weights_of(whole)["item_embedding.weight"]
    )
    assert without_times(folder.history()) == without_times(whole.folder.history())
