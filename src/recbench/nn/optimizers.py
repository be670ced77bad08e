"""torch's optimizers without their marks for torch's compiler, which import it at the first step (``quick_import`` says what that costs)."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)

#: What torch hides from the compiler, beside ``step``, of which it turns gradients off as well.
HIDDEN = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def uncompiled(kind: type[Kind]) -> type[Kind]:
    """The same optimizer, for steps that are not compiled and not differentiated: to the bit what ``kind`` computes."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in HIDDEN}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})
