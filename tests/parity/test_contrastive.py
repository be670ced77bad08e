"""The contrastive terms of CL4SRec, DuoRec and MCLRec on given states; the encoders around them are not compared."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from recbench.models.auxiliary import MCLRecConfig
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.mclrec import MCLRec
from tests.parity import ours
from tests.parity.compare import Check, Pair, every_comparison, golden, scaled, tensor

TEMPERATURES = ("1", "0.5")
TERMS = {"L_cl2": 0, "L_cl2 and the regulariser": 1}


def _views(arrays: dict) -> tuple[Tensor, Tensor]:
    first, second = (tensor(arrays[name]).requires_grad_() for name in ("h1", "h2"))
    return first, second


def _info_nce() -> dict[str, Pair]:
    arrays, found = golden("contrastive"), {}
    for temperature in TEMPERATURES:
        views = _views(arrays)
        value = info_nce(*views, float(temperature))
        found[f"InfoNCE at temperature {temperature}"] = Pair(value, arrays[f"nce_{temperature}"])
        for i, gradient in enumerate(torch.autograd.grad(value, views), 1):
            theirs = arrays[f"nce_g{i}_{temperature}"]
            found[f"gradient by view {i} at temperature {temperature}"] = Pair(gradient, theirs)
    return found


def _mclrec() -> dict[str, Pair]:
    arrays, found = golden("contrastive"), {}
    names = {
        f"{side}.layers.{i}.{kind}": f"{side + 1}/dense_{i + 1}.{kind}"
        for side in (0, 1)
        for i in range(3)
        for kind in ("weight", "bias")
    }
    no_windows = SimpleNamespace(data=None, windows=SimpleNamespace(length=np.zeros(0, np.int64)))
    for what, with_regulariser in TERMS.items():
        config = MCLRecConfig(augmenter_sizes=[12, 6], regulariser=0.1 * with_regulariser)
        made = MCLRec(config, SimpleNamespace(width=16), no_windows)
        made.augmenters.requires_grad_(True)
        ours.set_weights(made.augmenters, {mine: arrays[f"w/{name}"] for mine, name in names.items()})
        views = _views(arrays)
        learned, spread = made._learned_terms(*views)
        value = learned + config.regulariser * spread
        key = f"mcl_{with_regulariser}"
        found[what] = Pair(value, arrays[key])
        found[f"gradients by the augmenters, {what}"] = Pair(
            ours.gradients(made.augmenters, value), {mine: arrays[f"{key}_g/{name}"] for mine, name in names.items()}
        )
        for i, view in enumerate(views, 1):
            found[f"gradient by view {i}, {what}"] = Pair(view.grad, arrays[f"{key}_g{i}"])
    return found


CHECKS = [
    Check(
        "cl4srec and duorec, their InfoNCE",
        "RuihongQiu/DuoRec",
        "4ebc30d",
        {f"InfoNCE at temperature {temperature}": scaled(1e-5) for temperature in TEMPERATURES}
        | {f"gradient by view {i} at temperature {t}": scaled(2e-5) for t in TEMPERATURES for i in (1, 2)},
        _info_nce,
        "the states are given: the encoder (pre-norm here, post-norm with GELU there) is not compared",
    ),
    Check(
        "mclrec, its learned terms",
        "QinHsiu/MCLRec",
        "bc8d622",
        dict.fromkeys(TERMS, scaled(1e-5))
        | {f"gradients by the augmenters, {what}": scaled(2e-5) for what in TERMS}
        | {f"gradient by view {i}, {what}": scaled(2e-5) for what in TERMS for i in (1, 2)},
        _mclrec,
        "the states are given: the encoder (pre-norm here, post-norm with GELU there) is not compared",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
