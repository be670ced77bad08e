"""SR-GNN and TAGNN against their authors' code, GC-SAN against a public port of it."""

from __future__ import annotations

import numpy as np

from recbench.models.session.gcsan import GCSAN, GCSANConfig
from recbench.models.session.srgnn import SRGNN, SRGNNConfig
from recbench.models.session.tagnn import TAGNN, TAGNNConfig
from tests.parity import ours
from tests.parity import session_models as session
from tests.parity.compare import NOT_RECORDED, Check, Pair, differs, every_comparison, golden, part, within
from tests.parity.session_models import EQUAL, PADDED, WIDTH, Rows

SRGNN_GRADIENTS = {
    "graph.step.cell.weight_ih": "gnn.w_ih",
    "graph.step.cell.bias_hh": "gnn.b_hh",
    "readout.from_node.weight": "linear_two.weight",
}
TAGNN_GRADIENTS = {"to_key.weight": "linear_t.weight"}
PREFIXES = "training loss as a mean over prefixes"
PADDING = "scores of a row with and without padding"
GCSAN_BLOCKS, GCSAN_SHARED = 4, "gradient of all blocks, as one shared block has it"


def _srgnn() -> dict[str, Pair]:
    arrays = golden("srgnn")
    theirs = part(arrays, "w.")
    model = ours.build(SRGNN, SRGNNConfig(hidden_size=WIDTH, n_steps=int(arrays["step"])), session.N_ITEMS)
    ours.set_weights(model, session.item_table(theirs) | session.gated_names(theirs) | session.readout_names(theirs))
    found = {}
    for kind in (EQUAL, PADDED):
        rows = Rows.of(arrays, kind)
        found |= rows.against(model, session.loss_of_session(model, rows), SRGNN_GRADIENTS, kind)
    return found | {PREFIXES: session.mean_over_prefixes(model, Rows.of(arrays, PADDED))}


def _tagnn() -> dict[str, Pair]:
    arrays = golden("tagnn")
    theirs = part(arrays, "w.")
    model = ours.build(TAGNN, TAGNNConfig(hidden_size=WIDTH, n_steps=int(arrays["step"])), session.N_ITEMS)
    names = session.item_table(theirs) | session.gated_names(theirs) | session.readout_names(theirs)
    ours.set_weights(model, names | {"to_key.weight": theirs["linear_t.weight"]})
    rows, padded = Rows.of(arrays, EQUAL), Rows.of(arrays, PADDED)
    # Its session vector depends on the item that is scored, so its loss takes the table where others take a query.
    loss = model.loss.of(model._read(rows.batch)[1], model.item_embedding.weight, rows.targets)
    found = rows.against(model, loss, TAGNN_GRADIENTS, EQUAL)
    found[f"scores, {PADDED}"] = Pair(ours.scores(model, padded.batch), padded.theirs["scores"])
    return found | {PADDING: session.independent_of_padding(model, padded, 1)}


def _gcsan() -> dict[str, Pair]:
    arrays = golden("gcsan_port")
    theirs = part(arrays, "w.")
    config = GCSANConfig(hidden_size=WIDTH, n_layers=GCSAN_BLOCKS, attention_weight=0.52, dropout=0.0)
    model = ours.build(GCSAN, config, session.N_ITEMS)
    names = session.item_table(theirs) | session.gated_names(theirs)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        # The port's update gate is one minus ours, and sigmoid(-x) is 1 - sigmoid(x).
        value = names[f"graph.step.cell.{name}"].copy()
        value[WIDTH : 2 * WIDTH] *= -1
        names[f"graph.step.cell.{name}"] = value
    heads = theirs["multihead_attn.in_proj_weight"]
    for k in range(GCSAN_BLOCKS):
        names |= {f"blocks.{k}.query.weight": heads[:WIDTH], f"blocks.{k}.key_value.weight": heads[WIDTH:]}
        for kind in ("weight", "bias"):
            names[f"blocks.{k}.expand.{kind}"] = theirs[f"rn.d1.{kind}"]
            names[f"blocks.{k}.contract.{kind}"] = theirs[f"rn.d2.{kind}"]
    ours.set_weights(model, names)
    rows, padded = Rows.of(arrays, EQUAL), Rows.of(arrays, PADDED)
    loss = session.loss_of_session(model, rows)
    found = rows.against(model, loss, {}, EQUAL)
    shared = np.sum([model.blocks[k].expand.weight.grad.numpy() for k in range(GCSAN_BLOCKS)], axis=0)
    found[GCSAN_SHARED] = Pair(shared, rows.theirs["g.d1"])
    return found | {f"scores, {PADDED}": Pair(ours.scores(model, padded.batch), padded.theirs["scores"])}


def _bounds(kinds: tuple[str, ...], gradients: dict[str, str]) -> dict:
    compared = ["scores", "loss", "gradient by items", *(f"gradient by {name}" for name in gradients)]
    return {f"{what}, {kind}": within(1e-5) for kind in kinds for what in compared}


CHECKS = [
    Check(
        "srgnn",
        "CRIPAC-DIG/SR-GNN",
        NOT_RECORDED,
        _bounds((EQUAL, PADDED), SRGNN_GRADIENTS) | {PREFIXES: within(1e-5)},
        _srgnn,
    ),
    Check(
        "tagnn",
        "CRIPAC-DIG/TAGNN",
        NOT_RECORDED,
        _bounds((EQUAL,), TAGNN_GRADIENTS) | {PADDING: within(1e-5), f"scores, {PADDED}": differs(1e-4)},
        _tagnn,
        "pads take part in the target attention there, so rows of unequal length differ",
    ),
    Check(
        "gcsan",
        "johnny12150/GC-SAN, a public port",
        NOT_RECORDED,
        _bounds((EQUAL,), {}) | {GCSAN_SHARED: within(1e-5), f"scores, {PADDED}": differs(1e-4)},
        _gcsan,
        "the update gate is turned over there; its four blocks share their weights; pads are keys there, so rows of unequal length differ",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
