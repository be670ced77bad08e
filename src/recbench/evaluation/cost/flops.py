"""Floating-point operations of an answer and of a training step, by the formulas of torch's own counter (``torch.utils.flop_counter``).

Its class ``FlopCounterMode`` also follows modules through the backward pass, which fails for modules that answer in lists, and takes seconds to
start; here its formulas are applied to the same operations without that.

It counts matrix products, convolutions and attention (written out as matrix products here, so that every device counts alike: a causal mask saves
nothing), a multiplication and an addition as two. It does not see anything else: look-ups, softmax, norms, activations, sorting and searching,
scans that are no matrix product, sparse products, fused kernels of other packages. So a count of 0, as that of a model that looks neighbours up,
means "no dense product", not "no work", and shares of what is counted differ between architectures: read it beside the seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry

from recbench.evaluation.cost.operations import OperationMode


def count_flops(call: Callable[[], Any]) -> int:
    """Operations of ``call()``, its backward pass included where it makes one."""
    with _Counter() as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.total


class _Counter(OperationMode):
    """Adds up the operations that have a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


class NoGradientError(ValueError):
    """A loss that depends on no parameter."""


def count_training_flops(model: nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Operations of one forward and backward pass of a loss in training mode. The model is left as it was: its mode, gradients, buffers
    and the random state; the optimiser's step is not counted. Raises NoGradientError where the loss depends on no parameter."""

    def step() -> None:
        found = loss()
        if not found.requires_grad:
            raise NoGradientError("the loss depends on no parameter")
        found.backward()

    was_training = {module: module.training for module in model.modules()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    for parameter in model.parameters():
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            model.train()
            return count_flops(step)
    finally:
        for module, training in was_training.items():
            module.training = training
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape:
                    buffer.copy_(buffers[name])
