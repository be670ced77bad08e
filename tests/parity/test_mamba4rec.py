"""Mamba4Rec with one layer and with two, over the reference form of Mamba's scan; the loss is that of all prefixes as rows, as RecBole trains."""

from __future__ import annotations

import numpy as np

from recbench.models.sequential.mamba4rec import Mamba4Rec, Mamba4RecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, part, scaled

LAYERS = (1, 2)


def _names(theirs: dict, layers: int) -> dict:
    out = {ours.ITEMS: theirs["item_embedding.weight"]}
    for kind in ("weight", "bias"):
        out[f"input_norm.{kind}"] = theirs[f"LayerNorm.{kind}"]
    for k in range(layers):
        layer, own = f"mamba_layers.{k}.", f"layers.{k}."
        mamba, mixer = f"{layer}mamba.", f"{own}mixer."
        out[f"{mixer}input.weight"], out[f"{mixer}gate.weight"] = np.split(theirs[f"{mamba}in_proj.weight"], 2)
        out[f"{mixer}conv.weight"] = theirs[f"{mamba}conv1d.weight"][:, 0]
        names = {
            "conv.bias": "conv1d.bias",
            "select.weight": "x_proj.weight",
            "step.weight": "dt_proj.weight",
            "step.bias": "dt_proj.bias",
            "log_rate": "A_log",
            "skip": "D",
            "output.weight": "out_proj.weight",
        }
        out |= {mixer + mine: theirs[mamba + name] for mine, name in names.items()}
        names = {
            "norm": "LayerNorm",
            "feedforward.expand": "ffn.w_1",
            "feedforward.contract": "ffn.w_2",
            "feedforward.norm": "ffn.LayerNorm",
        }
        for mine, name in names.items():
            out |= {f"{own}{mine}.{kind}": theirs[f"{layer}{name}.{kind}"] for kind in ("weight", "bias")}
    return out


def _mamba4rec() -> dict[str, Pair]:
    found = {}
    for layers in LAYERS:
        arrays = golden(f"mamba4rec_{layers}")
        batch = ours.batch(arrays)
        model = ours.build(Mamba4Rec, Mamba4RecConfig(hidden_size=16, n_layers=layers, state_size=8, dropout=0.2))
        ours.set_weights(model, _names(part(arrays, "w/"), layers))
        loss = model.training_loss(batch)
        own, theirs = ours.gradients(model, loss), _names(part(arrays, "g/"), layers)
        pairs = {
            "scores": Pair(ours.scores(model, batch), arrays["scores"][:, 1:]),
            "scores with dropouts as factors": Pair(
                ours.scores_in_training(model, batch), arrays["scores_dropped"][:, 1:]
            ),
            "loss": Pair(loss, arrays["loss"]),
            "gradients": Pair(ours.without_pad(own), ours.without_pad(theirs)),
        }
        found |= {f"{what}, layers={layers}": pair for what, pair in pairs.items()}
    return found


CHECKS = [
    Check(
        "mamba4rec",
        "chengkai-liu/Mamba4Rec, over the reference scan of state-spaces/mamba (e9594ce)",
        "44a0c84",
        {
            f"{what}, layers={layers}": scaled(tolerance)
            for layers in LAYERS
            for what, tolerance in {
                "scores": 2e-5,
                "scores with dropouts as factors": 2e-5,
                "loss": 1e-5,
                "gradients": 5e-5,
            }.items()
        },
        _mamba4rec,
        "the pad is a class of the softmax there, left out on both sides",
    )
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
