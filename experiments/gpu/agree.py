"""Does every model compute on a GPU what it computes on the CPU? One evaluation and one training step, the same weights and random numbers.

A figure is the largest difference over the largest absolute value, of scores, of the loss, and of the gradients of each parameter. float32, without
TF32. Models that train row-wise on sparse gradients are compared on their dense form.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbench.experiment.model_contract.world import fresh, world
from recbench.models.registry import lookup, model_names
from recbench.nn.transformer.dropout import Dropout

from .cpu_random import CpuRandom

#: What may differ, over the largest value: float32 sums in another order.
TOLERANCE = 2e-4


def models(sizes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every registered model that ranks, with keys that make it small."""
    for name in model_names():
        if lookup(name).model.ranks:
            yield name, sizes.get(name, {})


def compare(name: str, keys: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Differences of one model: ``scores``, and where it is trained by gradient ``loss`` and ``gradients`` with the parameter that is worst."""
    here = plain_dropout(fresh(name, keys))
    there = moved(here, device)
    histories = world().histories
    with torch.no_grad():
        found: dict[str, Any] = {"scores": difference(here.score(histories), there.score(histories.to(device)))}
    if type(here).trains_by_gradient:
        rows = world().rows[here.trains_on]
        ours, theirs = step(here, rows), step(there, rows.to(device))
        found["loss"] = difference(ours[0], theirs[0])
        far = {key: difference(part, theirs[1][key]) for key, part in ours[1].items()}
        found["worst"] = max(far, key=lambda key: far[key])
        found["gradients"] = far[found["worst"]]
    found["within"] = all(value <= TOLERANCE for key, value in found.items() if key in ("scores", "loss", "gradients"))
    return found


def plain_dropout(model: Any) -> Any:
    """The model with torch's dropout in the place of ours, which draws its masks in another way on a CPU."""
    for part in list(model.modules()):
        for name, child in part.named_children():
            if isinstance(child, Dropout):
                setattr(part, name, nn.Dropout(child.rate).train(child.training))
    return model


def moved(model: nn.Module, device: torch.device) -> Any:
    """A copy of a model on a device."""
    return copy.deepcopy(model).to(device)


def step(model: Any, rows: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one step in training mode."""
    model.train()
    with CpuRandom(seed=1):
        loss = model.training_loss(rows)
    loss.backward()
    gradients = {
        key: part.grad.to_dense() if part.grad.is_sparse else part.grad
        for key, part in model.named_parameters()
        if part.grad is not None
    }
    return loss.detach(), gradients


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest absolute value of ours; infinite where one has a number and the other none."""
    a, b = ours.detach().double().cpu(), theirs.detach().double().cpu()
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return math.inf
    a, b = a[finite], b[finite]
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) if a.numel() else 0.0


def exact_products() -> None:
    """float32 products without TF32, so that a GPU has the CPU's precision."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
