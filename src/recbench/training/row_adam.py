"""AdamW for models most of whose parameters are rows of a table of which a step looks up few.

With a dense gradient a step reads and writes the whole table and both of its moments: at a million items of width 64 about two gigabytes,
whatever the batch. Where the gradient is sparse, only the rows in it are touched, so that a step costs what its batch costs.

That is another optimiser, not the same one faster: Adam moves a row on by its momentum in steps that do not look it up, and lets both
moments decay; here such a row stands still, and its moments wait (the "lazy" Adam of torch.optim.SparseAdam and of TensorFlow Addons). For
rows that every step looks up, the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbench.nn.optimizers import uncompiled


class RowAdam(uncompiled(torch.optim.AdamW)):  # type: ignore[misc]
    """AdamW that takes sparse gradients too: of a table [V, D] only the rows of the gradient move.

    Weight decay acts on the rows that move. A dense gradient is treated as AdamW treats it, so a parameter may have one kind at one step and
    the other at the next.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = [
            (p, p.grad, group)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None and p.grad.is_sparse
        ]
        for parameter, _, _ in sparse:
            parameter.grad = None
        super().step()
        for parameter, gradient, group in sparse:
            parameter.grad = gradient
            self._move_rows(parameter, gradient.coalesce(), group)
        return loss

    @torch.no_grad()
    def _move_rows(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """One step of the rows in ``gradient``, a coalesced sparse tensor [V, D] with one sparse dimension."""
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        steps, lr = float(state["step"]), float(group["lr"])
        beta1, beta2 = group["betas"]
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        size = square.div_(1 - beta2**steps).sqrt_().add_(group["eps"])
        moved = table[rows].mul_(1 - lr * group["weight_decay"]).addcdiv_(mean, size, value=-lr / (1 - beta1**steps))
        table.index_copy_(0, rows, moved)


def look_up_sparsely(model: torch.nn.Module, rows: int) -> None:
    """Have every embedding table of ``rows`` rows give a sparse gradient where it is looked up."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == rows:
            module.sparse = True
