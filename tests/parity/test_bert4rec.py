"""BERT4Rec against RecBole's, which counts positions from the first event where ours count from the last."""

from __future__ import annotations

import numpy as np

from recbench.models.sequential.bert4rec import BERT4Rec, BERT4RecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, near, part, scaled, tensor


def _names(theirs: dict) -> dict:
    """Parameters under our names; the last row of the item table there is the mask."""
    table = theirs["item_embedding.weight"]
    out = {ours.ITEMS: table[:24], "mask_vector": table[24], "item_bias": theirs["output_bias"]}
    out[ours.POSITIONS] = theirs["position_embedding.weight"]
    for kind in ("weight", "bias"):
        out[f"input_norm.{kind}"] = theirs[f"LayerNorm.{kind}"]
        out[f"head.0.{kind}"], out[f"head.2.{kind}"] = theirs[f"output_ffn.{kind}"], theirs[f"output_ln.{kind}"]
        for k in range(2):
            layer, own = f"trm_encoder.layer.{k}.", f"layers.{k}."
            heads = [theirs[f"{layer}multi_head_attention.{name}.{kind}"] for name in ("query", "key", "value")]
            out[f"{own}attention.query_key_value.{kind}"] = np.concatenate(heads)
            names = {
                "attention.output": "multi_head_attention.dense",
                "attention_norm": "multi_head_attention.LayerNorm",
                "expand": "feed_forward.dense_1",
                "contract": "feed_forward.dense_2",
                "feedforward_norm": "feed_forward.LayerNorm",
            }
            out |= {f"{own}{mine}.{kind}": theirs[f"{layer}{name}.{kind}"] for mine, name in names.items()}
    return out


def _positions(table: np.ndarray, n: int) -> np.ndarray:
    """The n positions of a row and its mask, from the last one on; nothing reads the others."""
    out = np.zeros_like(table)
    out[:n] = table[:n][::-1]
    return out


def _bert4rec() -> dict[str, Pair]:
    arrays = golden("bert4rec_recbole")
    weights, n_hidden = _names(part(arrays, "w/")), int(arrays["hidden"].sum())
    sizes = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "feedforward_size": 24}
    model = ours.build(BERT4Rec, BERT4RecConfig(**sizes, dropout=0.2))

    def load(n: int) -> None:
        ours.set_weights(model, weights | {ours.POSITIONS: _positions(weights[ours.POSITIONS], n + 1)})

    def prepare(row: int, places: slice) -> float:
        hidden = arrays["hidden"][row : row + 1, : places.stop - places.start + 1]
        model.draw_masks = lambda lengths, width: tensor(hidden)
        return hidden.sum() / n_hidden

    as_built = ours.row_by_row(model, arrays, load)
    ours.set_norm_eps(model, 1e-12)
    found = ours.row_by_row(model, arrays, load, prepare, lambda gradient, n: ours.turned_around(gradient, n + 1))
    theirs = _names(part(arrays, "g/"))
    return {
        "scores as built": Pair(as_built.scores, arrays["scores"][:, 1:]),
        "scores": Pair(found.scores, arrays["scores"][:, 1:]),
        "scores with dropouts as factors": Pair(found.dropped, arrays["scores_dropped"][:, 1:]),
        "loss": Pair(found.loss, arrays["loss"]),
        "gradients": Pair(ours.without_pad(found.gradients), ours.without_pad(theirs)),
    }


CHECKS = [
    Check(
        "bert4rec",
        "RUCAIBox/RecBole",
        "7b02be5",
        {
            "scores as built": near(2e-3),
            "scores": scaled(2e-5),
            "scores with dropouts as factors": scaled(2e-5),
            "loss": scaled(1e-5),
            "gradients": scaled(5e-5),
        },
        _bert4rec,
        "eps of the layer norms (1e-5 here, 1e-12 there); positions are counted from the first event there; "
        "the pad is a class of the softmax there; the oldest event gives way to the mask there",
    )
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
