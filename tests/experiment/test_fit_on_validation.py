"""protocol.fit_on_validation: validation chooses the epochs, then everything is learned from the start for that many."""

from __future__ import annotations

import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from recbench.core.run_folder import RunFolder
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import EPOCHS, choosing_config, dependency_configs
from recbench.experiment.key import run_key
from recbench.experiment.run import run
from recbench.training import fit
from recbench.training.convergence import run_was_cut_off
from tests.experiment.test_resume import Stop, stopping, without_times
from tests.fixtures.words import SASREC

FITTED = "protocol.fit_on_validation=true"
WORDS = [
    *SASREC,
    "training.max_epochs=6",
    "training.batch_size=400",
    "training.lr=0.03",
    "training.patience=2",
    "model.dropout=0.3",
]
PROTOCOLS = {
    "leave_one_out": "leave_one_out-fitval-full-mask-v1",
    "temporal": "temporal-q0.8-q0.9-last-fitval-full-mask-v1",
    "sampled_999": "leave_one_out-fitval-uniform20.s0-mask-v1",
    "sessions": "sessions-q0.9-fitval-full-keep-v1",
    "holdout": "holdout-random.s0-v0.1-t0.2-valhist-fitval-full-mask-v1",
}


def words_of(protocol, *more):
    own = {"sampled_999": ["protocol.n_candidates=20"]}.get(protocol, [])
    return [*WORDS, f"protocol={protocol}", *own, *more]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def made(run_config, place):
    return run(run_config(place, *words_of("leave_one_out", FITTED)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_parts_for_every_protocol(run_config, place, protocol):
    fitted = run(run_config(place, *words_of(protocol, FITTED)))
    first = fitted.dependencies[EPOCHS]
    assert first.folder.key == run(run_config(place, *words_of(protocol))).folder.key
    assert fitted.metrics["protocol"] == PROTOCOLS[protocol]
    epochs = first.metrics["cost/best_epoch"] + 1
    history = fitted.folder.history()
    assert len(history) == fitted.metrics["cost/epochs"] == epochs
    assert fitted.metrics["cost/epochs_tried"] == first.metrics["cost/epochs"] == len(first.folder.history())
    assert not any(name.startswith("validation/") for epoch in history for name in epoch)
    validated = {name: value for name, value in first.metrics.items() if name.startswith("validation/")}
    assert {name: fitted.metrics[name] for name in validated} == validated
    assert fitted.validation == first.validation is not None
    # More to learn from, the same questions.
    assert fitted.metrics["audit"]["training_events"] > first.metrics["audit"]["training_events"]
    assert fitted.metrics["test/cases"] == first.metrics["test/cases"]
    for figure in ("train_seconds", "train_cpu_seconds"):
        both = fitted.metrics[f"cost/{figure}"] + first.metrics[f"cost/{figure}"]
        assert fitted.metrics[f"cost/{figure}_with_dependencies"] == pytest.approx(both)


def test_the_second_part_is_a_plain_training_of_so_many_epochs(run_config, place, made, tmp_path):
    """Bit for bit the run that a person would make by hand: all epochs, none chosen, on the same events."""
    epochs = made.metrics["cost/epochs"]
    by_hand = [FITTED, f"training.max_epochs={epochs}", f"training.validate_every={epochs}"]
    plain = run(run_config(tmp_path, *words_of("leave_one_out", *by_hand)))
    assert plain.dependencies == {}
    ours, theirs = load_file(made.folder.weights), load_file(plain.folder.weights)
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())
    assert made.metrics["test/ndcg@10"] == plain.metrics["test/ndcg@10"]


def inside(split, cases):
    """Share of the targets that training holds."""
    return (cases.target_positions < split.train_end[np.repeat(cases.user, cases.n_targets)]).mean()


def test_training_holds_validation_and_no_test_target(run_config, place):
    for protocol in ("leave_one_out", "temporal", "holdout"):
        config = run_config(place, *words_of(protocol, FITTED))
        fitted, plain = RunContext.of(config), RunContext.of(choosing_config(config))
        assert inside(fitted.split, fitted.split.validation) == 1
        assert inside(plain.split, plain.split.validation) == 0
        assert inside(fitted.split, fitted.split.test) == 0
        assert np.array_equal(fitted.split.test.target_positions, plain.split.test.target_positions)


@pytest.mark.parametrize("part", ["first", "second"])
@pytest.mark.parametrize("moment", ["after its checkpoint", "in the middle"])
def test_it_goes_on_wherever_it_was_killed(run_config, made, tmp_path, part, moment):
    config = run_config(tmp_path, *words_of("leave_one_out", FITTED))
    key = (made.dependencies[EPOCHS] if part == "first" else made).folder.key
    with stopping(moment, 1, key), pytest.raises(Stop):
        run(config)
    assert RunFolder(tmp_path / key).state == "failed"
    resumed = run(config)
    ours, theirs = load_file(made.folder.weights), load_file(resumed.folder.weights)
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())
    assert without_times(resumed.folder.history()) == without_times(made.folder.history())
    same = {name for name in made.metrics if name.startswith(("test/", "validation/"))}
    assert {name: resumed.metrics[name] for name in same} == {name: made.metrics[name] for name in same}


