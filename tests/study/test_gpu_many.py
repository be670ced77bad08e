"""Many rows side by side on a lent machine: lists are read, lanes are filled by kind, and the time ends them."""

from __future__ import annotations

import json
import sys
import time

import pytest

from experiments.gpu import many
from experiments.gpu.many import Line


def test_a_list_is_read_and_a_line_that_is_none_is_named():
    text = "# first\n\ngpu a_study x,y model.k=3\ncpu other z\n"
    assert many.lines_of(text) == [Line("gpu", "a_study", "x,y", ("model.k=3",)), Line("cpu", "other", "z")]
    with pytest.raises(SystemExit, match="cannot read 'tpu a b'"):
        many.lines_of("tpu a b")
    with pytest.raises(SystemExit, match="cannot read 'gpu a'"):
        many.lines_of("gpu a")


def run(tmp_path, monkeypatch, text, code, *options):
    """Run a list whose studies are a line of Python; returns (exit status, lines of many.jsonl)."""
    (tmp_path / "list").write_text(text)
    began = many.subprocess.Popen
    said = []

    def process(command, **keys):
        said.append((command, keys["env"].get("CUDA_VISIBLE_DEVICES")))
        return began([sys.executable, "-c", code], **keys)

    monkeypatch.setattr(many.subprocess, "Popen", process)
    chosen = many.arguments([str(tmp_path / "list"), "--out", str(tmp_path / "out"), *options])
    status = many.run(chosen)
    lines = (tmp_path / "out" / "many.jsonl").read_text().splitlines()
    return status, [json.loads(line) for line in lines], said


def test_each_kind_has_its_own_lanes_and_words(tmp_path, monkeypatch):
    options = ("--seconds", "60", "--gpu", "1", "--cpu", "1", "data.raw_dir=there")
    status, lines, said = run(tmp_path, monkeypatch, "gpu a x\ncpu b y\ngpu a z k=1\n", "", *options)
    assert status == 0
    assert sorted((line["kind"], line["rows"], line["status"]) for line in lines) == [
        ("cpu", "y", 0),
        ("gpu", "x", 0),
        ("gpu", "z", 0),
    ]
    words = {command[command.index("--rows") + 1]: command for command, _ in said}
    assert "hardware=gpu" in words["x"]
    assert words["z"][-2:] == ["data.raw_dir=there", "k=1"]
    assert [hidden for command, hidden in said if "hardware=cpu" in command] == [""]


def test_a_line_that_fails_is_a_failure(tmp_path, monkeypatch):
    status, lines, _ = run(tmp_path, monkeypatch, "cpu b y\n", "raise SystemExit(4)", "--seconds", "60", "--cpu", "1")
    assert (status, lines[0]["status"]) == (1, 4)


def test_the_end_of_the_time_ends_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "GRACE", 0.5)
    began = time.monotonic()
    status, lines, _ = run(
        tmp_path, monkeypatch, "cpu b y\n", "import time; time.sleep(60)", "--seconds", "1.2", "--cpu", "1"
    )
    assert (status, lines[0]["status"]) == (3, None)
    assert time.monotonic() - began < 30
