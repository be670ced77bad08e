"""Run folders read as they are: whole, of older versions, broken."""

from __future__ import annotations

import json

import pytest

from recbench.core.errors import UserError
from recbench.report.collect import HALF_WRITTEN, chosen, flat, read_folder, read_run


def test_a_finished_run_is_read_and_nothing_in_its_folder_is_touched(folders):
    path = folders.add("sasrec-1", seed=3)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}
    run = read_run(path)
    assert (run.state, run.seed, run.metrics["protocol"]) == ("finished", 3, "leave_one_out-full-mask-v1")
    assert [epoch["epoch"] for epoch in run.history()] == [0, 1, 2, 3]
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()} == before


def test_a_history_that_a_crash_cut_off_ends_there(folders):
    path = folders.add("sasrec-1")
    text = (path / "history.jsonl").read_text()
    (path / "history.jsonl").write_text(text[:-30])
    assert len(read_run(path).history()) == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.json", '{"protocol": "le', "metrics.json cannot be read (JSONDecodeError)"),
        ("metrics.json", None, "metrics.json is missing"),
        ("status.json", '{"sta', "status.json cannot be read (JSONDecodeError)"),
        ("status.json", None, "there is no status.json"),
        ("config.yaml", "a: [", "config.yaml cannot be read (ParserError)"),
        ("config.yaml", "- a", "config.yaml is no mapping"),
    ],
)
def test_a_half_written_run_says_what_is_wrong_with_it(folders, name, content, reason):
    path = folders.add("sasrec-1")
    (path / name).unlink() if content is None else (path / name).write_text(content)
    run = read_run(path)
    assert (run.state, run.reason) == (HALF_WRITTEN, reason)


def test_a_run_that_failed_keeps_its_reason(folders):
    run = read_run(folders.broken("sasrec-1", "failed", "ScoreError: NaN"))
    assert (run.state, run.reason, run.finished) == ("failed", "ScoreError: NaN", False)


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*; name the folder of runs with runs_dir"):
        read_folder(tmp_path / "nothing")
    (tmp_path / ".locks").mkdir()
    (tmp_path / "studies").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        read_folder(tmp_path)


def test_filters_take_several_values_numbers_in_any_form_and_protocol_ids(folders):
    folders.add("sasrec-1")
    folders.add("sasrec-2", config={"training": {"lr": 0.003}})
    folders.add("ease-1", config={"model": {"name": "ease"}}, protocol="temporal-x", split="6" * 32)
    runs = read_folder(folders.path)
    keys = lambda **filters: [run.key for run in chosen(runs, {k.replace("_", "."): v for k, v in filters.items()})]  # noqa: E731
    assert keys(model="ease,sasrec") == ["ease-1", "sasrec-1", "sasrec-2"]
    assert keys(training_lr="1e-3", model="sasrec") == ["sasrec-1"]
    assert keys(protocol="temporal-x") == ["ease-1"]
    assert keys(protocol="leave_one_out", model="sasrec") == ["sasrec-1", "sasrec-2"]
    with pytest.raises(UserError, match=r"unknown filter 'modle'.*did you mean 'model'"):
        keys(modle="ease")
    with pytest.raises(UserError, match="no run has model=tiger; there are: ease, sasrec"):
        keys(model="tiger")


def test_config_keys_are_those_of_the_command_line():
    config = {"seed": 1, "model": {"name": "a", "part": {"name": "b", "x": 2}}}
    assert flat(config) == {"seed": 1, "model": "a", "model.part": "b", "model.part.x": 2}
    assert json.dumps(config)
