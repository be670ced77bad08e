"""Random numbers that do not depend on the device: inside ``CpuRandom`` they are drawn on the CPU and moved to where they were asked for.

So one training step, with its dropout and its drawn negatives, can be compared between a CPU and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Functions that make a tensor on a device.
MAKE = {torch.rand, torch.randn, torch.randint, torch.randperm}
#: Functions that make a tensor like another one.
LIKE = {torch.rand_like, torch.randn_like, torch.randint_like}
#: Functions whose result is drawn from a tensor of weights.
DRAW = {torch.multinomial, torch.bernoulli, torch.normal, torch.poisson}
#: Methods that fill a tensor.
FILL = {
    getattr(Tensor, name)
    for name in ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_")
}


class CpuRandom(TorchFunctionMode):
    """A block in which all random numbers come from the CPU's generator, which ``seed`` sets at its start."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def __enter__(self) -> CpuRandom:
        torch.manual_seed(self.seed)
        super().__enter__()
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in MAKE:
            device = kwargs.pop("device", None)
            made = func(*args, **_without_generator(kwargs))
            return made if device is None else made.to(device)
        if func in LIKE:
            like, wanted = args[0], kwargs.pop("device", None)
            return func(torch.empty_like(like, device="cpu"), *args[1:], **_without_generator(kwargs)).to(
                wanted or like.device
            )
        if func in DRAW:
            device = next((part.device for part in args if isinstance(part, Tensor)), torch.device("cpu"))
            return func(*map(_to_cpu, args), **_without_generator(kwargs)).to(device)
        if func in FILL:
            target = args[0]
            drawn = func(torch.empty_like(target, device="cpu"), *map(_to_cpu, args[1:]), **_without_generator(kwargs))
            with torch.no_grad():
                return target.copy_(drawn)
        if func is torch.nn.functional.dropout:
            return _dropout(*args, **kwargs)
        if func is torch.nn.functional.scaled_dot_product_attention and kwargs.get("dropout_p", 0.0):
            kwargs["dropout_p"] = 0.0  # its mask cannot be handed in
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As in torch, with a mask that is drawn on the CPU."""
    if not training or p == 0.0:
        return x
    kept = torch.rand(x.shape) >= p
    return x * kept.to(x.device, x.dtype) / (1.0 - p)


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


def _without_generator(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A generator of the CPU stays; one of another device is left out."""
    generator = kwargs.get("generator")
    off = generator is not None and generator.device.type != "cpu"
    return {key: value for key, value in kwargs.items() if not (off and key == "generator")}
