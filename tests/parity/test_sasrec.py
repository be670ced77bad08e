"""SASRec's two blocks: pre-norm against pmixer's PyTorch code, the original one against the authors' own."""

from __future__ import annotations

import numpy as np

from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, near, part, scaled


def _pre_norm_names(theirs: dict) -> dict:
    """Parameters of pmixer's model under our names. Its position 0 is that of the pad, so ours start at its 1."""
    out = {ours.ITEMS: theirs["item_emb.weight"], ours.POSITIONS: theirs["pos_emb.weight"][1:]}
    for kind in ("weight", "bias"):
        out[f"final_norm.{kind}"] = theirs[f"last_layernorm.{kind}"]
        for k in range(2):
            names = {
                "attention_norm": f"attention_layernorms.{k}.{kind}",
                "attention.query_key_value": f"attention_layers.{k}.in_proj_{kind}",
                "attention.output": f"attention_layers.{k}.out_proj.{kind}",
                "feedforward_norm": f"forward_layernorms.{k}.{kind}",
                "expand": f"forward_layers.{k}.conv1.{kind}",
                "contract": f"forward_layers.{k}.conv2.{kind}",
            }
            for own, name in names.items():
                value = theirs[name]
                # A convolution over one place is a matrix.
                out[f"layers.{k}.{own}.{kind}"] = value[..., 0] if value.ndim == 3 else value
    return out


def _pre_norm() -> dict[str, Pair]:
    arrays, found = golden("sasrec_pmixer"), {}
    weights, batch = _pre_norm_names(part(arrays, "w/")), ours.batch(arrays)
    for loss, prefix in (("bce", "gbce/"), ("softmax", "g/")):
        sizes = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "feedforward_size": 16, "dropout": 0.2}
        model = ours.build(SASRec, SASRecConfig(**sizes, loss=loss, n_negatives=1))
        ours.set_weights(model, weights)
        if loss == "bce":
            found["scores as built"] = Pair(ours.scores(model, batch), arrays["scores"][:, 1:])
        ours.set_norm_eps(model, 1e-8)
        found[f"scores, {loss}"] = Pair(ours.scores(model, batch), arrays["scores"][:, 1:])
        ours.draw(model, arrays["negatives"])
        value = model.training_loss(batch)
        found[f"loss, {loss}"] = Pair(value, arrays[f"loss_{loss}"])
        own, theirs = ours.gradients(model, value), _pre_norm_names(part(arrays, prefix))
        found[f"gradients, {loss}"] = Pair(ours.without_pad(own), ours.without_pad(theirs))
        # Ours drops what attention gives to the residual, theirs does not: the factor goes into the weights before it.
        ends = {f"layers.{k}.attention.output.{kind}" for k in range(2) for kind in ("weight", "bias")}
        ours.set_weights(model, {name: v / ours.KEPT if name in ends else v for name, v in weights.items()})
        found[f"scores with dropouts as factors, {loss}"] = Pair(
            ours.scores_in_training(model, batch), arrays["scores_dropped"][:, 1:]
        )
    return found


def _original_names(theirs: dict, n: int, length: int = 12) -> dict:
    """Parameters of the authors' model under our names, for rows of n events, the last of which stands in the last slot there."""
    value = {name.removeprefix("SASRec/"): array for name, array in theirs.items()}
    positions = np.zeros((length, 16), np.float32)
    positions[:n] = value["dec_pos/lookup_table"][length - n :]
    out = {ours.ITEMS: value["input_embeddings/lookup_table"].copy(), ours.POSITIONS: positions}
    out[ours.ITEMS][0] = 0
    # TensorFlow numbers what has the same name: a norm's "var" is its bias, "var_1" its weight.
    out["final_norm.bias"], out["final_norm.weight"] = value["ln/var"], value["ln/var_1"]
    for k in range(2):
        block, own = f"num_blocks_{k}/", f"layers.{k}."
        norms = {"attention_norm": ("", "_1"), "feedforward_norm": ("_2", "_3")}
        for name, (bias, weight) in norms.items():
            out[f"{own}{name}.bias"], out[f"{own}{name}.weight"] = (value[f"{block}ln/var{i}"] for i in (bias, weight))
        for kind, there in (("weight", "kernel"), ("bias", "bias")):
            q, key, v = (value[f"{block}self_attention/dense/{there}{i}"].T for i in ("", "_1", "_2"))
            out[f"{own}query.{kind}"], out[f"{own}key_value.{kind}"] = q, np.concatenate([key, v])
            for name, i in (("expand", ""), ("contract", "_1")):
                out[f"{own}{name}.{kind}"] = value[f"{block}multihead_attention/conv1d/{there}{i}"].T
    return out


def _original() -> dict[str, Pair]:
    arrays = golden("sasrec_original")
    n_events = int(arrays["lengths"].sum())
    sizes = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "feedforward_size": 16, "dropout": 0.2}
    model = ours.build(SASRec, SASRecConfig(**sizes, block="original", loss="bce", n_negatives=1))

    def load(n: int) -> None:
        ours.set_weights(model, _original_names(part(arrays, "w/"), n))

    def prepare(row: int, places: slice) -> float:
        ours.draw(model, arrays["negatives"][places])
        return (places.stop - places.start) / n_events

    def to_the_end(gradient: np.ndarray, n: int) -> np.ndarray:
        out = np.zeros_like(gradient)
        out[len(out) - n :] = gradient[:n]
        return out

    as_built = ours.row_by_row(model, arrays, load)
    ours.set_norm_eps(model, 1e-8)
    found = ours.row_by_row(model, arrays, load, prepare, to_the_end)
    theirs = _original_names(part(arrays, "g/"), 12)
    return {
        "scores as built": Pair(as_built.scores, arrays["scores"][:, 1:]),
        "scores": Pair(found.scores, arrays["scores"][:, 1:]),
        "scores with dropouts as factors": Pair(found.dropped, arrays["scores_dropped"][:, 1:]),
        "loss": Pair(found.loss, arrays["loss"]),
        "gradients": Pair(ours.without_pad(found.gradients), ours.without_pad(theirs)),
    }


CHECKS = [
    Check(
        "sasrec, pre-norm",
        "pmixer/SASRec.pytorch, norm_first",
        "fde8a9c",
        {"scores as built": near(1e-3)}
        | {f"scores, {loss}": scaled(2e-5) for loss in ("bce", "softmax")}
        | {f"scores with dropouts as factors, {loss}": scaled(2e-5) for loss in ("bce", "softmax")}
        | {f"loss, {loss}": scaled(2e-5) for loss in ("bce", "softmax")}
        | {f"gradients, {loss}": scaled(5e-5) for loss in ("bce", "softmax")},
        _pre_norm,
        "eps of the layer norms (1e-5 here, 1e-8 there); a dropout more behind attention here",
    ),
    Check(
        "sasrec, block=original",
        "kang205/SASRec, over a stand-in for TensorFlow's calls",
        "e373896",
        {
            "scores as built": near(1e-3),
            "scores": scaled(2e-5),
            "scores with dropouts as factors": scaled(2e-5),
            "loss": scaled(1e-5),
            "gradients": scaled(5e-5),
        },
        _original,
        "eps of the last norm (1e-5 here, 1e-8 there); slots are counted from the end there",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
