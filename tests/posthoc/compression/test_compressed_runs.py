"""Compressed runs from the original to the figures: what they stand on, what they store, what they cost."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment import evaluate, key
from recbench.experiment.build import load_model
from recbench.experiment.dependencies import check_dependencies, dependency_configs
from recbench.experiment.key import run_key
from recbench.experiment.run import open_run, run

WAYS = {
    "int8": ["compression=int8"],
    "prune": ["compression=prune"],
    "prune weights": ["compression=prune", "compression.method=weights"],
    "early_exit": ["compression=early_exit"],
    "early_exit raw": ["compression=early_exit", "compression.final_norm=false"],
}


@pytest.fixture(scope="module", params=WAYS)
def compressed(request, made, original):
    return made(*WAYS[request.param])


def figures(finished):
    return {name: value for name, value in finished.metrics.items() if name.startswith(("test/", "validation/"))}


def test_it_stands_on_its_original_and_trains_nothing(compressed, original):
    assert set(compressed.dependencies) == {"original"}
    assert compressed.dependencies["original"].folder.key == original.folder.key
    assert compressed.metrics["dependencies"] == {"original": original.folder.key}
    assert compressed.folder.read("provenance.json")["dependencies"] == {"original": original.folder.key}
    assert compressed.folder.key != original.folder.key
    assert compressed.folder.history() == []
    assert "cost/train_seconds" not in compressed.metrics
    assert compressed.metrics["cost/parameters_trainable"] == 0


def test_it_has_all_figures_and_stays_near_its_original(compressed, original):
    assert figures(compressed).keys() == figures(original).keys()
    assert pl.read_parquet(compressed.folder.ranks)["user"].to_list() == list(range(160))
    # On these data popularity reaches 0.08; what is left above it says that the weights came along.
    assert original.metrics["test/ndcg@10"] > 0.3
    assert compressed.metrics["test/ndcg@10"] > 0.2


def test_the_same_again_is_found(compressed, made, request):
    again = made(*WAYS[request.node.callspec.params["compressed"]])
    assert again.reused
    assert again.metrics == compressed.metrics


def test_it_is_complete_by_itself(compressed, tmp_path, stage):
    """Opened from its folder alone, it has the same weights and finds the same ranks bit for bit."""
    finished, _ = open_run(compressed.folder.path)
    model = load_model(finished, stage)
    stored = load_file(compressed.folder.weights)
    state = model.state_dict()
    for name in set(stored) & set(state):
        assert np.array_equal(stored[name], state[name].numpy())
    assert len(set(stored) & set(state)) > 10
    folder = RunFolder(tmp_path)
    evaluate.test(model, stage.data, stage.split, finished.config, folder)
    assert pl.read_parquet(folder.ranks).equals(pl.read_parquet(compressed.folder.ranks))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_it_is_smaller_where_it_was_asked_to_be(compressed, original):
    assert compressed.metrics["cost/bytes_on_disk"] == compressed.folder.weights.stat().st_size
    assert compressed.metrics["cost/bytes_on_disk"] < original.metrics["cost/bytes_on_disk"]
    assert compressed.metrics["cost/compression_seconds"] > 0


def test_the_original_is_left_as_it_is(original, made, batch, model_of):
    before = model_of(original).score(batch)
    for words in WAYS.values():
        made(*words)
    assert torch.equal(model_of(original).score(batch), before)


# The key


@pytest.fixture
def parts_of(run_config, tmp_path, stage, monkeypatch):
    """parts_of("compression=int8") -> what goes into the run's key, those of what it stands on first."""

    def parts(*words):
        seen = []
        make_key = key.make_key
        with monkeypatch.context() as patch:
            patch.setattr(key, "make_key", lambda name, parts: seen.append(parts) or make_key(name, parts))
            run_key(run_config(tmp_path, "model=sasrec", *words), stage)
        return seen

    return parts


def test_without_compression_the_key_knows_of_none(parts_of):
    (parts,) = parts_of()
    assert set(parts) == {
        "model", "protocol", "split", "data", "cutoffs", "training", "seed", "distillation", "dependencies",
    }  # fmt: skip


