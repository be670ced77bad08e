"""TensorBoard and Weights & Biases through Lightning's loggers: offline, once a run, and never the end of a run."""

from __future__ import annotations

import json

import pytest

from recbench.core.run_folder import RunFolder

WORDS = ["model=sasrec", "model.hidden_size=16", "training.max_epochs=2", "training.batch_size=256"]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def untracked(tiny):
    return [word for word in tiny if not word.startswith("tracking")]


def asked_run(folder):
    (path,) = (folder / "runs").glob("sasrec-*")
    return RunFolder(path)


def test_tensorboard_has_the_curves_figures_and_choices_of_a_run(cli, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [*untracked(tiny), *WORDS, "tracking=tensorboard"]
    done = cli(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert "compare runs: tensorboard --logdir tensorboard" in done.err
    run = asked_run(tmp_path)
    place = tmp_path / "tensorboard" / "recbench" / run.key
    events = EventAccumulator(str(place)).Reload()
    history, metrics = run.history(), run.read("metrics.json")
    for name in ("train/loss", "validation/ndcg@10"):
        told = [(event.step, event.value) for event in events.Scalars(f"epoch/{name}")]
        assert told == [(epoch["epoch"], pytest.approx(epoch[name])) for epoch in history]
    assert events.Scalars("test/hr@10")[-1].value == pytest.approx(metrics["test/hr@10"])
    assert "training.lr" in (place / "hparams.yaml").read_text()
    # The floor is there too, and a second call sends nothing twice.
    files = sorted(path for path in (tmp_path / "tensorboard").rglob("*") if path.is_file())
    assert {path.parent.name.partition("-")[0] for path in files} == {"sasrec", "popularity"}
    assert cli(*words, cwd=tmp_path).status == 0
    assert sorted(path for path in (tmp_path / "tensorboard").rglob("*") if path.is_file()) == files
    assert not (tmp_path / "mlflow.db").exists()


def test_jobs_of_a_sweep_send_themselves(cli, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    done = cli("-m", *untracked(tiny), "model=popularity,markov", "tracking=tensorboard", cwd=tmp_path)
    assert done.status == 0, done.err
    assert {path.name.partition("-")[0] for path in (tmp_path / "tensorboard/recbench").iterdir()} == {
        "popularity",
        "markov",
    }
    assert not (tmp_path / "mlflow.db").exists()


def test_wandb_keeps_a_run_offline(cli, tiny, tmp_path, offline):
    pytest.importorskip("wandb")
    done = cli(*untracked(tiny), "model=markov", "tracking=wandb", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "project recbench of Weights & Biases" in done.err
    (path,) = (tmp_path / "runs").glob("markov-*")
    kept = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert any(path.name in file.name for file in kept)
    assert all(file.stat().st_size > 0 for file in kept)
    assert json.loads((path / "loggers.json").read_text())


def test_a_tracker_that_fails_is_told_and_the_run_is_complete(cli, tiny, tmp_path, monkeypatch):
    from recbench.tracking import loggers

    def fails(*arguments):
        raise OSError("no room\nfor more")

    monkeypatch.setattr(loggers, "_tracker", fails)
    done = cli(*untracked(tiny), "model=markov", "tracking=tensorboard", cwd=tmp_path)
    assert done.status == 0
    assert "not sent to tensorboard: no room; the run is complete on disk" in done.err
    (path,) = (tmp_path / "runs").glob("markov-*")
    assert RunFolder(path).finished
    assert not (path / "loggers.json").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_extra_is_named_before_anything_is_trained(cli, tiny, tmp_path, monkeypatch, name):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda word, *rest: None if word == name else original(word, *rest)
    )
    done = cli(*untracked(tiny), "model=markov", f"tracking={name}", cwd=tmp_path)
    assert done.status == 2
    assert f"pip install 'recbench[{name}]'" in done.err
    assert not (tmp_path / "runs").exists()
