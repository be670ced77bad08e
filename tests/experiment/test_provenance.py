"""What a run says of where it comes from, and that what it says of determinism is so."""

from __future__ import annotations

import json
from types import SimpleNamespace

import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.experiment import provenance
from recbench.experiment.provenance import DETERMINISM, config_hash, determinism, exit_reason, nvidia_driver
from recbench.experiment.run import run
from recbench.models.registry import lookup

SMALL = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "training.max_epochs=2",
    "training.batch_size=256",
]


@pytest.fixture(scope="module")
def two_runs(run_config, tmp_path_factory):
    return [run(run_config(tmp_path_factory.mktemp("runs"), *SMALL)) for _ in range(2)]


def test_exact_means_that_two_runs_have_the_same_ranks_to_the_bit(two_runs):
    ours, theirs = two_runs
    assert ours.folder.path != theirs.folder.path
    assert ours.folder.read("provenance.json")["determinism"] == "exact"
    assert pl.read_parquet(ours.folder.ranks).equals(pl.read_parquet(theirs.folder.ranks))
    assert ours.folder.weights.read_bytes() == theirs.folder.weights.read_bytes()


def test_another_seed_has_other_ranks(two_runs, run_config, tmp_path):
    other = run(run_config(tmp_path, *SMALL, "seed=2"))
    assert not pl.read_parquet(other.folder.ranks).equals(pl.read_parquet(two_runs[0].folder.ranks))


def test_a_run_says_what_a_reader_needs_to_repeat_it(two_runs):
    said = json.loads((two_runs[0].folder.path / "provenance.json").read_text())
    assert {
        "commit",
        "dirty",
        "config_hash",
        "raw_files",
        "split_hash",
        "data_fingerprint",
        "versions",
        "drivers",
        "device",
        "seed",
    } <= said.keys()
    assert said["device"] == "cpu"
    build = __import__("torch").__version__  # its suffix, as in 2.13.0+cu130, may be no part of the package's version
    assert said["versions"]["torch"] in (build, build.split("+")[0])
    assert said["determinism_meaning"] == DETERMINISM["exact"]


def test_raw_files_are_named_with_their_hashes(run_config, compose, tmp_path):
    from recbench.config.run import RunConfig
    from recbench.experiment.context import RunContext
    from recbench.experiment.provenance import provenance as made

    rows = [f"u{u},i{(u + k) % 7},{k}" for u in range(20) for k in range(6)]
    (tmp_path / "events.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    words = [
        "model=popularity",
        "data=table",
        f"data.path={tmp_path}/events.csv",
        f"cache_dir={tmp_path}/cache",
        "hardware=cpu",
        "tracking=off",
    ]
    config = RunConfig.from_hydra(compose(*words))
    stage = RunContext.of(config)
    (told,) = made(config, stage.data, stage.split, {})["raw_files"].values()
    import hashlib

    assert told["sha256"] == hashlib.sha256((tmp_path / "events.csv").read_bytes()).hexdigest()


def test_the_hash_of_a_config_changes_with_every_key(run_config, tmp_path):
    base = config_hash(run_config(tmp_path, *SMALL))
    assert base == config_hash(run_config(tmp_path, *SMALL))
    others = [
        config_hash(run_config(tmp_path, *SMALL, word))
        for word in ("seed=2", "hardware.threads=1", "model.dropout=0.3")
    ]
    assert len({base, *others}) == 4


@pytest.mark.parametrize(
    ("words", "device", "level"),
    [
        ([], "cpu", "exact"),
        ([], "cuda", "seeded"),
        (["hardware.devices=2"], "cpu", "seeded"),
        (["hardware.precision=bf16-mixed"], "cpu", "seeded"),
        (["hardware.compile=true"], "cpu", "seeded"),
    ],
)
def test_the_level_follows_from_the_hardware(run_config, tmp_path, words, device, level):
    assert determinism(run_config(tmp_path, *SMALL, *words), device) == level


def test_a_model_that_draws_unseeded_numbers_is_not_deterministic(run_config, tmp_path, monkeypatch):
    monkeypatch.setattr(lookup("sasrec").model, "is_seeded", False)
    assert determinism(run_config(tmp_path, *SMALL), "cpu") == "none"


def test_why_a_run_ended_stands_beside_its_state(two_runs, run_config, tmp_path):
    assert two_runs[0].folder.read("status.json")["reason"] == "all 2 epochs trained"
    config = run_config(tmp_path, *SMALL, "training.max_epochs=30", "training.patience=3")
    assert exit_reason(config, {"cost/epochs": 9}) == "no better validation for 3 epochs, after 9 of 30"
    assert exit_reason(config, {"cost/epochs": 30}) == "all 30 epochs trained"
    assert exit_reason(config, {}) == "computed"


def test_the_driver_is_read_from_the_kernel(tmp_path):
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: gcc 12\n"
    )
    assert nvidia_driver(told) == "535.183.01"
    told.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n")
    assert nvidia_driver(told) == "570.86.15"
    assert nvidia_driver(tmp_path / "nothing") is None


def test_versions_of_packages_that_are_not_there_are_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "surely-not-installed"))
    assert provenance.versions().keys() == {"torch"}


def test_random_weights_that_other_versions_would_draw_anew_are_refused(monkeypatch):
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "2.13.0+cpu", "transformers": "5.23.0"})
    drawn = SimpleNamespace(init="random_frozen")
    provenance.refuse_other_draws("run-1", drawn, {"torch": "2.13.0", "transformers": "5.23.0"})
    provenance.refuse_other_draws("run-1", SimpleNamespace(init="pretrained"), {"torch": "2.11.0"})
    provenance.refuse_other_draws("run-1", SimpleNamespace(), {"torch": "2.11.0"})
    with pytest.raises(UserError, match=r"run-1 has frozen random weights.*torch 2\.11\.0, here 2\.13\.0"):
        provenance.refuse_other_draws("run-1", drawn, {"torch": "2.11.0", "transformers": "5.23.0"})
    with pytest.raises(UserError, match="transformers"):
        tower = SimpleNamespace(tower_init="random", tower_train="lora")
        provenance.refuse_other_draws("run-1", tower, {"transformers": "5.17.0"})
