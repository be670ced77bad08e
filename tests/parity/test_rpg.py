"""RPG against its authors' code, as published and with ReLU in the place of its GELU."""

from __future__ import annotations

from functools import partial

import numpy as np

from recbench.models.generative.rpg import RPG, RPGConfig
from tests.parity import ours
from tests.parity.codes import tokenizer
from tests.parity.compare import NOT_RECORDED, Check, Pair, every_comparison, golden, part, tensor, within

WIDTH = 16


def _heads(theirs: dict, n_levels: int) -> np.ndarray:
    return np.stack([theirs[f"pred_heads.{level}.linear.weight"].T for level in range(n_levels)])


def _names(theirs: dict, n_levels: int) -> dict:
    """Parameters under our names; GPT-2 keeps its matrices transposed, and its first and last tokens are special."""
    gpt2 = part(theirs, "gpt2.")
    out = {
        "token_embedding.weight": gpt2["wte.weight"][1:-1],
        ours.POSITIONS: gpt2["wpe.weight"],
        "head_weight": _heads(theirs, n_levels),
        "head_bias": np.stack([theirs[f"pred_heads.{level}.linear.bias"][None] for level in range(n_levels)]),
    }
    for kind in ("weight", "bias"):
        out[f"final_norm.{kind}"] = gpt2[f"ln_f.{kind}"]
        for k in range(2):
            for mine, name in (("attention_norm", "ln_1"), ("feedforward_norm", "ln_2")):
                out[f"layers.{k}.{mine}.{kind}"] = gpt2[f"h.{k}.{name}.{kind}"]
            matrices = {
                "attention.query_key_value": "attn.c_attn",
                "attention.output": "attn.c_proj",
                "expand": "mlp.c_fc",
                "contract": "mlp.c_proj",
            }
            for mine, name in matrices.items():
                out[f"layers.{k}.{mine}.{kind}"] = gpt2[f"h.{k}.{name}.{kind}"].T
    return out


def _rpg(activation: str, arrays_of: str, eps: float | None) -> dict[str, Pair]:
    arrays = golden(f"rpg_{arrays_of}")
    codes, size = arrays["codes"], int(arrays["K"])
    n_levels = codes.shape[1]
    sizes = {"hidden_size": WIDTH, "n_layers": 2, "n_heads": 2, "feedforward_size": 24, "dropout": 0.0}
    config = RPGConfig(**sizes, temperature=0.03, activation=activation)
    given = tokenizer(codes, [size] * n_levels)
    model = ours.build(RPG, config, len(codes), max_length=6, dependencies={"tokenizer": given})
    if eps is not None:
        ours.set_norm_eps(model, eps)
    ours.set_weights(model, _names(part(arrays, "w."), n_levels))
    targets = tensor(arrays["labels"]).clamp_min(0)
    batch = ours.batch_of(arrays["items"], arrays["lengths"], targets=targets)
    loss = model.training_loss(batch)
    found = {"loss": Pair(loss, arrays["loss"]), "scores": Pair(ours.scores(model, batch), arrays["scores"])}
    own, theirs = ours.gradients(model, loss), part(arrays, "g.")
    first = "layers.0.attention.query_key_value.weight"
    return found | {
        "gradient by code vectors": Pair(own["token_embedding.weight"], theirs["gpt2.wte.weight"][1:-1]),
        "gradient by heads": Pair(own["head_weight"], _heads(theirs, n_levels)),
        "gradient by first attention": Pair(own[first], theirs["gpt2.h.0.attn.c_attn.weight"].T),
    }


BOUNDS = {"loss": within(1e-4), "scores": within(1e-3)} | {
    f"gradient by {what}": within(1e-3) for what in ("code vectors", "heads", "first attention")
}
CHECKS = [
    Check("rpg", "facebookresearch/RPG_KDD2025", NOT_RECORDED, BOUNDS, partial(_rpg, "gelu_new", "gelu", None)),
    Check(
        "rpg, activation=relu",
        "facebookresearch/RPG_KDD2025, with ReLU",
        NOT_RECORDED,
        BOUNDS,
        partial(_rpg, "relu", "relu", 1e-5),
        "ReLU was put in the place of GELU there; eps of the layer norms (1e-12 here, 1e-5 in these arrays)",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