def test_kill_9_in_the_second_part(cli, cli_process, tiny, tmp_path, run_config):
    words = [
        *words_of("leave_one_out", FITTED),
        "training.max_epochs=20",
        "training.patience=20",
        "training.lr=0.001",
        "training.batch_size=100",
    ]
    wanted = run_config(tmp_path / "runs", *words)
    key = run_key(wanted, RunContext.of(wanted))
    process = cli_process(*tiny, *words, f"runs_dir={tmp_path}/runs", cwd=tmp_path)
    folder, history = RunFolder(tmp_path / "runs" / key), []
    while len(history) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
        history = folder.history() if folder.path.is_dir() else []
    process.kill()
    process.communicate()
    assert folder.state == "running"
    again = cli(*tiny, *words, f"runs_dir={tmp_path}/runs", cwd=tmp_path)
    assert again.status == 0, again.err
    assert f"continuing {key}" in again.err
    epochs = [epoch["epoch"] for epoch in folder.history()]
    assert epochs == list(range(folder.read("metrics.json")["cost/epochs"]))
    assert "is there already" in again.err  # the first part was not made again
    assert "needed: " in again.out


def test_a_schedule_falls_as_it_did_when_the_epochs_were_chosen(run_config, tmp_path, monkeypatch):
    rates = []

    class Seen(fit.Learner):
        def on_train_epoch_end(self):
            rates[-1].append(self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"])

        def on_fit_start(self):
            rates.append([])
            super().on_fit_start()

    monkeypatch.setattr(fit, "Learner", Seen)
    made = run(
        run_config(tmp_path, *words_of("leave_one_out", FITTED, "training.schedule=cosine", "training.patience=1"))
    )
    first, second = rates
    assert len(second) == made.metrics["cost/epochs"]
    # As far along the curve, not at its end; a step here is a smaller part of an epoch.
    np.testing.assert_allclose(second, first[: len(second)], rtol=0.15)


def test_who_has_nothing_to_choose_has_no_first_part(run_config, place):
    for words in (
        ["model=markov", FITTED],
        words_of("leave_one_out", FITTED, "training.validate_every=6"),
        words_of("leave_one_out"),
    ):
        assert EPOCHS not in dependency_configs(run_config(place, *words))


def test_a_teacher_goes_the_same_way_and_its_first_part_is_judged(run_config, place):
    config = run_config(
        place,
        *words_of(
            "leave_one_out",
            FITTED,
            "distillation=logits",
            "distillation.teacher.model=sasrec",
            "distillation.teacher.hidden_size=8",
        ),
    )
    parts = dependency_configs(config)
    assert set(parts) == {EPOCHS, "teacher"}
    assert parts["teacher"].protocol.fit_on_validation
    assert not parts[EPOCHS].protocol.fit_on_validation
    assert EPOCHS in dependency_configs(parts["teacher"])
    assert dependency_configs(parts[EPOCHS])["teacher"].protocol.fit_on_validation is False


def test_a_first_part_that_was_cut_off_is_told_of_the_second():
    config = {"training": {"max_epochs": 10, "patience": 3}, "protocol": {"fit_on_validation": True}}
    assert run_was_cut_off(config, {"cost/epochs": 9, "cost/best_epoch": 8, "cost/epochs_tried": 10})
    assert not run_was_cut_off(config, {"cost/epochs": 5, "cost/best_epoch": 4, "cost/epochs_tried": 8})
    assert not run_was_cut_off(config, {"cost/epochs": 10, "cost/best_epoch": 9})


def test_status_says_why_it_ended(made):
    reason = made.folder.read("status.json")["reason"]
    assert reason.startswith(f"trained on validation too, for the {made.metrics['cost/epochs']} epochs")
