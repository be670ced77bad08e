"""HSTU in its released form, where a query knows its target's time, and against RecTools' dense rewriting."""

from __future__ import annotations

from recbench.models.sequential.hstu import HSTU, HSTUConfig
from tests.parity import ours
from tests.parity.compare import Check, Pair, differs, every_comparison, golden, part, scaled

SIZES = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "head_size": 6, "dropout": 0.2, "time_of_target": True}


def _names(theirs: dict, divisor: int) -> dict:
    """Parameters of the released model under our names; of its biases of 2 n - 1 distances those that look back."""
    out = {
        ours.ITEMS: theirs["_embedding_module._item_emb.weight"],
        ours.POSITIONS: theirs["_input_features_preproc._pos_emb.weight"][:12],
    }
    for k in range(2):
        layer, own = f"_hstu._attention_layers.{k}.", f"layers.{k}."
        out |= {
            f"{own}project.weight": theirs[f"{layer}_uvqk"].T,
            f"{own}output.weight": theirs[f"{layer}_o.weight"],
            f"{own}output.bias": theirs[f"{layer}_o.bias"],
            f"{own}position_bias.weight": theirs[f"{layer}_rel_attn_bias._pos_w"][:divisor][::-1][:12],
            f"{own}time_bias.weight": theirs[f"{layer}_rel_attn_bias._ts_w"][:, None],
        }
    return out


def _released() -> dict[str, Pair]:
    arrays = golden("hstu")
    divisor, batch, theirs = int(arrays["length_divisor"]), ours.batch(arrays), arrays["scores"][:, 1:]
    model = ours.build(HSTU, HSTUConfig(**SIZES, n_negatives=8))
    ours.set_weights(model, _names(part(arrays, "w/"), divisor))
    found = {"scores as built, divided by max_length": Pair(ours.scores(model, batch), theirs)}
    for layer in model.layers:
        layer.max_length = divisor
    found["scores"] = Pair(ours.scores(model, batch), theirs)
    dropped = ours.scores_in_training(model, batch)
    found["scores with dropouts as factors"] = Pair(dropped, arrays["scores_dropped"][:, 1:])
    ours.draw(model, arrays["negatives"])
    loss = model.training_loss(batch)
    found["loss"] = Pair(loss, arrays["loss"])
    found["gradients"] = Pair(ours.gradients(model, loss), _names(part(arrays, "g/"), divisor))
    return found


def _rectools() -> dict[str, Pair]:
    arrays = golden("hstu_rectools")
    theirs = part(arrays, "w/")
    positions = theirs["pos_encoding_layer.pos_emb.weight"]
    weights = {ours.ITEMS: theirs["item_model.emb.weight"]}
    for k in range(2):
        block, own = f"transformer_layers.stu_blocks.{k}.", f"layers.{k}."
        weights |= {
            f"{own}project.weight": theirs[f"{block}uvqk_proj"].T,
            f"{own}output.weight": theirs[f"{block}output_mlp.weight"],
            f"{own}output.bias": theirs[f"{block}output_mlp.bias"],
            f"{own}position_bias.weight": theirs[f"{block}rel_attn.pos_weights"][:12][::-1],
            f"{own}time_bias.weight": theirs[f"{block}rel_attn.time_weights"][:, None],
        }
    model = ours.build(HSTU, HSTUConfig(**SIZES))

    def load(n: int) -> None:
        ours.set_weights(model, weights | {ours.POSITIONS: ours.turned_around(positions, n)})

    found = ours.row_by_row(model, arrays, load)
    return {
        "scores": Pair(found.scores, arrays["scores"][:, 1:]),
        "scores with dropouts as factors": Pair(found.dropped, arrays["scores_dropped"][:, 1:]),
    }


CHECKS = [
    Check(
        "hstu",
        "facebookresearch/generative-recommenders, jagged operators in torch",
        "2e81fab",
        {
            "scores as built, divided by max_length": differs(1e-2),
            "scores": scaled(2e-5),
            "scores with dropouts as factors": scaled(2e-5),
            "loss": scaled(1e-5),
            "gradients": scaled(1e-4),
        },
        _released,
        "attention is divided by max_length here, by max_length + 11 there; time_of_target=true",
    ),
    Check(
        "hstu",
        "MobileTeleSystems/RecTools",
        "41a5a63",
        {"scores": scaled(2e-5), "scores with dropouts as factors": scaled(2e-5)},
        _rectools,
        "positions are counted from the last event there; its norm has weights, left at 1 and 0; time_of_target=true",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
