"""Sparse tensors from the first step on: a mask over each, of which the smallest weights are dropped and others grown now and then [DSL, WWW 2024].

    every ``every`` steps, of a tensor with z non-zeros:  c = ratio(t) z;  drop the c smallest |w|;  grow the c zeros of largest |gradient|, at 0
    ratio falls by a cosine from ``update_ratio`` to 0.005 over all steps of the training; after the share ``stop`` of them the masks stay

Counts are exact (ties by place). A dropped or grown weight loses Adam's moments, which in the released code act on when it regrows.
Nothing is saved by it in time or memory here: products and gradients are dense. The figures say how many bytes a sparse format would take.
``update_ratio: 0`` is a static random mask, the control.
"""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from recbench.config.settings import SparsityConfig
from recbench.core.errors import UserError
from recbench.models.base import Recommender
from recbench.nn.codes.item_vectors import ItemVectors

LAST_RATIO = 0.005
#: Bytes of a value and of its column in a compressed row.
BYTES = 8


def sparse_tensors(model: Recommender, tensors: str) -> dict[str, nn.Parameter]:
    """The tensors that are kept sparse, by name: those of items, or all with at least two axes. Raises UserError where there is none."""
    owners = {f"{path}." for path, module in model.named_modules() if isinstance(module, nn.Embedding | ItemVectors)}
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.dim() >= 2
        and (tensors == "all" or (any(name.startswith(owner) for owner in owners) and "position" not in name))
    }
    if not found:
        raise UserError(f"the model '{model.config.name}' has no table of items that training.sparsity could thin out")
    return found


class Sparsity(Callback):
    """Keeps the masks: after every step masked weights are exactly 0. Part of the checkpoint that a training resumes from."""

    def __init__(self, config: SparsityConfig, model: Recommender, seed: int, total_steps: int) -> None:
        self.config, self.total_steps = config, max(total_steps, 1)
        self.tensors = sparse_tensors(model, config.tensors)
        generator = torch.Generator().manual_seed(seed)
        self.masks = {name: self._drawn(p, generator) for name, p in self.tensors.items()}
        self.steps = 0
        self.apply()

    def _drawn(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        """A random mask of exactly the wanted number of ones."""
        wanted = max(1, round(self.config.density * tensor.numel()))
        mask = torch.zeros(tensor.numel(), dtype=torch.bool)
        mask[torch.randperm(tensor.numel(), generator=generator)[:wanted]] = True
        return mask.view(tensor.shape)

    def state_dict(self) -> dict[str, Any]:
        return {"masks": {name: mask.cpu() for name, mask in self.masks.items()}, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks, self.steps = dict(state["masks"]), int(state["steps"])

    @torch.no_grad()
    def apply(self) -> None:
        """Set the masked weights to 0."""
        for name, tensor in self.tensors.items():
            tensor.mul_(self.masks[name])

    def on_train_start(self, *args: Any) -> None:
        """The model is on its device by now, and a resumed training has read its weights and masks; each step then ends with the masks."""
        self.masks = {name: self.masks[name].to(tensor.device) for name, tensor in self.tensors.items()}
        self.apply()

    def on_train_batch_end(self, trainer: pl.Trainer, learner: pl.LightningModule, *args: Any) -> None:
        self.steps += 1
        if self.steps % self.config.every == 0 and self.steps <= self.config.stop * self.total_steps:
            self.update(trainer.optimizers[0])
        self.apply()

    def ratio(self) -> float:
        """The share of the non-zeros that is exchanged now."""
        if not self.config.update_ratio:
            return 0.0
        fallen = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.steps / self.total_steps)))
        return LAST_RATIO + (self.config.update_ratio - LAST_RATIO) * fallen

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the smallest weights, grow where the gradient of the last step is largest."""
        for name, tensor in self.tensors.items():
            mask, gradient = self.masks[name].view(-1), tensor.grad
            count = int(self.ratio() * int(mask.sum()))
            if not count or gradient is None:
                continue
            size = tensor.view(-1).abs().masked_fill(~mask, torch.inf)
            dropped = size.argsort(stable=True)[:count]
            mask = mask.clone()
            mask[dropped] = False
            wish = gradient.reshape(-1).abs().masked_fill(mask, -1.0)
            grown = wish.argsort(descending=True, stable=True)[:count]
            mask[grown] = True
            changed = torch.cat([dropped, grown])
            tensor.view(-1)[changed] = 0.0
            for part in ("exp_avg", "exp_avg_sq"):
                if part in (state := optimizer.state.get(tensor, {})):
                    state[part].view(-1)[changed] = 0.0
            self.masks[name] = mask.view(tensor.shape)

    def figures(self) -> dict[str, float]:
        """Non-zeros of the sparse tensors, and the bytes that values and columns would take."""
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        return {"sparsity/nonzeros": kept, "sparsity/bytes_if_stored_sparse": BYTES * kept}
