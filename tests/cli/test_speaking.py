"""What a command says when something is not as it should be: one line that names it and the way out, and warnings where a number is worthless."""

from __future__ import annotations

import json
import os
import signal

import pytest

from recbench.core.run_folder import RunFolder
from recbench.experiment import evaluate

SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=100"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["epochs=3"], "training.max_epochs"),
        (["lr=1e-3"], "training.lr"),
        (["Batch_Size=64"], "training.batch_size"),
        (["training.learning_rate=1"], "training.lr"),
        (["model=sasrec", "dropout=0.1"], "model.dropout"),
        (["model=sasrec", "training.hidden_size=8"], "model.hidden_size"),
        (["model=gru4rec", "embedding_dim=8"], "model.hidden_size"),
        (["k=20"], "evaluation.cutoffs"),
        (["model.weight_decay=0.1"], "training.weight_decay"),
        (["random_seed=3"], "seed"),
        (["dataset=movielens"], "data"),
        (["device=cpu"], "hardware.accelerator"),
        (["output_dir=x"], "runs_dir"),
        (["training.MAX_EPOCHS=3"], "max_epochs"),
        (["model=TIM4Rec"], "tim4rec"),
        (["data=ML-1M"], "movielens"),
        (["protocol=Leave-One-Out"], "leave_one_out"),
        (["model=slmrec", "model.item_table.learning_rate=1"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_names_of_other_tools_and_cases_lead_to_ours(cli, tmp_path, words, found):
    finished = cli(*words, cwd=tmp_path)
    assert (finished.status, finished.out) == (2, "")
    (line,) = finished.err.splitlines()
    assert line.startswith("error: unknown ")
    assert found is None or f"did you mean '{found}'?" in line


@pytest.mark.parametrize("flags", [("-m", 1), ("--multirun", 3), ("-m", 99)])
def test_the_flag_of_a_sweep_may_stand_anywhere(cli, tiny, tmp_path, flags):
    flag, place = flags
    words = [*tiny[:3], "model=popularity,itemknn", *tiny[3:]]
    words.insert(place, flag)
    finished = cli(*words, cwd=tmp_path)
    assert finished.status == 0, finished.err
    assert "2 of 2 jobs finished" in finished.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=sasrec", "--epochs", "3"], "unknown option --epochs; write key=value, as in epochs=3"),
        (["--lr=0.1"], "unknown option --lr; write key=value, as in lr=0.1"),
        (["SASRec"], "for that model write model=sasrec"),
        (["--cfg", "everything"], "invalid choice"),
    ],
)
def test_flags_that_are_none_are_one_line(cli, tmp_path, words, expected):
    finished = cli(*words, cwd=tmp_path)
    assert finished.status == 2
    (line,) = finished.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_recorded_as_such_and_the_same_command_goes_on(
    cli, tiny, tmp_path, monkeypatch, request, number, status
):
    words = [*tiny, *SASREC, "training.max_epochs=3", "training.patience=3"]
    validate, calls, keyboard = evaluate.validate, [], signal.getsignal(signal.SIGINT)

    def ending(*parts):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return validate(*parts)

    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    request.addfinalizer(lambda: signal.signal(number, before))
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "validate", ending)
        stopped = cli(*words, cwd=tmp_path)
    signal.signal(signal.SIGINT, keyboard)  # Lightning ignores it from then on
    name = signal.Signals(number).name
    (folder,) = [RunFolder(path) for path in (tmp_path / "runs").glob("sasrec-*")]
    assert stopped.status == status
    told = f"stopped by {name}; {folder.key} has a checkpoint after 1 epoch: the same command goes on from there"
    assert stopped.err.splitlines()[-1] == told
    assert (folder.state, folder.read("status.json")["reason"]) == ("interrupted", f"stopped by {name}")
    assert signal.getsignal(number) is signal.SIG_DFL
    again = cli(*words, cwd=tmp_path)
    assert again.status == 0, again.err
    assert f"continuing {folder.key} from its last checkpoint" in again.err


def test_ctrl_c_before_the_first_epoch_says_that_there_is_no_checkpoint(cli, tiny, tmp_path, monkeypatch):
    keyboard = signal.getsignal(signal.SIGINT)

    def stop(*parts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "validate", stop)
        stopped = cli(*tiny, *SASREC, "training.max_epochs=2", cwd=tmp_path)
    signal.signal(signal.SIGINT, keyboard)
    assert stopped.status == 130
    last = stopped.err.splitlines()[-1]
    assert last.startswith("stopped; sasrec-")
    assert "has no checkpoint yet: the same command begins it anew" in last


def test_a_loss_that_diverges_in_its_last_step_is_one_line(cli, tiny, tmp_path):
    """One step an epoch: the loss of the epoch is a number, but what the step leaves has none."""
    words = [*tiny, *SASREC[:3], "model.block=ligr", "training.batch_size=100000", "training.lr=1e15"]
    finished = cli(*words, "training.max_epochs=3", cwd=tmp_path)
    assert finished.status == 2
    assert "Traceback" not in finished.err
    last = finished.err.splitlines()[-1]
    assert last.startswith("error: the loss became nan in epoch 1 (training.lr=1e+15)")
    assert "training.gradient_clip=1" in last
    (folder,) = (tmp_path / "runs").glob("sasrec-*")
    assert "epoch 1" in RunFolder(folder).read("status.json")["reason"]


