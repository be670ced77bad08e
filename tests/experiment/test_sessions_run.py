"""Session data from the command line: models made for other data run on it unchanged, and its mistakes are told in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recbench.data.split import make_split, protocol_view
from recbench.data.store import prepare
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key

QUICK = ("protocol=sessions", "training.max_epochs=2", "training.patience=2")


@pytest.fixture(scope="module")
def session_files(tmp_path_factory):
    """A folder with a small train.txt and test.txt: cycles over 12 items, started anywhere."""
    folder = tmp_path_factory.mktemp("cycles")
    rng = np.random.default_rng(0)
    for name, lines in (("train", 120), ("test", 20)):
        starts, lengths = rng.integers(0, 12, lines), rng.integers(2, 7, lines)
        rows = [" ".join(str((s + i) % 12 + 100) for i in range(n)) for s, n in zip(starts, lengths, strict=True)]
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return folder


def figures(folder, model):
    (run,) = folder.glob(f"runs/{model}-*")
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("model", ["popularity", "markov", "gru4rec", "sasrec"])
def test_synthetic_pauses_make_sessions_for_every_model(cli, tiny, tmp_path, model):
    done = cli(*tiny, *QUICK, f"model={model}", cwd=tmp_path)
    assert done.status == 0, done.err
    found = figures(tmp_path, model)
    assert found["protocol"] == "sessions-q0.9-full-keep-v1"
    assert 0 < found["test/mrr@20"] <= found["test/hr@20"] <= 1
    assert all(word in done.out for word in ("hr@20", "mrr@20"))
    # The best score that the source knows is that of another protocol.
    assert found["oracle"] == {}
    assert "best achievable" not in done.out


@pytest.mark.parametrize("model", ["popularity", "markov", "gru4rec", "sasrec"])
def test_a_session_file_serves_every_model(cli, session_files, tmp_path, model):
    words = ("data=session_file", f"data.raw_dir={session_files}", "hardware=cpu", "tracking=off")
    done = cli(*words, *QUICK, f"model={model}", cwd=tmp_path)
    assert done.status == 0, done.err
    found = figures(tmp_path, model)
    assert found["protocol"] == "sessions-given-q0.9-full-keep-v1"
    if model == "markov":
        assert found["test/hr@1"] == 1


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["model=popularity"], "popularity-18c9917ce094"),
        (["model=sasrec"], "sasrec-dddaa601f867"),
        (["model=popularity", "protocol=temporal"], "popularity-aefd410a74de"),
    ],
)
def test_runs_of_before_there_were_sessions_keep_their_keys(run_config, tmp_path, words, key):
    config = run_config(tmp_path, *words)
    stage = RunContext.of(config)
    assert stage.data.fingerprint == "da2a94b97b197b6454bc78fad2a4d9ff"
    assert run_key(config, stage) == key


def test_sessions_of_the_synthetic_data_keep_text_and_behaviours(run_config, tmp_path):
    config = run_config(tmp_path, "protocol=sessions")
    stage = RunContext.of(config)
    assert stage.data.has_text
    assert stage.data.has_behaviours
    starts = stage.data.offsets[:-1]
    pauses = np.diff(stage.data.timestamps)
    inside = np.ones(len(pauses), bool)
    inside[starts[1:] - 1] = False
    assert pauses[inside].max() <= 1800
    again = protocol_view(prepare(config.data, config.cache_dir), config.protocol)
    assert make_split(again, config.protocol, None).split_hash == stage.split.split_hash


def test_without_a_validation_of_its_own_the_last_epoch_is_kept(cli, tiny, tmp_path):
    words = (
        "protocol=sessions",
        "protocol.fit_on_validation=true",
        "training.max_epochs=4",
        "training.validate_every=4",
    )
    done = cli(*tiny, *words, "training.lr=0.5", "model=gru4rec", cwd=tmp_path)  # a rate at which epochs get worse
    assert done.status == 0, done.err
    found = figures(tmp_path, "gru4rec")
    assert (found["cost/epochs"], found["cost/best_epoch"]) == (4, 3)
    assert found["protocol"].startswith("sessions-q0.9-fitval-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=diginetica", "protocol=sessions"), "train-item-views.csv"),
        (("data=yoochoose", "data.fraction=1/3", "protocol=sessions"), "data.fraction=1/3 is not known"),
        (("data=synthetic", "protocol=sessions", "protocol.test_dys=1"), "did you mean 'test_days'"),
        (("data=synthetic", "data.session_gap=0", "protocol=sessions"), "data.session_gap=0 must be at least 1"),
    ],
)
def test_mistakes_are_one_line(cli, tmp_path, words, message):
    done = cli(*words, "model=popularity", "tracking=off", f"cache_dir={tmp_path}", cwd=tmp_path)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