def test_the_key_holds_the_compression_and_the_key_of_the_original(parts_of, run_config, tmp_path, stage):
    plain, compressed = parts_of("compression=prune", "compression.amount=0.25")
    assert compressed.pop("compression") == {"name": "prune", "amount": 0.25, "method": "neurons"}
    original = run_key(run_config(tmp_path, "model=sasrec"), stage)
    assert compressed.pop("dependencies") == {"original": original}
    assert compressed == {name: value for name, value in plain.items() if name != "dependencies"}


# Each way


def test_int8_takes_a_quarter_of_the_bytes_and_ranks_alike(made, original, model_of, batch):
    compressed = made("compression=int8")
    stored = load_file(compressed.folder.weights)
    numbers = [value for name, value in stored.items() if name.endswith(".values")]
    assert {value.dtype for value in numbers} == {np.dtype("int8")}
    assert sum(value.size for value in numbers) > 0.8 * original.metrics["cost/parameters_total"]
    assert compressed.metrics["cost/parameters_total"] == original.metrics["cost/parameters_total"]
    assert compressed.metrics["cost/bytes_in_memory"] < 0.5 * original.metrics["cost/bytes_in_memory"]
    before, after = model_of(original).score(batch), model_of(compressed).score(batch)
    assert (after - before).norm() < 0.03 * before.norm()
    assert compressed.metrics["test/ndcg@10"] == pytest.approx(original.metrics["test/ndcg@10"], abs=0.02)


def test_pruned_layers_are_really_smaller(made, model_of):
    layers = model_of(made("compression=prune", "compression.amount=0.25")).layers
    assert [(layer.expand.out_features, layer.contract.in_features) for layer in layers] == [(24, 24)] * 2
    assert [tuple(layer.contract.weight.shape) for layer in layers] == [(16, 24)] * 2


def test_pruned_weights_are_counted_and_stored_packed(made, original, model_of):
    compressed = made("compression=prune", "compression.method=weights")
    linear = sum(m.weight.numel() for m in model_of(original).modules() if isinstance(m, torch.nn.Linear))
    nonzero = compressed.metrics["cost/parameters_nonzero"]
    assert compressed.metrics["cost/parameters_total"] == original.metrics["cost/parameters_total"]
    assert compressed.metrics["cost/parameters_total"] - nonzero >= linear // 2
    held = [sum(value.nbytes for value in load_file(part.folder.weights).values()) for part in (original, compressed)]
    assert held[0] - held[1] == pytest.approx(linear * 4 * (1 - 1 / 2 - 1 / 32), rel=0.1)


@pytest.mark.parametrize("method", ["neurons", "weights"])
def test_none_pruned_is_the_original_bit_for_bit(made, original, method):
    compressed = made("compression=prune", "compression.amount=0", f"compression.method={method}")
    assert figures(compressed) == figures(original)
    assert pl.read_parquet(compressed.folder.ranks).equals(pl.read_parquet(original.folder.ranks))
    before, after = load_file(original.folder.weights), load_file(compressed.folder.weights)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("final_norm", [True, False])
def test_an_early_exit_reads_the_inner_state(made, original, model_of, batch, final_norm):
    whole = model_of(original)
    compressed = made("compression=early_exit", f"compression.final_norm={final_norm}")
    model = model_of(compressed)
    assert len(model.layers) == 1
    inner = whole.hidden_states(batch)[1]
    state = whole.normed(inner) if final_norm else inner
    last = state[torch.arange(len(batch)), batch.lengths - 1]
    expected = whole.queries(last) @ whole.item_vectors().T
    torch.testing.assert_close(model.score(batch), expected)
    assert compressed.metrics["cost/parameters_total"] < original.metrics["cost/parameters_total"]
    if not final_norm:
        assert torch.equal(model.normed(inner), inner)


def test_the_last_layer_with_its_norm_is_the_original_bit_for_bit(made, original):
    compressed = made("compression=early_exit", "compression.layer=2")
    assert figures(compressed) == figures(original)
    assert pl.read_parquet(compressed.folder.ranks).equals(pl.read_parquet(original.folder.ranks))


