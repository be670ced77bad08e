"""GRU4Rec's states and scores, and its losses at one step of five lanes: cross-entropy with and without logQ, BPR-max."""

from __future__ import annotations

import numpy as np
import torch

from recbench.models.sequential.gru4rec import GRU4Rec, GRU4RecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, part, scaled, tensor

LOSSES = {
    "cross-entropy": ("xe", {"loss": "sampled_softmax", "logq": False}),
    "cross-entropy with logQ": ("xe_logq", {"loss": "sampled_softmax", "logq": True, "sampling_power": 0.5}),
    "BPR-max": ("bpr", {"loss": "bpr_max", "bpr_reg": 1.95}),
}


def _names(theirs: dict, layers: int) -> dict:
    """Parameters under our names; the tables there have no row for the pad."""
    out = {ours.ITEMS: _behind_pad(theirs["Wy.weight"]), "item_bias": _behind_pad(theirs["By.weight"][:, 0])}
    for k in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            out[f"layers.{k}.{name}_l0"] = theirs[f"G.{k}.{name}"]
    return out


def _behind_pad(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(rows[:1]), rows])


def _gru4rec() -> dict[str, Pair]:
    found = {}
    for name, layers in (("gru4rec", 1), ("gru4rec_2layers", 2)):
        arrays = golden(name)
        model = ours.build(GRU4Rec, GRU4RecConfig(hidden_size=16, n_layers=layers, embedding_dropout=0.0))
        ours.set_weights(model, _names(part(arrays, "w/"), layers))
        found[f"scores, layers={layers}"] = Pair(ours.scores(model, ours.batch(arrays)), arrays["scores"])

    arrays = golden("gru4rec")
    # Ours takes the logarithm of count + 1, theirs of the count.
    counts = torch.cat([torch.zeros(1), tensor(arrays["counts"]) - 1])
    batch, lanes = ours.batch(arrays), torch.arange(len(arrays["items"]))
    last = batch.lengths - 1
    for what, (name, keys) in LOSSES.items():
        config = GRU4RecConfig(hidden_size=16, embedding_dropout=0.0, n_negatives=12, **keys)
        model = ours.build(GRU4Rec, config, item_counts=counts)
        ours.set_weights(model, _names(part(arrays, "w/"), 1))
        ours.draw(model, arrays["samples"])
        states = model.hidden_states(batch)[-1][lanes, last]
        loss = model.loss(model.queries(states), model.item_vectors(), batch.targets[lanes, last], rows=lanes)
        found[f"loss, {what}"] = Pair(loss, arrays[f"loss_{name}"])
        theirs = _names(part(arrays, f"g_{name}/"), 1)
        found[f"gradients, {what}"] = Pair(ours.gradients(model, loss), theirs)
    return found


CHECKS = [
    Check(
        "gru4rec",
        "hidasib/GRU4Rec_PyTorch_Official",
        "d1fc311",
        {f"scores, layers={layers}": scaled(2e-5) for layers in (1, 2)}
        | {f"loss, {what}": scaled(1e-5) for what in LOSSES}
        | {f"gradients, {what}": scaled(5e-5) for what in LOSSES},
        _gru4rec,
        "count + 1 in the logarithms of logQ here, the count there; one step of lanes, the last events of five rows",
    )
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
