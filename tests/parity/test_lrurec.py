"""LRURec against its published code, which pads on the left and masks where ours pads on the right."""

from __future__ import annotations

import numpy as np

from recbench.models.sequential.lrurec import LRURec, LRURecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, part, scaled


def _names(theirs: dict) -> dict:
    """Parameters under our names. Complex numbers have a last axis of two there; here their two parts stand side by side."""
    out = {ours.ITEMS: theirs["embedding.token.weight"], "item_bias": theirs["model.bias"]}
    for kind in ("weight", "bias"):
        out[f"input_norm.{kind}"] = theirs[f"embedding.layer_norm.{kind}"]
    for k in range(2):
        block, own = f"model.lru_blocks.{k}.", f"layers.{k}."
        rates = zip(("log_nu", "log_theta", "log_gamma"), theirs[f"{block}lru_layer.params_log"], strict=True)
        out |= {f"{own}recurrence.{name}": value for name, value in rates}
        into, out_of = f"{block}lru_layer.in_proj", f"{block}lru_layer.out_proj"
        for kind in ("weight", "bias"):
            real, imaginary = np.moveaxis(theirs[f"{into}.{kind}"], -1, 0)
            out[f"{own}recurrence.enter.{kind}"] = np.concatenate([real, imaginary])
        # The real part of (A + i B) (r + i s) is A r - B s.
        real, imaginary = np.moveaxis(theirs[f"{out_of}.weight"], -1, 0)
        out[f"{own}recurrence.leave.weight"] = np.concatenate([real, -imaginary], axis=1)
        out[f"{own}recurrence.leave.bias"] = theirs[f"{out_of}.bias"][..., 0]
        names = {
            "recurrence_norm": "lru_layer.layer_norm",
            "feedforward_norm": "feed_forward.layer_norm",
            "expand": "feed_forward.w_1",
            "contract": "feed_forward.w_2",
        }
        for mine, name in names.items():
            out |= {f"{own}{mine}.{kind}": theirs[f"{block}{name}.{kind}"] for kind in ("weight", "bias")}
    return out


def _lrurec() -> dict[str, Pair]:
    arrays = golden("lrurec")
    batch = ours.batch(arrays)
    model = ours.build(LRURec, LRURecConfig(hidden_size=16, n_layers=2, feedforward_size=64, dropout=0.2))
    ours.set_weights(model, _names(part(arrays, "w/")))
    loss = model.training_loss(batch)
    own, theirs = ours.gradients(model, loss), _names(part(arrays, "g/"))
    return {
        "scores": Pair(ours.scores(model, batch), arrays["scores"][:, 1:]),
        "scores with dropouts as factors": Pair(ours.scores_in_training(model, batch), arrays["scores_dropped"][:, 1:]),
        "loss": Pair(loss, arrays["loss"]),
        "gradients": Pair(ours.without_pad(own), ours.without_pad(theirs)),
    }


CHECKS = [
    Check(
        "lrurec",
        "yueqirex/LRURec",
        "e02a559",
        {
            "scores": scaled(2e-5),
            "scores with dropouts as factors": scaled(2e-5),
            "loss": scaled(1e-5),
            "gradients": scaled(5e-5),
        },
        _lrurec,
        "the pad is a class of the softmax there, left out on both sides",
    )
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
