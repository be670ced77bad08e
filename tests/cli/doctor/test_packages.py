"""What is missing, and the command that mends it."""

from __future__ import annotations

import subprocess

import pytest

from recbench.cli.doctor import packages
from recbench.models import registry


def test_versions_are_compared_as_numbers():
    assert packages.check("torch>=2.6").fits
    assert packages.check("torch").fits
    assert not packages.check("torch>=99.1").fits
    assert packages.check("torch>=99.1").found is not None
    assert not packages.check("surely-not-installed>=1").fits


@pytest.mark.parametrize(("older", "newer"), [("2.9.1", "2.10"), ("2.6", "2.6.1"), ("1.99", "2")])
def test_ten_comes_after_nine(older, newer):
    assert packages._number(older) < packages._number(newer)


def test_the_core_is_what_the_project_asks_for():
    needed, optional = packages.requirements()
    assert {"torch", "polars", "safetensors"} <= {packages.check(line).name for line in needed}
    assert {"int8", "sweep", "tune"} <= optional.keys()
    assert all(need.fits for need in packages.core())


def test_a_missing_extra_is_told_with_a_command_that_pip_takes(monkeypatch):
    lines = (["torch>=2.6"], {"int8": ["bitsandbytes-not-there>=0.45", "torch>=2"], "dev": ["pytest"]})
    monkeypatch.setattr(packages, "requirements", lambda: lines)
    (extra,) = packages.extras()
    assert extra.missing == ["bitsandbytes-not-there"]
    assert extra.command.endswith("'bitsandbytes-not-there>=0.45'")
    assert "-m pip install" in extra.command


def test_every_registered_model_is_told_with_what_its_data_need():
    found = {model.name: model for model in packages.models()}
    assert found.keys() == set(registry.model_names())
    assert [model.problem for model in found.values() if model.problem] == []
    assert found["tim4rec"].reads == ["timestamps"]
    assert found["hicg"].reads == ["behaviours"]
    assert found["tiger"].reads == ["text"]  # through its tokenizer
    assert found["sasrec"].reads == []


def test_a_model_whose_package_is_missing_is_told_and_the_others_too(monkeypatch, tmp_path):
    (tmp_path / "wants_much.py").write_text("import surely_not_there\n")
    (tmp_path / "is_broken.py").write_text("raise ValueError('half written')\n")
    monkeypatch.syspath_prepend(tmp_path)
    modules = {"wants": "wants_much", "broken": "is_broken", "popularity": "recbench.models.counting.popularity"}
    monkeypatch.setattr(registry, "BUILT_IN", modules)
    monkeypatch.setattr(registry, "_entries", {"popularity": registry.lookup("popularity")})
    found = {model.name: model for model in packages.models()}
    assert "surely_not_there" in found["wants"].problem
    assert found["wants"].command.endswith("'surely-not-there'")
    assert found["broken"].problem == "ValueError: half written"
    assert found["popularity"].problem == ""


def test_constraints_are_those_of_the_file_and_differences_are_found(monkeypatch):
    tested = packages.constraints()
    assert tested["torch"].count(".") == 2
    monkeypatch.setattr(packages, "constraints", lambda: {**tested, "torch": "0.0.1"})
    have, known = packages.newer_or_older()["torch"]
    assert (have, known) == (packages.check("torch").found, "0.0.1")


def test_the_command_is_one_that_pip_takes():
    # --dry-run and --no-index: nothing is fetched, but pip reads the words.
    command = packages.install("pip").replace("python", __import__("sys").executable, 1)
    done = subprocess.run(f"{command} --dry-run --no-index --quiet", shell=True, capture_output=True, text=True)
    assert "usage" not in done.stderr.lower()
    assert "No such file" not in done.stderr
