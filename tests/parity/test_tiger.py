"""TIGER's network and beam search against transformers' T5 with the same weights and its ``generate``."""

from __future__ import annotations

import numpy as np
import torch

from recbench.models.generative.tiger import TIGER, TIGERConfig
from tests.parity import ours
from tests.parity.codes import tokenizer
from tests.parity.compare import EXACT, NOT_RECORDED, Check, Pair, every_comparison, golden, part, tensor, within

HEAD_SIZE = 8
#: T5 does not divide its products by the root of a head's size; ours does, so it goes into the queries.
SCALE = HEAD_SIZE**0.5
BLOCKS, RELATIVE = 2, "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def _attention(theirs: dict, name: str, own: str) -> dict:
    block = part(theirs, f"{name}.")
    return {
        f"{own}.query.weight": block["q.weight"] * SCALE,
        f"{own}.key_value.weight": np.concatenate([block["k.weight"], block["v.weight"]]),
        f"{own}.output.weight": block["o.weight"],
    }


def _feedforward(theirs: dict, name: str, own: str) -> dict:
    return {
        f"{own}.norm.weight": theirs[f"{name}.layer_norm.weight"],
        f"{own}.expand.weight": theirs[f"{name}.DenseReluDense.wi.weight"],
        f"{own}.contract.weight": theirs[f"{name}.DenseReluDense.wo.weight"],
    }


def _names(theirs: dict, sizes: list[int]) -> dict:
    """Parameters under our names. One table there holds the pad, the codes of all levels, a separator and a begin, in this order."""
    n, table = sum(sizes), theirs["shared.weight"]
    out = {"token_embedding.weight": table[1 : 1 + n], "separator": table[1 + n], "begin": table[2 + n]}
    heads = np.split(theirs["lm_head.weight"][1 : 1 + n], np.cumsum(sizes)[:-1])
    out |= {f"heads.{level}.weight": head for level, head in enumerate(heads)}
    for side in ("encoder", "decoder"):
        out[f"{side}_bias.weight"] = theirs[f"{side}.{RELATIVE}"]
        out[f"{side}_norm.weight"] = theirs[f"{side}.final_layer_norm.weight"]
    for k in range(BLOCKS):
        layer, own = f"encoder.block.{k}.layer.", f"encoder.{k}."
        out[f"{own}norm.weight"] = theirs[f"{layer}0.layer_norm.weight"]
        out |= _attention(theirs, f"{layer}0.SelfAttention", f"{own}attention")
        out |= _feedforward(theirs, f"{layer}1", f"{own}feedforward")
        layer, own = f"decoder.block.{k}.layer.", f"decoder.{k}."
        out[f"{own}self_norm.weight"] = theirs[f"{layer}0.layer_norm.weight"]
        out[f"{own}cross_norm.weight"] = theirs[f"{layer}1.layer_norm.weight"]
        out |= _attention(theirs, f"{layer}0.SelfAttention", f"{own}self_attention")
        out |= _attention(theirs, f"{layer}1.EncDecAttention", f"{own}cross_attention")
        out |= _feedforward(theirs, f"{layer}2", f"{own}feedforward")
    return out


def _build(arrays: dict) -> TIGER:
    sizes = {"hidden_size": 16, "n_layers": BLOCKS, "n_heads": 3, "head_size": HEAD_SIZE, "feedforward_size": 24}
    config = TIGERConfig(**sizes, dropout=0.0, beams=int(arrays["beams"]))
    codes = tokenizer(arrays["codes"], arrays["sizes"])
    model = ours.build(TIGER, config, len(arrays["codes"]), dependencies={"tokenizer": codes})
    ours.set_weights(model, _names(part(arrays, "w."), arrays["sizes"].tolist()))
    return model


def _network() -> dict[str, Pair]:
    arrays = golden("tiger_t5")
    model, batch = _build(arrays), ours.batch_of(arrays["items"], arrays["lengths"])
    targets, n = tensor(arrays["targets"]), int(arrays["sizes"].sum())
    states, real = model.encoder_states(batch.items, batch.lengths, batch.user)
    decoded, _ = model.decode(model._shifted(targets[:, None]), model.memory(states, real), real[:, None, None, :])
    loss = model.cross_entropy(decoded[:, 0], targets) / len(targets)
    own, theirs = ours.gradients(model, loss), part(arrays, "g.")
    names = {
        "encoder bias": ("encoder_bias.weight", f"encoder.{RELATIVE}"),
        "decoder bias": ("decoder_bias.weight", f"decoder.{RELATIVE}"),
        "cross attention": (
            "decoder.1.cross_attention.output.weight",
            "decoder.block.1.layer.1.EncDecAttention.o.weight",
        ),
    }
    found = {f"gradient by {what}": Pair(own[mine], theirs[name]) for what, (mine, name) in names.items()}
    queries = own["encoder.0.attention.query.weight"] * SCALE
    return found | {
        "encoder states": Pair(states[real], arrays["encoder"][arrays["mask"]]),
        "decoder states": Pair(decoded[:, 0], arrays["decoder"]),
        "loss": Pair(loss, arrays["loss"]),
        "gradient by code vectors": Pair(own["token_embedding.weight"], theirs["shared.weight"][1 : 1 + n]),
        "gradient by queries": Pair(queries, theirs["encoder.block.0.layer.0.SelfAttention.q.weight"]),
    }


@torch.no_grad()
def _search() -> dict[str, Pair]:
    arrays = golden("tiger_t5")
    model, batch = _build(arrays), ours.batch_of(arrays["items"], arrays["lengths"])
    items, scores = model.recommend(batch, int(arrays["beams"]))
    found = {
        "scores of the beams": Pair(scores, arrays["beam_scores"]),
        "items of the beams": Pair(items, arrays["beam_items"]),
    }
    model.config.beams = 64
    exact = ours.scores(model, batch)
    items, scores = model.recommend(batch, 30)
    return found | {
        "a wide beam's scores, in order": Pair(scores, exact.sort(dim=1, descending=True).values),
        "a wide beam's score of each item": Pair(scores, exact.gather(1, items - 1)),
    }


CHECKS = [
    Check(
        "tiger, its network",
        "huggingface/transformers, T5",
        NOT_RECORDED,
        dict.fromkeys(("encoder states", "decoder states", "loss"), within(1e-4))
        | {
            f"gradient by {what}": within(1e-4)
            for what in ("code vectors", "encoder bias", "decoder bias", "cross attention", "queries")
        },
        _network,
        "products are divided by the root of a head's size here; a code is predicted among those of its level here",
    ),
    Check(
        "tiger, its beam search",
        "huggingface/transformers, generate; a wide beam against exact scores",
        NOT_RECORDED,
        {
            "scores of the beams": within(1e-4),
            "items of the beams": EXACT,
            "a wide beam's scores, in order": within(1e-4),
            "a wide beam's score of each item": within(1e-4),
        },
        _search,
        "as for its network",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
