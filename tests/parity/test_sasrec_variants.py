"""gSASRec and eSASRec: what ``sasrec`` becomes by its block, its output table and its loss."""

from __future__ import annotations

from functools import partial

import numpy as np

from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, near, part, scaled

SIZES = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.2, "scale_embedding": False, "n_negatives": 8}
CALIBRATIONS = (0.0, 0.75, 1.0)


def _gsasrec_names(theirs: dict) -> dict:
    """Parameters under our names; the tables there have one more row, for the pad that is the last id."""
    out = {
        ours.ITEMS: theirs["item_embedding.weight"][:24],
        ours.POSITIONS: theirs["position_embedding.weight"],
        "output_embedding.weight": theirs["output_embedding.weight"][:24],
    }
    for kind in ("weight", "bias"):
        out[f"final_norm.{kind}"] = theirs[f"seq_norm.{kind}"]
        for k in range(2):
            block, own = f"transformer_blocks.{k}.", f"layers.{k}."
            out[f"{own}query.{kind}"] = theirs[f"{block}multihead_attention.query_proj.{kind}"]
            pair = [theirs[f"{block}multihead_attention.{name}_proj.{kind}"] for name in ("key", "val")]
            out[f"{own}key_value.{kind}"] = np.concatenate(pair)
            names = {
                "attention_norm": "first_norm",
                "feedforward_norm": "second_norm",
                "expand": "dense1",
                "contract": "dense2",
            }
            for mine, name in names.items():
                out[f"{own}{mine}.{kind}"] = theirs[f"{block}{name}.{kind}"]
    return out


def _gsasrec() -> dict[str, Pair]:
    arrays, found = golden("gsasrec"), {}
    batch, published = ours.batch(arrays), arrays["scores"][:, 1:]
    keys = {"feedforward_size": 16, "block": "original", "output_table": "separate", "loss": "gbce"}
    for t in CALIBRATIONS:
        model = ours.build(SASRec, SASRecConfig(**SIZES, **keys, gbce_t=t))
        ours.set_weights(model, _gsasrec_names(part(arrays, "w/")))
        if t == CALIBRATIONS[0]:
            found["scores as built"] = Pair(ours.scores(model, batch), published)
        ours.set_norm_eps(model, 1e-5)
        found[f"scores, t={t:g}"] = Pair(ours.scores(model, batch), published)
        dropped = ours.scores_in_training(model, batch)
        found[f"scores with dropouts as factors, t={t:g}"] = Pair(dropped, arrays["scores_dropped"][:, 1:])
        ours.draw(model, arrays["negatives"])
        value = model.training_loss(batch)
        found[f"loss, t={t:g}"] = Pair(value, arrays[f"loss_t{t:g}"])
        if t == 0.75:
            found["gradients, t=0.75"] = Pair(ours.gradients(model, value), _gsasrec_names(part(arrays, "g75/")))
    return found


def _esasrec_names(theirs: dict) -> dict:
    """Parameters of a LiGR model under our names; silu of the first linear layer of its SwiGLU opens what the third gives."""
    out = {
        ours.ITEMS: theirs["item_model.emb.weight"],
        ours.POSITIONS: theirs["pos_encoding_layer.pos_emb.weight"],
    }
    for k in range(2):
        block, own = f"transformer_layers.transformer_blocks.{k}.", f"layers.{k}."
        first, second, third = (theirs[f"{block}feed_forward.ff_linear_{i}.weight"] for i in (1, 2, 3))
        out[f"{own}expand.weight"], out[f"{own}contract.weight"] = np.concatenate([first, third]), second
        for kind in ("weight", "bias"):
            names = {
                "attention_norm": f"layer_norm_1.{kind}",
                "feedforward_norm": f"layer_norm_2.{kind}",
                "attention.query_key_value": f"multi_head_attn.in_proj_{kind}",
                "attention.output": f"multi_head_attn.out_proj.{kind}",
                "attention_gate": f"gating_linear_1.{kind}",
                "feedforward_gate": f"gating_linear_2.{kind}",
            }
            out |= {f"{own}{mine}.{kind}": theirs[block + name] for mine, name in names.items()}
    return out


def _esasrec(name: str) -> dict[str, Pair]:
    arrays = golden(name)
    weights, n_events = _esasrec_names(part(arrays, "w/")), int(arrays["lengths"].sum())
    keys = {"feedforward_size": 64, "block": "ligr", "loss": "sampled_softmax"}
    model = ours.build(SASRec, SASRecConfig(**SIZES, **keys, negatives="per_position", logq=False))

    def load(n: int) -> None:
        ours.set_weights(model, weights | {ours.POSITIONS: ours.turned_around(weights[ours.POSITIONS], n)})

    def prepare(row: int, places: slice) -> float:
        ours.draw(model, arrays["negatives"][places])
        return (places.stop - places.start) / n_events

    found = ours.row_by_row(model, arrays, load, prepare, ours.turned_around)
    theirs = _esasrec_names(part(arrays, "g/"))
    return {
        "scores": Pair(found.scores, arrays["scores"][:, 1:]),
        "scores with dropouts as factors": Pair(found.dropped, arrays["scores_dropped"][:, 1:]),
        "loss": Pair(found.loss, arrays["loss"]),
        "gradients": Pair(ours.without_pad(found.gradients), ours.without_pad(theirs)),
    }


ESASREC_BOUNDS = {
    "scores": scaled(2e-5),
    "scores with dropouts as factors": scaled(2e-5),
    "loss": scaled(1e-5),
    "gradients": scaled(5e-5),
}
POSITIONS_TURNED = "positions are counted from the last event there"

CHECKS = [
    Check(
        "gsasrec",
        "asash/gSASRec-pytorch, model and training loop",
        "7e35028",
        {"scores as built": near(1e-3), "gradients, t=0.75": scaled(5e-5)}
        | {f"scores, t={t:g}": scaled(2e-5) for t in CALIBRATIONS}
        | {f"scores with dropouts as factors, t={t:g}": scaled(2e-5) for t in CALIBRATIONS}
        | {f"loss, t={t:g}": scaled(1e-5) for t in CALIBRATIONS},
        _gsasrec,
        "eps of the norms in the blocks (1e-8 here, 1e-5 there)",
    ),
    Check(
        "esasrec",
        "blondered/transformer_benchmark, its LiGR over RecTools",
        "2b03992",
        ESASREC_BOUNDS,
        partial(_esasrec, "esasrec"),
        POSITIONS_TURNED,
    ),
    Check(
        "esasrec",
        "MobileTeleSystems/RecTools, LiGR",
        "41a5a63",
        ESASREC_BOUNDS,
        partial(_esasrec, "esasrec_rectools"),
        POSITIONS_TURNED,
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