# Other models


SMALL_LM = [
    "model.n_layers=2",
    "model.tiny_hidden_size=16",
    "model.tiny_n_heads=2",
    "model.tiny_feedforward_size=24",
    "model.item_table.hidden_size=16",
    "model.item_table.feedforward_size=16",
    "model.item_table.training.max_epochs=2",
    "training.max_epochs=2",
    "training.batch_size=256",
    "training.lr=5e-3",
]


@pytest.mark.parametrize(
    "model",
    [
        ["model=slmrec_plain"],
        ["model=slmrec_plain", "model.init=random_frozen", "model.lora_rank=4"],
        ["model=slmrec_plain", "model.init=random_frozen", "model.lora_rank=4", "model.precision=bfloat16"],
        ["model=slmrec_plain", "model.prompt=learned", "model.prompt_lengths=[2,1]"],
        ["model=e4srec"],
    ],
    ids=["trained", "adapters", "bfloat16", "prompt", "e4srec"],
)
def test_language_models_are_compressed_whole(run_config, runs_dir, model):
    """Adapters are merged and frozen weights stored, so that the compressed run needs no other file."""
    plain = run(run_config(runs_dir, *model, *SMALL_LM))
    stage = None
    half = "model.precision=bfloat16" in model
    # Adapters meet every way; of the others each meets one way of each kind.
    ways = WAYS.values() if "model.lora_rank=4" in model and not half else [WAYS["int8"], WAYS["prune"]]
    for words in (*ways, ["compression=early_exit", "compression.layer=2"]):
        compressed = run(run_config(runs_dir, *model, *SMALL_LM, *words))
        assert set(compressed.dependencies) == {"original"}
        assert not any("lora" in name for name in load_file_names(compressed))
        if stage is None:
            _, stage = open_run(compressed.folder.path)
        reopened = load_model(compressed, stage)
        assert {"item_table" in name for name in reopened.state_dict()} == {True, False}
        if words[0] == "compression=early_exit":
            assert len(reopened.backbone.model.layers) == (2 if "compression.layer=2" in words else 1)
        if words[0] == "compression=int8" or "compression.layer=2" in words:
            tolerance = 0.05 if half or words[0] == "compression=int8" else 0.01
            assert compressed.metrics["test/mrr"] == pytest.approx(plain.metrics["test/mrr"], abs=tolerance)


@pytest.mark.parametrize("way", ["int8", "prune", "early_exit"])
def test_a_pretrained_backbone_is_stored_with_its_adapters(run_config, runs_dir, tmp_path, stored_llama, stage, way):
    """Once it is compressed, nobody reads the pretrained weights again; their config says how to build the layers."""
    backbone = tmp_path / "llama"
    shutil.copytree(stored_llama, backbone)
    words = ["model=slmrec_plain", f"model.backbone={backbone}", "model.lora_rank=2", *SMALL_LM]
    original = run(run_config(runs_dir, *words))
    compressed = run(run_config(runs_dir, *words, f"compression={way}"))
    with torch.no_grad():
        whole = load_model(original, stage)
        states = [whole.normed(state) for state in whole.hidden_states(history())]
        expected = whole.queries(states[1] if way == "early_exit" else whole.hidden_states(history())[-1])
    assert original.metrics["cost/bytes_in_memory"] > original.metrics["cost/bytes_on_disk"]
    for file in backbone.glob("*.safetensors"):
        file.unlink()
    alone = load_model(compressed, stage)
    got = alone.queries(alone.hidden_states(history())[-1])
    assert len(alone.backbone.model.layers) == (1 if way == "early_exit" else 2)
    if way != "prune":
        tolerance = 0.05 if way == "int8" else 1e-5
        assert (got - expected).norm() < tolerance * expected.norm()


def history():
    from recbench.data.batches import Batch

    items = torch.tensor([[3, 1, 4, 1, 5]])
    return Batch(items, torch.zeros_like(items), torch.tensor([5]), torch.tensor([0]))


def load_file_names(finished):
    from safetensors import safe_open

    with safe_open(finished.folder.weights, framework="numpy") as stored:
        return list(stored.keys())


