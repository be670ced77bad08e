"""The command: its words, its JSON, its status."""

from __future__ import annotations

import json

import pytest

from recbench.cli.doctor import command as doctor
from recbench.cli.doctor import packages


def test_a_machine_on_which_the_tests_run_is_well(capsys, tmp_path):
    assert doctor.main(["--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "recbench can run here" in out
    assert "hicg: ready; its data need behaviours" in out
    assert all(line.isprintable() for line in out.splitlines())


def test_json_holds_what_the_lines_say(capsys, tmp_path):
    assert doctor.main(["--json", "--cache-dir", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == []
    assert {model["name"] for model in told["models"]} >= {"sasrec", "tiger"}
    assert told["machine"]["usable_cores"] >= 1


def test_a_missing_core_is_status_1_and_the_command_that_mends_it(monkeypatch, capsys, tmp_path):
    gone = packages.Need("polars", ">=2.1", "1.0", False)
    monkeypatch.setattr(packages, "core", lambda: [gone])
    assert doctor.main(["--cache-dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "MISSING    polars>=2.1 (found 1.0)" in out
    assert "'polars>=2.1'" in out
    assert "cannot run here" in out


def test_a_torch_that_does_not_load_is_told_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "torch_problem", lambda: "libcudart.so.13: cannot open shared object file")
    assert doctor.main(["--cache-dir", str(tmp_path)]) == 1
    assert "libcudart.so.13" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor.hardware, "disk", lambda place: {"free": 10, "writable": False})
    assert doctor.main(["--cache-dir", str(tmp_path)]) == 1
    assert "cache_dir=PATH" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--jsn"], ["more"]])
def test_wrong_words_are_one_line(words, capsys):
    assert doctor.main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
