"""Every objective from the command line to its figures, and the promises about a teacher that only a whole run can show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment.build import build_model
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.objectives.distillation.offline import StoredLessons
from recbench.objectives.distillation.teacher import OnlineLessons
from recbench.training import fit
from tests.fixtures.words import SASREC, SHORT, SLMREC

DEEPER = ["distillation.teacher.n_layers=4", "distillation.force=true"]
WIDER = ["distillation.teacher.model=sasrec", "distillation.teacher.hidden_size=24", "distillation.force=true"]
TINY_LLM = [
    "distillation.teacher.n_layers=2",
    "distillation.teacher.tiny_hidden_size=16",
    "distillation.teacher.tiny_n_heads=2",
    "distillation.teacher.tiny_feedforward_size=16",
    "distillation.force=true",
]
MARKOV = ["distillation.teacher.model=markov"]
CASES = {
    "none": [*SLMREC, "distillation=none"],
    "slmrec": [*SLMREC, "distillation.n_blocks=2", *DEEPER],
    "slmrec, the other way": [
        *SLMREC,
        "distillation.n_blocks=2",
        *DEEPER,
        "distillation.form=released",
        "distillation.heads=shared",
        "distillation.inner_states=normed",
        "distillation.norm_weight=0",
    ],
    "multi_supervision": [*SLMREC, "distillation=multi_supervision", "distillation.n_blocks=2"],
    "logits": [*SLMREC, "distillation=logits", *DEEPER],
    "logits of counts": [*SASREC, "distillation=logits", "distillation.temperature=0.05", *MARKOV],
    "ranking": [*SLMREC, "distillation=ranking", *DEEPER],
    "ranking of counts": [*SLMREC, "distillation=ranking", *MARKOV],
    "features of a sasrec": [*SLMREC, "distillation=features", *WIDER],
    "features of a language model": [*SASREC, "distillation=features", *TINY_LLM],
}
TERMS = {
    "none": set(),
    "slmrec": {"cosine", "norm", "supervision"},
    "slmrec, the other way": {"cosine", "supervision"},
    "multi_supervision": {"supervision"},
}


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    """One folder for all cases, so that they share item table and teachers."""
    return tmp_path_factory.mktemp("cases")


def weights_of(made):
    return load_file(made.folder.weights)


@pytest.mark.parametrize("case", CASES)
def test_every_objective_runs_from_the_command_line(cli, tiny, cwd, case):
    before = set(cwd.glob("runs/*"))
    done = cli(*tiny, *CASES[case], *SHORT, cwd=cwd)
    assert done.status == 0, done.err
    (student,) = [
        folder
        for folder in (RunFolder(path) for path in set(cwd.glob("runs/*")) - before)
        if (cwd / "runs" / folder.key / "metrics.json").is_file() and str(folder.path) in done.out
    ]
    history = student.history()
    terms = TERMS.get(case, {case.split(" ")[0].rstrip(",")})
    assert len(history) == 2
    for epoch in history:
        logged = {name.removeprefix("train/") for name in epoch if name.startswith("train/")}
        assert logged == {"loss", *terms, *(["recommendation"] if terms else [])}
        assert all(np.isfinite(epoch[f"train/{name}"]) and epoch[f"train/{name}"] > 0 for name in logged)
    metrics = student.read("metrics.json")
    assert ("teacher" in metrics["dependencies"]) == (case not in ("none", "multi_supervision"))
    assert ("cost/taught_bytes" in metrics) == ("teacher" in metrics["dependencies"])
    # What was learned beside the student is not stored with it.
    assert not any("head" in name or "projection" in name for name in load_file(student.weights))


@pytest.fixture
def kinds(monkeypatch):
    """Notes how the teacher was reached: "asked" and "looked up", once a batch."""
    seen = []
    for owner, word in ((OnlineLessons, "asked"), (StoredLessons, "looked up")):
        call = owner.__call__
        monkeypatch.setattr(
            owner, "__call__", lambda self, batch, call=call, word=word: (seen.append(word), call(self, batch))[1]
        )
    return seen


@pytest.mark.parametrize("case", ["slmrec", "logits", "ranking of counts", "features of a language model"])
def test_offline_equals_online_in_a_whole_training(run_config, tmp_path, kinds, case):
    words = [*CASES[case], "training.max_epochs=2", *SHORT[1:], "model.dropout=0.3"]
    online = run(run_config(tmp_path / "online", *words, "distillation.mode=online"))
    assert set(kinds) == {"asked"}
    steps = len(kinds)
    kinds.clear()
    offline = run(run_config(tmp_path / "offline", *words))
    assert kinds.count("looked up") == steps  # the same number of steps
    assert "asked" not in kinds[kinds.index("looked up") :]  # and no word of the teacher in any of them
    assert offline.folder.key == online.folder.key
    # With dropout in the student: both drew the same random numbers.
    for name, value in weights_of(online).items():
        np.testing.assert_allclose(weights_of(offline)[name], value, atol=2e-3, rtol=2e-3)
    for mine, theirs in zip(offline.folder.history(), online.folder.history(), strict=True):
        for name, value in theirs.items():
            if name.startswith("train/"):
                assert mine[name] == pytest.approx(value, rel=1e-4), name
    for name in ("test/ndcg@10", "test/mrr", "validation/ndcg@10"):
        assert offline.metrics[name] == pytest.approx(online.metrics[name], abs=0.01)


def test_how_the_teacher_is_asked_makes_no_other_run(run_config, tmp_path, kinds):
    made = run(run_config(tmp_path, *CASES["slmrec"], *SHORT))
    for words in (["distillation.mode=online"], ["distillation.store=float16"]):
        again = run(run_config(tmp_path, *CASES["slmrec"], *SHORT, *words))
        assert (again.folder.key, again.reused) == (made.folder.key, True)


def test_a_later_student_finds_the_answers_and_asks_nothing(run_config, tmp_path, kinds):
    first = run(run_config(tmp_path, *CASES["slmrec"], *SHORT))
    assert "asked" in kinds
    assert first.metrics["cost/taught_seconds"] > 0
    kinds.clear()
    words = [*CASES["slmrec"], *SHORT, "distillation.norm_weight=0.5", "distillation.form=released"]
    second = run(run_config(tmp_path, *words))
    assert set(kinds) == {"looked up"}
    assert second.dependencies["teacher"].folder.key == first.dependencies["teacher"].folder.key
    assert second.metrics["cost/taught_seconds"] == 0
    assert second.metrics["cost/taught_bytes"] == first.metrics["cost/taught_bytes"]


def test_a_random_teacher_is_one_key_and_no_gate_stops_it(run_config, tmp_path, tiny_data, tiny_split):
    words = [*SLMREC, *SHORT, "distillation.n_blocks=2", "distillation.teacher.n_layers=4"]
    made = run(run_config(tmp_path, *words, "distillation.teacher.init=random"))
    teacher = made.dependencies["teacher"]
    assert teacher.folder.finished
    assert teacher.folder.history() == []
    assert (teacher.metrics["cost/epochs"], teacher.metrics["cost/train_seconds"]) == (0, 0)
    assert 0 <= teacher.metrics["test/ndcg@10"] < 0.3
    # It reads the student's item table, which was trained; all else is as drawn.
    table = made.dependencies["item_table"]
    assert teacher.dependencies["item_table"].folder.key == table.folder.key
    assert table.metrics["cost/epochs"] == 2
    stage = RunContext(tiny_data, tiny_split)
    drawn = build_model(teacher.config, stage, {"item_table": build_model(table.config, stage, {})}).state_dict()
    stored = weights_of(teacher)
    assert all(np.array_equal(stored[name], drawn[name]) for name in stored if name != "item_table")
    assert {f"train/{name}" for name in ("cosine", "norm", "supervision")} <= made.folder.history()[0].keys()


def test_a_trained_teacher_that_popularity_beats_still_stops_its_student(run_config, tmp_path):
    words = [*SASREC, *SHORT, "distillation=logits", *WIDER[:2], "distillation.teacher.training.lr=1e-9"]
    with pytest.raises(UserError, match=r"the teacher sasrec-\w+ has validation/ndcg@10 .* no better than popularity"):
        run(run_config(tmp_path, *words))
    assert not run(run_config(tmp_path, *words, "distillation.force=true")).reused


class Stop(Exception):
    """Whatever ends a process."""


@pytest.mark.parametrize("case", ["features of a language model", "ranking of counts"])
def test_a_resumed_student_of_a_stored_teacher_equals_an_uninterrupted_one(
    run_config, tmp_path, monkeypatch, kinds, case
):
    words = [*CASES[case], "training.max_epochs=4", *SHORT[1:], "model.dropout=0.3"]
    whole = run(run_config(tmp_path / "whole", *words))
    original = fit.ResumePoint.on_train_epoch_end

    def stop(self, trainer, learner):
        original(self, trainer, learner)
        if trainer.current_epoch == 1 and self.path.parent.name == whole.folder.key:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(fit.ResumePoint, "on_train_epoch_end", stop)
        run(run_config(tmp_path / "cut", *words))
    kinds.clear()
    resumed = run(run_config(tmp_path / "cut", *words))
    assert set(kinds) == {"looked up"}
    assert all(np.array_equal(weights_of(resumed)[name], value) for name, value in weights_of(whole).items())
    told = [
        [
            {k: v for k, v in epoch.items() if "seconds" not in k and not k.startswith("spent/")}
            for epoch in made.folder.history()
        ]
        for made in (whole, resumed)
    ]
    assert told[0] == told[1]


def test_a_loss_that_diverges_is_one_line_and_its_reason_is_kept(cli, tiny, tmp_path):
    done = cli(*tiny, *SASREC, "training.lr=1e30", "training.batch_size=100", cwd=tmp_path)
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith("error: the loss term 'loss' became nan in epoch 1 (training.lr=")
    assert "Traceback" not in done.err
    (folder,) = [RunFolder(path) for path in tmp_path.glob("runs/sasrec-*")]
    assert folder.state == "failed"
    assert "the loss term 'loss' became nan" in folder.read("status.json")["reason"]


def test_a_mistake_is_told_before_anything_is_trained(cli, tiny, tmp_path):
    done = cli(*tiny, *SASREC, "distillation=features", *MARKOV, cwd=tmp_path)
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith("error: the teacher 'markov' has no hidden states")
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.gpu
def test_a_gpu_reads_the_same_answers(run_config, tmp_path, kinds):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    words = [*CASES["slmrec"], *SHORT, "hardware=gpu"]
    online = run(run_config(tmp_path / "online", *words, "distillation.mode=online"))
    offline = run(run_config(tmp_path / "offline", *words))
    for mine, theirs in zip(offline.folder.history(), online.folder.history(), strict=True):
        assert mine["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)
