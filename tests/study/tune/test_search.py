"""A search from its command to the file of best values: on validation, within its budget, going on where it was."""

from __future__ import annotations

import json
import time

import pytest
import yaml

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

SMALL = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "model.n_layers=1",
    "model.dropout=0.2",
    "training.batch_size=256",
    "training.patience=9",
]
SPACE = "training.lr=tag(log,interval(1e-4,1e-1))"


@pytest.fixture
def tune(cli, tiny, tmp_path):
    """tune("--trials", "3", words=[...]) -> (finished command, search.yaml)."""
    from recbench.study.tune.words import hydra_words, read_arguments

    def run(*arguments, words=(SPACE,)):
        _, line = hydra_words(read_arguments([*tiny, *SMALL, *words, *arguments]))
        finished = cli(*line, cwd=tmp_path)
        found = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("runs/searches/*/search.yaml")]
        return finished, found[0] if len(found) == 1 else found

    return run


def test_a_search_keeps_to_its_budget_and_its_best_values_can_be_named(tune, cli, tiny, tmp_path):
    """Four trainings of two epochs, a larger budget for the same search, and a run with what it found."""
    finished, first = tune("--trials=3", "training.max_epochs=2")
    assert finished.status == 0, finished.err
    assert "test, protocol" not in finished.out  # nobody chooses on test figures
    assert [trial["state"] for trial in first["trials"]] == ["finished"] * 3
    best = max(first["trials"], key=lambda trial: trial["value"])
    assert first["best"] == best
    metrics = json.loads((tmp_path / "runs" / best["key"] / "metrics.json").read_text())
    assert best["value"] == metrics["validation/ndcg@10"]
    assert first["budget"]["seconds_spent"] == pytest.approx(
        sum(trial["seconds"] for trial in first["trials"]), abs=0.01
    )

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/sasrec-*/metrics.json")}
    finished, more = tune("--trials=4", "training.max_epochs=2")
    assert finished.status == 0, finished.err
    assert more["trials"][:3] == first["trials"]  # looked up, to the second that they took
    assert len(more["trials"]) == 4
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    tuned = yaml.safe_load((tmp_path / "tuned" / "sasrec-synthetic.yaml").read_text())
    assert tuned["training"]["lr"] == more["best"]["values"]["training.lr"]
    assert tuned["training"]["patience"] == 2  # what conf/tuned says of the same name stays
    used = cli(*tiny, *SMALL, "training.max_epochs=2", "tuned=sasrec-synthetic", cwd=tmp_path)
    assert used.status == 0, used.err
    assert more["best"]["key"] + " is there already" in used.err
    shown = yaml.safe_load(cli("--cfg", "job", *tiny, "model=sasrec", cwd=tmp_path).out)
    assert shown["training"]["lr"] != tuned["training"]["lr"]  # only where it is asked for


def test_a_bad_trial_is_given_up_and_can_be_finished_later(tune, cli, tiny, tmp_path):
    """Two trials with a hopeless learning rate among five (20 s)."""
    # The seeded sampler draws 0.009, 3e-6, 0.009, 1e-6, 0.009.
    words = ["training.lr=choice(0.01,0.009,0.008,1e-6,2e-6,3e-6)", "training.max_epochs=4"]
    plain = ["hydra.sweeper.prune_after=2", "hydra.sweeper.prune_startup=1"]
    finished, found = tune("--trials=5", *words, *plain, words=())
    assert finished.status == 0, finished.err
    assert [trial["state"] for trial in found["trials"]] == ["finished", "stopped", "finished", "stopped", "finished"]
    stopped = [trial for trial in found["trials"] if trial["state"] == "stopped"]
    assert [trial["values"]["training.lr"] for trial in stopped] == [3e-6, 1e-6]
    trial = stopped[0]
    folder = tmp_path / "runs" / trial["key"]
    status = json.loads((folder / "status.json").read_text())
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert (status["state"], trial["epochs"], len(history)) == ("stopped", 2, 2)
    assert trial["value"] == max(epoch["validation/ndcg@10"] for epoch in history)
    assert found["best"]["values"]["training.lr"] == 0.009
    again, same = tune("--trials=5", *words, *plain, words=())
    assert (again.status, same) == (0, found)
    # Asked for by itself it is trained to its end, from its checkpoint.
    whole = cli(*tiny, *SMALL, "training.lr=3e-6", "training.max_epochs=4", cwd=tmp_path)
    assert whole.status == 0, whole.err
    assert "continuing" in whole.err
    assert len((folder / "history.jsonl").read_text().splitlines()) == 4


def test_a_budget_in_time_ends_a_search_and_failed_trials_do_not(tune):
    finished, found = tune("--hours=0.0000003", "training.max_epochs=1")  # a millisecond: one trial has it
    assert (finished.status, len(found["trials"])) == (0, 1)
    assert "is spent" in finished.err


def test_a_trial_that_fails_is_named_and_the_search_goes_on(tune):
    finished, found = tune("--trials=3", "training.max_epochs=1", words=["training.schedule=choice(constant,wrong)"])
    assert finished.status == 2
    states = {trial["values"]["training.schedule"]: trial["state"] for trial in found["trials"]}
    assert states.get("wrong") == "failed"
    assert "unknown training.schedule 'wrong'" in finished.out
    assert found["budget"]["failed"] == sum(trial["state"] == "failed" for trial in found["trials"])


def test_a_search_of_nothing_is_refused(tune):
    finished, _ = tune("--trials=2", words=["training.lr=0.01"])
    assert finished.status == 2
    assert "nothing to search" in finished.err.splitlines()[-1]


def test_kill_9_of_a_search_and_the_same_command_again(cli_process, cli, tiny, tmp_path):
    """The storage of a search is its runs: what was tried is looked up, the trial that was cut short resumes, the values are the same (20 s)."""
    from recbench.core.run_folder import RunFolder
    from recbench.study.tune.words import hydra_words, read_arguments

    words = [*tiny, *SMALL, SPACE, "training.max_epochs=12", "--trials=3", "--no-prune"]
    process = cli_process("tune", *words, cwd=tmp_path)
    deadline = time.monotonic() + 300

    def folders(state):
        found = [RunFolder(path.parent) for path in tmp_path.glob("runs/sasrec-*/status.json")]
        return [folder for folder in found if folder.state == state]

    while not (folders("finished") and any(len(folder.history()) > 3 for folder in folders("running"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    (cut,) = folders("running")
    before = {folder.key: folder.read("status.json")["updated"] for folder in folders("finished")}
    _, line = hydra_words(read_arguments(words))
    again = cli(*line, cwd=tmp_path)
    assert again.status == 0, again.err
    assert f"continuing {cut.key}" in again.err
    (path,) = tmp_path.glob("runs/searches/*/search.yaml")
    trials = yaml.safe_load(path.read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["finished"] * 3
    assert {cut.key, *before} <= {trial["key"] for trial in trials}  # it asked for the same values
    assert len(list(tmp_path.glob("runs/sasrec-*"))) == 3
    assert all(
        RunFolder(tmp_path / "runs" / key).read("status.json")["updated"] == stamp for key, stamp in before.items()
    )
