"""GCE-GNN with one hop and with two against its authors' code: the graph of all sessions, scores, losses and gradients."""

from __future__ import annotations

from functools import partial

import numpy as np

from recbench.models.session.gcegnn import GCEGNN, GCEGNNConfig
from tests.parity import ours
from tests.parity import session_models as session
from tests.parity.compare import (
    EXACT,
    NOT_RECORDED,
    Check,
    Pair,
    differs,
    every_comparison,
    golden,
    part,
    tensor,
    within,
)
from tests.parity.session_models import EQUAL, PADDED, WIDTH, Rows

#: Sessions are read from the last event there: what ours calls after and before change places.
EDGE_TYPES = (0, 2, 1, 3)
GRAPH = {"weights of the kept neighbours": EXACT, "neighbours above the cut": EXACT}
COMPARED = ("scores", "loss", *(f"gradient by {part}" for part in ("items", "positions", "edge types", "first layer")))


def _names(theirs: dict, hops: int) -> dict:
    """Parameters under our names; matrices that multiply from the left there are transposed here."""
    out = session.item_table(theirs) | {"local_graph.weights": _edge_types(theirs)}
    for kind in ("weight", "bias"):
        out[f"readout.from_both.{kind}"] = theirs[f"glu1.{kind}"]
    out |= {
        "readout.position_embedding.weight": theirs["pos_embedding.weight"],
        "readout.from_position.weight": theirs["w_1"][:WIDTH].T,
        "readout.from_state.weight": theirs["w_1"][WIDTH:].T,
        "readout.from_mean.weight": theirs["glu2.weight"],
        "readout.weight.weight": theirs["w_2"].T,
    }
    for hop in range(hops):
        layer, own = part(theirs, f"agg_gcn_{hop}."), f"global_graph.layers.{hop}."
        out |= {
            f"{own}match.weight": layer["w_1"][:WIDTH].T,
            f"{own}from_weight.weight": layer["w_1"][WIDTH:].T,
            f"{own}query.weight": layer["w_2"].T,
            f"{own}combine.weight": layer["w_3"].T,
        }
    return out


def _edge_types(theirs: dict) -> np.ndarray:
    return np.stack([theirs[f"local_agg.a_{kind}"][:, 0] for kind in EDGE_TYPES])


def _missing(own: dict, raw: np.ndarray, weights: np.ndarray) -> int:
    """Neighbours of ours that are not in their table though they weigh more than its lightest: ties at the cut may be broken either way."""
    return sum(
        neighbour not in raw[item]
        for item in range(1, len(raw))
        for neighbour, weight in zip(own["neighbours"][item], own["weights"][item], strict=True)
        if weight > max(0, weights[item].min())
    )


def _gcegnn(name: str, fills_up: bool) -> dict[str, Pair]:
    arrays = golden(f"gcegnn_{name}")
    hops, kept = int(arrays["hops"]), int(arrays["K"])
    dropouts = dict.fromkeys(("dropout", "local_dropout", "inner_dropout"), 0.0)
    config = GCEGNNConfig(hidden_size=WIDTH, hops=hops, n_neighbours=kept, **dropouts)
    model = ours.build(GCEGNN, config, session.N_ITEMS, train=ours.training_part(arrays["train"]))
    graph = model.global_graph
    own = {"neighbours": graph.neighbours.numpy().copy(), "weights": graph.weights.numpy().copy()}
    found = {
        "weights of the kept neighbours": Pair(own["weights"], arrays["raw_num"]),
        "neighbours above the cut": Pair(_missing(own, arrays["raw_adj"], arrays["raw_num"]), 0),
    }
    if not fills_up:
        graph.neighbours.copy_(tensor(arrays["adj"]))
        graph.weights.copy_(tensor(arrays["num"]))
    ours.set_weights(model, _names(part(arrays, "w."), hops))
    for kind in (EQUAL, PADDED):
        rows = Rows.of(arrays, kind)
        if fills_up:
            found[f"scores, {kind}"] = Pair(ours.scores(model, rows.batch), rows.theirs["scores"])
            continue
        found |= rows.against(model, session.loss_of_session(model, rows), {}, kind)
        theirs, grad = part(rows.theirs, "g."), {name: p.grad for name, p in model.named_parameters()}
        found |= {
            f"gradient by positions, {kind}": Pair(
                grad["readout.position_embedding.weight"], theirs["pos_embedding.weight"]
            ),
            f"gradient by edge types, {kind}": Pair(grad["local_graph.weights"], _edge_types(theirs)),
            f"gradient by first layer, {kind}": Pair(
                grad["global_graph.layers.0.combine.weight"], theirs["agg_gcn_0.w_3"].T
            ),
        }
    return found


def _check(name: str, what: str, fills_up: bool, set_by_hand: str) -> Check:
    kinds = (EQUAL, PADDED)
    if fills_up:
        bounds = {f"scores, {kind}": differs(1e-4) for kind in kinds}
    else:
        bounds = {f"{compared}, {kind}": within(1e-5) for kind in kinds for compared in COMPARED}
    compute = partial(_gcegnn, name, fills_up)
    return Check(f"gcegnn, {what}", "CCIIPLab/GCE-GNN", NOT_RECORDED, GRAPH | bounds, compute, set_by_hand)


TIES = "their table of neighbours, where ties at the cut are broken otherwise"
CHECKS = [
    _check("1", "hops=1", False, TIES),
    _check("2", "hops=2", False, TIES),
    _check(
        "2dup", "few neighbours", True, "empty places are filled by drawing neighbours again there, so scores differ"
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