def test_a_distilled_original_keeps_its_teacher(run_config, tmp_path):
    words = ["model=slmrec", "compression=int8", "distillation.teacher.n_layers=4"]
    config = run_config(tmp_path, *words)
    assert dependency_configs(config).keys() == {"original"}
    original = dependency_configs(config)["original"]
    assert (original.compression.name, original.distillation.name) == ("none", "slmrec")
    needed = dependency_configs(original)
    assert needed.keys() == {"item_table", "teacher"}
    assert {part.compression.name for part in needed.values()} == {"none"}
    check_dependencies(config)


def test_the_floor_is_never_compressed(made, original, stage):
    from recbench.experiment.run import reference

    floor = reference(made("compression=int8").config, stage)
    assert floor.config.compression.name == "none"


# Refusals, all before anything is trained


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=popularity", "compression=int8"], ["compression=int8", "'popularity' is computed"]),
        (["model=ease", "compression=prune"], ["'ease' is computed", "compression=none"]),
        (["model=sasrec", "compression=prune", "compression.amount=1"], ["compression.amount", "below 1, not 1"]),
        (["model=sasrec", "compression=prune", "compression.amount=nan"], ["compression.amount", "nan"]),
        (["model=sasrec", "compression=prune", "compression.method=weigts"], ["did you mean 'weights'"]),
        (["model=sasrec", "compression=early_exit", "compression.layer=3"], ["between 1 and model.n_layers=2, not 3"]),
        (["model=sasrec", "compression=early_exit", "compression.layer=0"], ["between 1 and", "not 0"]),
        (["model=sasrec", "compression=int8", "compression.amount=0.5"], ["compression.amount"]),
        (["model=sasrec", "compression=int9"], ["'int9'", "did you mean 'int8'"]),
        (["model=slmrec_plain", "model.precision=int8", "compression=int8"], ["model.precision=int8", "already"]),
        (["model=popularity", "compression=early_exit"], ["'popularity' is computed"]),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(cli, tiny, tmp_path, words, expected):
    finished = cli(*tiny, *words, cwd=tmp_path)
    assert finished.status == 2
    assert finished.err.startswith("error: ")
    assert [word for word in expected if word not in finished.err] == []
    assert not (tmp_path / "runs").exists()


def test_layers_that_cannot_be_compressed_are_told_before_the_original_is_trained(run_config, tmp_path, monkeypatch):
    monkeypatch.setattr("recbench.posthoc.compression.prune.LAYOUTS", ())
    with pytest.raises(UserError, match=r"'sasrec' has no feed-forward layer"):
        run(run_config(tmp_path, "model=sasrec", "compression=prune"))
    assert not list(tmp_path.glob("sasrec-*"))


def test_damaged_weights_are_told(made, model_of, tmp_path):
    from dataclasses import replace

    compressed = made("compression=int8")
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be read"):
        model_of(replace(compressed, folder=RunFolder(tmp_path)))


def test_a_sweep_over_all_ways_trains_once(cli, tiny, tmp_path):
    small = [*tiny, "model=sasrec", "model.hidden_size=16", "model.feedforward_size=32", "training.max_epochs=1"]
    words = [*small, "compression=none,int8,prune,early_exit"]
    finished = cli("-m", *words, cwd=tmp_path)
    assert finished.status == 0, finished.err
    for label in ("sasrec seed 1", "sasrec (int8) seed 1", "sasrec (prune 0.5) seed 1", "sasrec (layer 1) seed 1"):
        assert label in finished.out
    assert finished.err.count("training on") == 2  # the original and popularity
    folders = sorted((tmp_path / "runs").glob("sasrec-*"))
    assert len(folders) == 4
    kinds = [json.loads((folder / "metrics.json").read_text())["dependencies"] for folder in folders]
    assert sum(not kind for kind in kinds) == 1
    alone = cli(*small, "compression=int8", cwd=tmp_path)
    assert alone.status == 0
    for label in ("sasrec (original)", "sasrec (int8)"):
        assert label in alone.out
    assert alone.out.count("reused") == 3
