"""Language models in one GGUF file, written here with the package that also reads them; and the pretrained one, where it is there (marker llm)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recbench.cli.language_model import main as language_model
from recbench.core.errors import UserError
from recbench.evaluation.cost.meters import peaks, reset_peaks
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import output_vectors
from recbench.nn.language.conversion import convert, identity, read_source
from recbench.nn.language.gguf import gguf_file, read_gguf_config
from recbench.nn.language.pretrained import read_tokenizer
from tests.fixtures.language_models import pretrained_folder

gguf = pytest.importorskip("gguf")
WORDS = ["<unk>", "<s>", "</s>", "h", "i", "s", "t", "o", "r", "y", "hi", "st"]
LAYERS, WIDTH, HEADS, KEYS, INNER = 3, 64, 4, 2, 96


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection as llama.cpp orders them: halves of a head interleaved."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(path, weights, kind, layers=LAYERS, width=WIDTH, keys=KEYS, inner=INNER) -> None:
    """A GGUF file of the Llama kind; kind: the type of its matrices."""
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_name, "small"), (writer.add_block_count, layers), (writer.add_context_length, 128),
        (writer.add_embedding_length, width), (writer.add_feed_forward_length, inner), (writer.add_head_count, HEADS),
        (writer.add_head_count_kv, keys), (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_freq_base, 1e4),
        (writer.add_vocab_size, len(WORDS)), (writer.add_tokenizer_model, "gpt2"), (writer.add_tokenizer_pre, "smollm"),
        (writer.add_token_list, WORDS), (writer.add_token_types, [3, 3, 3] + [1] * (len(WORDS) - 3)),
        (writer.add_token_merges, ["h i", "s t"]), (writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2),
        (writer.add_unk_token_id, 0),
    ):  # fmt: skip
        add(value)
    for name, weight in weights.items():
        if weight.ndim == 2 and name != "token_embd.weight":
            writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder with one file, its weights as a Llama of transformers would have them); 8-bit weights."""
    folder = tmp_path_factory.mktemp("gguf")
    draw = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) / 8).astype(np.float32)

    kept = WIDTH // HEADS * KEYS
    shapes = {
        "attn_q": (WIDTH, WIDTH), "attn_k": (kept, WIDTH), "attn_v": (kept, WIDTH), "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
    }  # fmt: skip
    plain = {"token_embd.weight": matrix(len(WORDS), WIDTH), "output.weight": matrix(len(WORDS), WIDTH)}
    plain["output_norm.weight"] = 1 + matrix(1, WIDTH)[0]
    for layer in range(LAYERS):
        plain |= {f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        plain |= {f"blk.{layer}.{name}.weight": 1 + matrix(1, WIDTH)[0] for name in ("attn_norm", "ffn_norm")}
    kind = gguf.GGMLQuantizationType.Q8_0
    heads = {"attn_q": HEADS, "attn_k": KEYS}
    stored = {
        name: permuted(weight, heads[part]) if (part := name.split(".")[-2]) in heads else weight
        for name, weight in plain.items()
    }
    write(folder / "small.gguf", stored, kind)
    rounded = {
        name: gguf.dequantize(gguf.quantize(weight, kind), kind) if weight.ndim == 2 and "embd" not in name else weight
        for name, weight in plain.items()
    }
    return folder, rounded


def backbone(name, n_layers=2, **keys):
    return Backbone(BackboneConfig(backbone=str(name), n_layers=n_layers, lora_rank=0, **keys), 50)


NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def test_the_first_layers_are_those_of_the_file(small):
    folder, weights = small
    state = backbone(folder).model.state_dict()
    assert {name.split(".")[1] for name in state if name.startswith("layers")} == {"0", "1"}
    for layer in range(2):
        for ours, theirs in NAMES.items():
            found = state[f"layers.{layer}.{ours}.weight"].numpy()
            np.testing.assert_array_equal(found, weights[f"blk.{layer}.{theirs}.weight"], err_msg=ours)
    np.testing.assert_array_equal(state["norm.weight"].numpy(), weights["output_norm.weight"])
    assert state["embed_tokens.weight"].shape == (1, WIDTH)


def test_nothing_but_the_first_layers_is_turned_into_floats(small, monkeypatch):
    asked = []
    true = gguf.dequantize
    monkeypatch.setattr(gguf, "dequantize", lambda data, kind: asked.append(data.size) or true(data, kind))
    backbone(small[0], n_layers=1)
    # Seven matrices and two norms of the layer, and the norm at the end: no token vectors, no output vectors, no other layer.
    assert len(asked) == 10


def test_the_other_layers_take_no_memory(tmp_path):
    kind = gguf.GGMLQuantizationType.F32
    plain = {
        "token_embd.weight": np.zeros((len(WORDS), 256), np.float32),
        "output_norm.weight": np.ones(256, np.float32),
    }
    square, wide = np.full((256, 256), 0.1, np.float32), np.full((1024, 256), 0.1, np.float32)
    for layer in range(12):  # 4.2 MB each
        plain |= {f"blk.{layer}.attn_{name}.weight": square for name in ("q", "k", "v", "output")}
        plain |= {f"blk.{layer}.ffn_{name}.weight": wide for name in ("gate", "up")}
        plain |= {f"blk.{layer}.ffn_down.weight": np.ascontiguousarray(wide.T)}
        plain |= {f"blk.{layer}.{name}_norm.weight": np.ones(256, np.float32) for name in ("attn", "ffn")}
    write(tmp_path / "deep.gguf", plain, kind, layers=12, width=256, keys=HEADS, inner=1024)
    backbone(tmp_path, n_layers=1)  # what is read once of each file, and imports, are not measured
    taken = {}
    for n_layers in (1, 12):
        before = resident()
        if not reset_peaks(torch.device("cpu")):
            pytest.skip("the peak of this process cannot be reset here")
        backbone(tmp_path, n_layers=n_layers)
        taken[n_layers] = peaks(torch.device("cpu"))["memory"] - before
    assert taken[1] < 20e6
    assert taken[12] > 50e6


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_tokenizer_is_the_file_s(small):
    tokenizer = read_tokenizer(str(small[0] / "small.gguf"))
    assert tokenizer("history", add_special_tokens=False)["input_ids"] == [10, 11, 7, 8, 9]
    prompted = backbone(small[0], prompt="text", prompt_prefix="hi", prompt_suffix="sto")
    assert prompted.prompt.prefix.tolist() == [10]
    assert prompted.prompt.suffix.tolist() == [11, 7]
    vectors = prompted.model.get_input_embeddings().weight
    np.testing.assert_array_equal(vectors.detach().numpy(), small[1]["token_embd.weight"])


def test_output_vectors_are_read_where_the_file_has_some(small):
    np.testing.assert_array_equal(output_vectors(str(small[0]), torch.float32).numpy(), small[1]["output.weight"])


def test_bfloat16_and_adapters(small):
    made = Backbone(BackboneConfig(backbone=str(small[0]), n_layers=1, precision="bfloat16"), 50)
    kinds = {parameter.dtype for parameter in made.parameters() if not parameter.requires_grad}
    assert kinds == {torch.bfloat16}
    assert {parameter.dtype for parameter in made.parameters() if parameter.requires_grad} == {torch.float32}
    with (
        pytest.raises(UserError, match="int8 is made of weights in safetensors")
        if has_bitsandbytes()
        else pytest.raises(UserError, match="bitsandbytes")
    ):
        Backbone(BackboneConfig(backbone=str(small[0]), n_layers=1, precision="int8"), 50)


def has_bitsandbytes() -> bool:
    from importlib.util import find_spec

    return find_spec("bitsandbytes") is not None


@pytest.mark.parametrize("share", [0.999, 0.5, 0.02])
def test_a_cut_file_is_one_line(small, tmp_path, share):
    whole = (small[0] / "small.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"cut.gguf cannot be read as GGUF .*fetch it again") as caught:
        backbone(tmp_path / "cut.gguf", n_layers=LAYERS)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_one_line(tmp_path):
    (tmp_path / "wrong.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UserError, match=r"wrong\.gguf is no GGUF file"):
        backbone(tmp_path / "wrong.gguf")
    with pytest.raises(UserError, match=r"is not there; give a GGUF file"):
        backbone(tmp_path / "absent.gguf")
    shutil.copy(tmp_path / "wrong.gguf", tmp_path / "second.gguf")
    with pytest.raises(UserError, match="holds 2 GGUF files; name one"):
        backbone(tmp_path)


def test_more_layers_than_the_file_has(small):
    with pytest.raises(UserError, match=r"has 3 layers, fewer than model\.n_layers=4"):
        backbone(small[0], n_layers=4)


def test_a_missing_package_is_named(small, monkeypatch):
    monkeypatch.setattr("recbench.nn.language.gguf.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'recbench\[gguf\]'"):
        read_gguf_config(small[0] / "small.gguf")


def test_a_folder_with_a_config_is_no_gguf(small, tmp_path):
    shutil.copy(small[0] / "small.gguf", tmp_path)
    assert gguf_file(str(tmp_path)) == tmp_path / "small.gguf"
    (tmp_path / "config.json").write_text("{}")
    assert gguf_file(str(tmp_path)) is None


def test_a_converted_folder_is_the_same_model_and_one_run_wherever_it_lies(small, tmp_path, capsys):
    folder = tmp_path / "made"
    words = ["--gguf", str(small[0] / "small.gguf"), "--to", str(folder)]
    assert language_model(words) == 0
    assert f"model.backbone={folder}" in capsys.readouterr().out
    about = read_source(folder)
    assert about["weights"] == {"F32": 8, "Q8_0": 22}
    assert language_model(words) == 0  # nothing is done twice
    vectors = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (backbone(name, 3).eval()(vectors)[-1] for name in (folder, small[0]))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)  # bfloat16 holds three digits
    assert read_tokenizer(str(folder))("history", add_special_tokens=False)["input_ids"] == [10, 11, 7, 8, 9]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    hashes = {small[0] / "small.gguf": about["sha256"]}
    names = [identity(str(name), hashes.get) for name in (folder, moved, small[0], "HuggingFaceTB/SmolLM2-135M")]
    assert names[0] == names[1] == names[2] + ":bfloat16"
    assert names[3] == "HuggingFaceTB/SmolLM2-135M"


def test_conversion_leaves_other_folders_alone(small, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert language_model(["--gguf", str(small[0] / "small.gguf"), "--to", str(tmp_path / "there")]) == 2
    assert "was not made by this command" in capsys.readouterr().err
    with pytest.raises(UserError, match="give a GGUF file"):
        convert(tmp_path / "absent.gguf", tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.llm
def test_the_pretrained_model_continues_english():
    from transformers import AutoModelForCausalLM

    folder = pretrained_folder()
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 30
    tokenizer = read_tokenizer(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    given = tokenizer("The capital of France is", return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        best = model(**given).logits[0, -1].argmax()
    assert tokenizer.decode([int(best)]).strip() == "Paris"


@pytest.mark.llm
def test_slmrec_on_two_layers_of_the_pretrained_model_learns(run_config, tmp_path):
    from recbench.experiment.run import run

    words = [
        "model=slmrec_plain", f"model.backbone={pretrained_folder()}", "model.n_layers=2", "model.precision=bfloat16",
        "model.item_table.hidden_size=16", "model.item_table.dropout=0.2", "model.item_table.training.max_epochs=12",
        "model.item_table.training.lr=1e-2", "training.max_epochs=6", "training.lr=3e-3",
    ]  # fmt: skip
    finished = run(run_config(tmp_path, *words))
    floor = run(run_config(tmp_path, "model=popularity"))
    assert finished.metrics["test/ndcg@10"] > floor.metrics["test/ndcg@10"]
    assert finished.metrics["cost/parameters_total"] > 7e6
    assert finished.metrics["cost/bytes_on_disk"] < 2e6  # the frozen part is not stored again
