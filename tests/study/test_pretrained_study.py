"""The scripts of the study slmrec_pretrained: what is packed is the same model, and early exit agrees with compression=early_exit."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.run import run
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig

STUDY = Path(__file__).resolve().parents[2] / "experiments" / "slmrec_pretrained"


@pytest.fixture
def script(monkeypatch):
    """script("on_gpu") -> the module of that name."""
    monkeypatch.syspath_prepend(str(STUDY))
    names = ("on_gpu", "early_exit", "cost")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def states(folder, n_layers):
    backbone = Backbone(BackboneConfig(backbone=str(folder), n_layers=n_layers, lora_rank=0), 30).eval()
    with torch.no_grad():
        return backbone(torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)))[-1]


def test_packed_layers_are_the_model_s_first_ones(script, stored_llama, tmp_path, monkeypatch, caplog):
    on_gpu = script("on_gpu")
    monkeypatch.setattr(on_gpu, "PIECE", 6_000)
    packed = tmp_path / "packed"
    assert on_gpu.main(["pack", "--model", str(stored_llama), "--layers", "2", "--to", str(packed)]) == 0
    files = sorted(packed.glob("*.safetensors"))
    assert len(files) > 1
    assert all(path.stat().st_size < 9_000 for path in files)
    assert torch.equal(states(packed, 2), states(stored_llama, 2))
    assert not caplog.messages  # the token table that was left out is none that is missed
    with pytest.raises(UserError, match=r"has 2 layers, fewer than model\.n_layers=3"):
        states(packed, 3)
    names = json.loads((packed / "model.safetensors.index.json").read_text())["weight_map"]
    assert not [name for name in names if "embed" in name or "layers.2" in name]


@pytest.mark.parametrize("words", [["--layers", "9"], []])
def test_what_cannot_be_packed_is_told(script, stored_llama, tmp_path, words):
    (tmp_path / "there").mkdir()
    to = tmp_path / ("new" if words else "there")
    with pytest.raises(SystemExit, match="fewer than 9" if words else "is there already"):
        script("on_gpu").main(["pack", "--model", str(stored_llama), *words, "--to", str(to)])


def test_a_piece_ends_in_time(script, monkeypatch, capsys):
    on_gpu = script("on_gpu")
    true, started = on_gpu.subprocess.Popen, []

    def sleeper(command, **words):
        started.append(command)
        return true([sys.executable, "-c", "import time; time.sleep(60)"], **words)

    monkeypatch.setattr(on_gpu.subprocess, "Popen", sleeper)
    monkeypatch.setattr(on_gpu, "GRACE", 2)
    assert on_gpu.main(["run", "--minutes", "0.01", "--hardware", "cpu", "data.raw_dir=RAW"]) == 3
    assert started[0][-2:] == ["hardware=cpu", "data.raw_dir=RAW"]
    assert "goes on from the last finished epoch" in capsys.readouterr().out


def test_early_exit_of_all_layers_is_that_of_each(script, run_config, tmp_path):
    early = script("early_exit")
    words = [
        "model=slmrec_plain",
        "model.n_layers=3",
        "model.tiny_hidden_size=16",
        "model.tiny_n_heads=2",
        "training.max_epochs=2",
    ]
    whole = run(run_config(tmp_path / "runs", *words))
    (tmp_path / "README.md").write_text(f"before\n{early.BEGIN}\nold\n{early.END}\nafter\n")
    assert early.main([str(whole.folder.path), "--out", str(tmp_path)]) == 0
    with (tmp_path / "early_exit.csv").open(newline="") as file:
        found = {
            (int(line["layer"]), line["normed"] == "True"): float(line["ndcg@10"]) for line in csv.DictReader(file)
        }
    assert set(found) == {(1, True), (1, False), (2, True), (2, False), (3, True)}
    assert found[3, True] == pytest.approx(whole.metrics["test/ndcg@10"])
    for normed in (True, False):
        cut = [*words, "compression=early_exit", "compression.layer=1", f"compression.final_norm={str(normed).lower()}"]
        one = run(run_config(tmp_path / "runs", *cut))
        assert found[1, normed] == pytest.approx(one.metrics["test/ndcg@10"])
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "| 3 |" in page
    assert "old" not in page


def test_depths_are_timed_in_turn(script, stored_llama, tmp_path, monkeypatch, capsys):
    cost = script("cost")
    monkeypatch.setenv("RECBENCH_LANGUAGE_MODEL", str(stored_llama))
    monkeypatch.setattr(cost, "Worker", InThisProcess)
    (tmp_path / "README.md").write_text("before\n<!-- cost -->\n<!-- /cost -->\nbehind\n")
    words = [
        "data=synthetic",
        "data.n_users=60",
        "data.n_items=90",
        "data.n_clusters=9",
        "training.max_length=10",
        "training.batch_size=64",
    ]
    given = ["--layers", "1", "2", "--rounds", "2", "--out", str(tmp_path), *words, f"cache_dir={tmp_path}"]
    assert cost.main(given) == 0
    with (tmp_path / "cost.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["layers"], two["layers"], one["train_times"], one["one_times"]) == ("1", "2", "4", "20")
    assert int(one["parameters_total"]) < int(two["parameters_total"])
    assert all(float(line[f"{task}_seconds"]) > 0 for line in (one, two) for task in cost.TASKS)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("before\n<!-- cost -->\n| layers |")
    assert page.endswith("<!-- /cost -->\nbehind\n")
    assert "1.0x" in capsys.readouterr().out


class InThisProcess:
    """What a worker says, without a process for it."""

    def __init__(self, depth, threads, words):
        import cost

        self.cost, (self.tasks, self.about) = cost, cost.prepared(depth, words)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, task):
        if task == "about":
            return self.about
        seconds = self.cost.timed(self.tasks[task], self.cost.TASKS[task])
        return {"seconds": seconds, "peak_bytes": self.cost.peak_bytes()}


@pytest.mark.slow
def test_a_depth_is_a_process_of_its_own(script, stored_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("RECBENCH_LANGUAGE_MODEL", str(stored_llama))
    words = [
        "data=synthetic",
        "data.n_users=60",
        "data.n_items=90",
        "data.n_clusters=9",
        "training.max_length=10",
        "training.batch_size=64",
        f"cache_dir={tmp_path}",
    ]
    with script("cost").Worker(1, 1, words) as worker:
        assert worker.ask("about")["threads"] == 1
        assert len(worker.ask("train")["seconds"]) == 2
    with script("cost").Worker(9, 1, words) as worker, pytest.raises(RuntimeError, match="'about' ended with 1"):
        worker.ask("about")
