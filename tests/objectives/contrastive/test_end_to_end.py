"""Auxiliaries from the command line to their figures, and whole trainings against a loop that is written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recbench.core.run_folder import RunFolder
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.experiment.build import build_model
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.training import fit

SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "model.dropout=0.3"]
SHORT = ["training.max_epochs=2", "training.batch_size=600", "training.lr=5e-3"]
MARKOV = ["distillation=logits", "distillation.temperature=0.05", "distillation.teacher.model=markov"]
CASES = {
    "cl4srec": (["model.auxiliary=[cl4srec]"], {"cl4srec"}),
    "duorec": (["model.auxiliary=[duorec]"], {"duorec"}),
    "mclrec": (["model.auxiliary=[mclrec]"], {"mclrec", "mclrec_regulariser"}),
    "mclrec as released": (
        ["model.auxiliary=[mclrec]", "model.mclrec.stages=released", "model.mclrec.random_weight=0.1"],
        {"mclrec", "mclrec_regulariser", "mclrec_random"},
    ),
    "two at once": (["model.auxiliary=[cl4srec,duorec]"], {"cl4srec", "duorec"}),
    "with a teacher": (["model.auxiliary=[duorec]", *MARKOV], {"duorec", "logits"}),
    "a sampled loss": (["model.auxiliary=[duorec]", "model.loss=gbce", "model.n_negatives=8"], {"duorec"}),
}


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    return tmp_path_factory.mktemp("cases")


@pytest.mark.parametrize("case", CASES)
def test_every_auxiliary_runs_from_the_command_line(cli, tiny, cwd, case):
    words, terms = CASES[case]
    done = cli(*tiny, *SASREC, *SHORT, *words, cwd=cwd)
    assert done.status == 0, done.err
    folder = RunFolder(cwd / "runs" / done.out.rsplit("runs/", 1)[1].split()[0])
    history = folder.history()
    assert len(history) == 2
    for epoch in history:
        logged = {name.removeprefix("train/"): value for name, value in epoch.items() if name.startswith("train/")}
        assert set(logged) == {"loss", "recommendation", *terms}
        assert all(np.isfinite(value) and value > 0 for value in logged.values())
    # What was learned beside the model is not stored with it.
    plain = run_weights(cli, tiny, cwd)
    assert {name: value.shape for name, value in load_file(folder.weights).items()} == plain


def test_a_model_over_frozen_item_vectors_offers_them(cli, tiny, cwd):
    small = ["model=e4srec", "model.tiny_hidden_size=16", "model.tiny_n_heads=2", "model.n_layers=1"]
    done = cli(*tiny, *small, *SHORT, "model.auxiliary=[mclrec]", cwd=cwd)
    assert done.status == 0, done.err
    last = RunFolder(cwd / "runs" / done.out.rsplit("runs/", 1)[1].split()[0]).history()[-1]
    assert last["train/mclrec"] > 0
    done = cli(*tiny, *small, *SHORT, "model.auxiliary=[cl4srec]", cwd=cwd)
    assert done.status == 2
    assert "'e4srec' learns no vectors of the items that it reads" in done.err


def run_weights(cli, tiny, cwd):
    """Names and shapes that the model stores without auxiliaries."""
    done = cli(*tiny, *SASREC, *SHORT, cwd=cwd)
    folder = RunFolder(cwd / "runs" / done.out.rsplit("runs/", 1)[1].split()[0])
    return {name: value.shape for name, value in load_file(folder.weights).items()}


LOOPS = {
    "none": ["model.auxiliary=[]"],
    "duorec": ["model.auxiliary=[duorec]"],
    "cl4srec": ["model.auxiliary=[cl4srec]"],
    "mclrec": ["model.auxiliary=[mclrec]"],
    "mclrec as released": ["model.auxiliary=[mclrec]", "model.mclrec.stages=released", "training.gradient_clip=0.5"],
}


def written_out(config):
    """Weights after one epoch by a plain loop over the batches."""
    stage = RunContext.of(config)
    model = build_model(config, stage, {}).train()
    windows = training_windows(stage.split.train_start, stage.split.train_end, config.training.max_length)
    dataset = WindowDataset(stage.data, windows)
    auxiliaries = build_auxiliaries(model, dataset)
    learned = [p for part in (model, *auxiliaries) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=config.training.lr, weight_decay=0.0, fused=True)

    def step(batch):
        optimizer.zero_grad()
        terms = [model.training_loss(batch), *(term for part in auxiliaries for term in part.terms(model).values())]
        torch.stack(terms).sum().backward()
        if config.training.gradient_clip:
            torch.nn.utils.clip_grad_norm_(learned, config.training.gradient_clip)
        optimizer.step()

    torch.manual_seed(config.seed * 1_000_003)
    for chosen in EpochSampler(windows, config.training.batch_size, config.seed).plan(0):
        batch = dataset[chosen]
        for part in auxiliaries:
            part.draw(batch)
        step(batch)
        again = [part.after_step(model) for part in auxiliaries]
        if any(again):
            step(batch)
    return model.state_dict()


@pytest.mark.parametrize("case", LOOPS)
def test_a_training_is_the_loop_bit_for_bit(run_config, tmp_path, case):
    one_epoch = ["training.max_epochs=1", *SHORT[1:], "hardware.logits=float32"]
    config = run_config(tmp_path, *SASREC, *one_epoch, *LOOPS[case])
    made = load_file(run(config).folder.weights)
    expected = written_out(config)
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], value) for name, value in expected.items())


def test_each_form_learns_something_else(run_config, tmp_path):
    one_epoch = ["training.max_epochs=1", *SHORT[1:]]
    runs = [run(run_config(tmp_path, *SASREC, *one_epoch, *words)) for words in LOOPS.values()]
    tables = [load_file(made.folder.weights)["item_embedding.weight"] for made in runs]
    assert len({made.folder.key for made in runs}) == len(runs)
    assert not any(torch.equal(a, b) for i, a in enumerate(tables) for b in tables[:i])


def test_only_the_released_form_takes_two_steps_a_batch(run_config, tmp_path, monkeypatch):
    steps = {"first": 0, "again": 0}

    def counted(name, key):
        original = getattr(fit.Learner, name)

        def call(self, *given):
            steps[key] += 1
            return original(self, *given)

        monkeypatch.setattr(fit.Learner, name, call)

    counted("training_step", "first")
    counted("_step_again", "again")
    for stages, share in (("paper", 0), ("released", 1)):
        steps.update(first=0, again=0)
        run(run_config(tmp_path, *SASREC, *SHORT, "model.auxiliary=[mclrec]", f"model.mclrec.stages={stages}"))
        assert steps["first"] > 0
        assert steps["again"] == share * steps["first"]


def test_a_teacher_of_the_students_kind_is_trained_as_the_student_unless_told_otherwise(run_config, tmp_path):
    from recbench.experiment.dependencies import dependency_configs

    words = [*SASREC, "model.auxiliary=[duorec]", "model.duorec.weight=0.2", "distillation=features"]
    same = dependency_configs(run_config(tmp_path, *words, "distillation.teacher.model=sasrec"))["teacher"].model
    assert (same.auxiliary, same.duorec.weight) == (["duorec"], 0.2)
    plain = [*words, "distillation.teacher.model=sasrec", "++distillation.teacher.auxiliary=[]"]
    assert dependency_configs(run_config(tmp_path, *plain))["teacher"].model.auxiliary == []


@pytest.mark.parametrize("name", ["cl4srec", "duorec", "mclrec"])
def test_what_is_learned_with_it_still_recommends(run_config, tmp_path, name):
    words = [*SASREC, "model.dropout=0", "training.batch_size=256", "training.lr=5e-3", "training.max_epochs=20"]
    floor = run(run_config(tmp_path, "model=popularity")).metrics["test/ndcg@10"]
    made = run(run_config(tmp_path, *words, f"model.auxiliary=[{name}]")).metrics
    assert made["test/ndcg@10"] > 1.5 * floor
    assert made["test/ndcg@10"] < made["oracle"]["test/ndcg@10"] + 0.03