OUTSIDE = """
from dataclasses import dataclass

import torch

from recbench.models.base import ModelConfig
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register


@dataclass
class BrokenConfig(ModelConfig):
    name: str = "broken"


@register("broken", BrokenConfig)
class Broken(ClosedForm):
    state_names = ("scores",)

    def fit_to(self, train):
        self.set_state("scores", torch.full((train.n_items + 1,), float("nan")))

    def score(self, batch):
        return self.scores.repeat(len(batch), 1)


@dataclass
class UnpopularConfig(ModelConfig):
    name: str = "unpopular"


@register("unpopular", UnpopularConfig)
class Unpopular(Broken):
    def fit_to(self, train):
        self.set_state("scores", -torch.as_tensor(train.item_counts()).float())
"""


@pytest.fixture
def outside(install):
    install("their_models", "models", {"broken": "their_models", "unpopular": "their_models"}, their_models=OUTSIDE)


def test_a_model_of_nan_is_one_line(cli, tiny, tmp_path, outside):
    finished = cli(*tiny, "model=broken", cwd=tmp_path)
    assert finished.status == 2
    assert "Traceback" not in finished.err
    last = finished.err.splitlines()[-1]
    assert last.startswith("error: broken-")
    assert "gives scores that cannot be ranked: the score of user" in last
    (folder,) = (tmp_path / "runs").glob("broken-*")
    assert "is nan" in RunFolder(folder).read("status.json")["reason"]


def test_a_run_below_popularity_says_so_alone_and_in_a_sweep(cli, tiny, tmp_path, outside):
    alone = cli(*tiny, "model=unpopular", cwd=tmp_path)
    assert alone.status == 0, alone.err
    assert "warning: unpopular is below popularity: ndcg@10 " in alone.out
    sweep = cli("-m", *tiny, "model=unpopular,itemknn", cwd=tmp_path)
    (told,) = [line for line in sweep.out.splitlines() if line.startswith("warning: ")]
    assert told.startswith("warning: unpopular is below popularity")


@pytest.mark.parametrize(
    "error", ["torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 3.00 GiB.')", "MemoryError()"]
)
def test_a_lack_of_memory_is_one_line_in_a_job(cli, tiny, tmp_path, monkeypatch, error):
    import torch

    def short(*parts):
        raise eval(error, {"torch": torch})

    monkeypatch.setattr("recbench.experiment.evaluate.test", short)
    finished = cli("-m", *tiny, "model=markov", cwd=tmp_path)
    assert finished.status == 2
    assert "Traceback" not in finished.err
    assert [line for line in finished.err.splitlines() if line.startswith("error: not enough memory on ")]
    assert "failed: " in finished.out
    assert "lower training.batch_size" in finished.out


def test_the_last_table_of_a_sweep_has_means_over_seeds(cli, tiny, tmp_path):
    words = [*tiny, *SASREC, "training.max_epochs=1", "tuned=off,sasrec-synthetic", "seed=1,2"]
    finished = cli(*words, "-m", cwd=tmp_path)
    assert finished.status == 0, finished.err
    last = finished.out[finished.out.index("mean ± sd over seeds") :]
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in last.splitlines() if line.startswith("|")}
    metrics = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("sasrec-*/metrics.json")]
    assert len(metrics) == 4
    (marked,) = [name for name in rows if name.endswith(" *")]
    (plain,) = [name for name in rows if name.startswith("sasrec") and name != marked]
    for name in (marked, plain):
        mean, _, spread = rows[name][0].strip().partition(" ± ")
        assert float(spread) >= 0
        assert rows[name][-2].strip() == "2"
        assert any(
            abs((a["test/ndcg@10"] + b["test/ndcg@10"]) / 2 - float(mean)) < 1e-4
            for a in metrics
            for b in metrics
            if a is not b
        )
    assert "* values from a tuned file (tuned=off: none): tuned/sasrec-synthetic: " in last
    assert f"warning: the rows are not tuned alike: {plain} has no values from a tuned file" in last


def test_a_training_worse_than_guessing_says_so(cli, tiny, tmp_path):
    finished = cli(*tiny, *SASREC, "training.max_epochs=1", "training.lr=1e-9", "seed=3", cwd=tmp_path)
    assert finished.status == 0, finished.err
    assert "that of guessing all items alike" in finished.out
    assert "values from tuned/sasrec-synthetic: dropout 0.2, patience 2; overruled: lr" in finished.err


def test_a_command_that_takes_a_name_of_ours_is_named_and_not_used(cli, tmp_path, install):
    source = "def main(words):\n    print('theirs')\n    return 0\n"
    install("their_tool", "commands", {"doctor": "their_module", "shine": "their_module"}, their_module=source)
    help_text = cli("--help", cwd=tmp_path)
    used = cli("runs", "--help", cwd=tmp_path)
    clash = cli("doctor", "--help", cwd=tmp_path)
    told = "the package their_tool brings a command 'doctor', which is a name of recbench's own: recbench's is used"
    assert [told in part.err for part in (help_text, used, clash)] == [True, False, True]
    assert "theirs" not in clash.out
    assert cli("shine", cwd=tmp_path).out == "theirs\n"
