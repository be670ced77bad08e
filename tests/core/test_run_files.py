"""A file of a run that is cut off is named, whatever was done to it."""

from __future__ import annotations

import pytest
import torch

from recbench.core.run_files import Damaged, damage, read_lines, read_mapping
from recbench.core.run_folder import RunFolder, finished_run

HARMS = {
    "halved": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "zeros": lambda b: bytes(len(b)),
    "no text": lambda b: b"\xff\xfe" + b,
    "a list": lambda b: b"[1, 2]",
    "a number": lambda b: b"3",
    "deep": lambda b: b"[" * 100_000,
}


@pytest.fixture
def run(folders):
    from recbench.models.weights import save_tensors

    path = folders.add("sasrec-1")
    save_tensors({"a": torch.zeros(5, 3), "b": torch.zeros(2)}, path / "weights.safetensors")
    return path


def test_a_run_as_it_was_left_is_whole(run):
    assert not list(damage(run))
    assert finished_run(run).key == "sasrec-1"


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "name", ["status.json", "config.yaml", "metrics.json", "provenance.json", "ranks.parquet", "weights.safetensors"]
)
def test_harm_is_found_and_the_file_named(run, name, harm):
    (run / name).write_bytes(HARMS[harm]((run / name).read_bytes()))
    (found, *_) = damage(run)
    assert found.path == run / name
    with pytest.raises(Damaged, match=rf"{name} .*; remove the folder .*sasrec-1 and give the command"):
        finished_run(run)


@pytest.mark.parametrize("name", ["status.json", "config.yaml", "metrics.json", "provenance.json"])
def test_what_is_missing_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        finished_run(run)


@pytest.mark.parametrize("name", ["ranks.parquet", "weights.safetensors"])
def test_what_was_removed_to_save_space_is_no_damage(run, name):
    (run / name).unlink()
    assert finished_run(run)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", '{"protocol": 3}', "lacks what a finished run has"),
        ("metrics.json", '{"protocol": "p", "test/mrr": "high"}', "test/mrr"),
        ("status.json", '{"state": "finished", "updated": "noon"}', "updated"),
        ("config.yaml", "seed: 1\nmodel: {name: sasrec}\n", "lacks data, protocol, training"),
        ("config.yaml", "seed: 1\nmodel: sasrec\ndata: {}\nprotocol: {}\ntraining: {}\n", "does not name its model"),
    ],
)
def test_what_is_no_run_is_told(run, name, content, said):
    (run / name).write_text(content)
    with pytest.raises(Damaged, match=said):
        finished_run(run)


def test_lines_that_are_cut_off(run):
    path = run / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Damaged, match=r"history\.jsonl cannot be read"):
        read_lines(path)
    with pytest.raises(Damaged, match=r"history\.jsonl"):
        RunFolder(run).history()


def test_a_note_that_is_damaged_can_go(tmp_path):
    (tmp_path / "mlflow.json").write_text("{")
    with pytest.raises(Damaged, match="delete the file"):
        read_mapping(tmp_path / "mlflow.json")
    assert read_mapping(tmp_path / "no.json") == {}
