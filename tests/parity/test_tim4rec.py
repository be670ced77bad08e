"""TiM4Rec's released form with and without time, over the minimal form of Mamba-2's SSD; without time the causal form is the same network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.models.sequential.tim4rec import TiM4Rec, TiM4RecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, part, scaled

INNER, STATE = 32, 8


@dataclass(frozen=True)
class Case:
    """One file of arrays, and the form of ours that is held against it."""

    arrays: str
    form: str = "released"
    layers: int = 2
    time: bool = True
    gate_per_position: bool = False


CASES = {
    "time, a gate of L rows": Case("tim4rec_time_p2p", gate_per_position=True),
    "time": Case("tim4rec_time"),
    "no time": Case("tim4rec_plain", time=False),
    "no time, causal form": Case("tim4rec_plain", form="causal", time=False),
    "time, layers=1": Case("tim4rec_time_1layer", layers=1),
}


def _names(theirs: dict, case: Case) -> dict:
    out = {ours.ITEMS: theirs["item_embedding.weight"]}
    for kind in ("weight", "bias"):
        out[f"input_norm.{kind}"] = theirs[f"in_layer_norm.{kind}"]
        if case.time:
            out[f"gap_norm.{kind}"] = theirs[f"layer_norm_time.{kind}"]
    for k in range(case.layers):
        out |= _names_of_layer(theirs, f"ssd_layers.{k}.", f"layers.{k}.", case.time)
    return out


def _names_of_layer(theirs: dict, layer: str, own: str, time: bool) -> dict:
    ssd, mixer, out = f"{layer}ssd.", f"{own}mixer.", {}
    single = {"log_rate": "A_log", "step_bias": "dt_bias", "skip": "D", "output.norm_weight": "norm.weight"}
    out |= {mixer + mine: theirs[ssd + name] for mine, name in single.items()}
    pairs = {
        f"{mixer}output.linear": f"{ssd}out_proj",
        f"{own}norm": f"{layer}layer_norm",
        f"{own}feedforward.expand": f"{layer}ffn.fc1",
        f"{own}feedforward.contract": f"{layer}ffn.fc2",
        f"{own}feedforward.norm": f"{layer}ffn.layer_norm",
    }
    convolutions = {f"{mixer}conv": "conv1d"}
    if time:
        pairs |= {
            f"{own}time.mlp.0": f"{ssd}mlp4time_scale.1",
            f"{own}time.mlp.2": f"{ssd}mlp4time_scale.3",
            f"{own}time.keep": f"{ssd}time_gate_residual.1",
            f"{own}time.norm": f"{ssd}time_layer_norm",
        }
        convolutions |= {f"{own}time.first": "conv1d4time_1", f"{own}time.second": "conv1d4time_2"}
    for kind in ("weight", "bias"):
        out |= {f"{mine}.{kind}": theirs[f"{name}.{kind}"] for mine, name in pairs.items()}
        parts = np.split(theirs[f"{ssd}in_proj.{kind}"], [INNER, 2 * INNER + 2 * STATE])
        out |= {f"{mixer}{name}.{kind}": value for name, value in zip(("gate", "input", "step"), parts, strict=True)}
    for mine, name in convolutions.items():
        out |= {f"{mine}.weight": theirs[f"{ssd}{name}.weight"][:, 0], f"{mine}.bias": theirs[f"{ssd}{name}.bias"]}
    return out


def _tim4rec() -> dict[str, Pair]:
    found = {}
    for name, case in CASES.items():
        arrays = golden(case.arrays)
        batch, weights = ours.batch(arrays), part(arrays, "w/")
        sizes = {"hidden_size": 16, "head_size": 8, "state_size": STATE, "dropout": 0.2, "time_dropout": 0.2}
        config = TiM4RecConfig(
            **sizes,
            form=case.form,
            use_time=case.time,
            n_layers=case.layers,
            gate_per_position=case.gate_per_position,
        )
        model = ours.build(TiM4Rec, config)
        ours.set_weights(model, _names(weights, case))
        loss = model.training_loss(batch)
        # What is computed there and read by nobody has no gradient.
        unread = {name: np.zeros_like(value) for name, value in weights.items()}
        own, theirs = ours.gradients(model, loss), _names(unread | part(arrays, "g/"), case)
        pairs = {
            "scores": Pair(ours.scores(model, batch), arrays["scores"][:, 1:]),
            "scores with dropouts as factors": Pair(
                ours.scores_in_training(model, batch), arrays["scores_dropped"][:, 1:]
            ),
            "loss": Pair(loss, arrays["loss"]),
            "gradients": Pair(ours.without_pad(own), ours.without_pad(theirs)),
        }
        found |= {f"{what}, {name}": pair for what, pair in pairs.items()}
    return found


TOLERANCES = {"scores": 2e-5, "scores with dropouts as factors": 2e-5, "loss": 1e-5, "gradients": 1e-4}
CHECKS = [
    Check(
        "tim4rec",
        "AlwaysFHao/TiM4Rec, over the minimal SSD of state-spaces/mamba (e9594ce)",
        "8d4a6ce",
        {f"{what}, {name}": scaled(tolerance) for name in CASES for what, tolerance in TOLERANCES.items()},
        _tim4rec,
        "form=released where time is read; the pad is a class of the softmax there, left out on both sides",
    )
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
