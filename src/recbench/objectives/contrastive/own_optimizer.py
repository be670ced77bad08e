"""An auxiliary with a part that learns by an optimiser of its own, in steps of its own beside those of the model.

The part is fixed but in its own steps: gradients pass through it on to the model and leave none behind.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from recbench.nn.optimizers import uncompiled
from recbench.objectives.contrastive.base import Auxiliary


class OwnOptimizer(Auxiliary):
    """Adam over one part, whose state is part of this module's: a training that resumes goes on with it."""

    def __init__(self) -> None:
        super().__init__()
        self._optimizer: torch.optim.Optimizer | None = None
        self._stored: dict[str, Any] = {}

    def own(self) -> tuple[nn.Module, float]:
        """(the part, its learning rate)."""
        raise NotImplementedError

    def learn(self, loss: Callable[[], Tensor], steps: int = 1) -> None:
        """Move the part by a loss, which is computed anew for each step."""
        part, _ = self.own()
        part.requires_grad_(True)
        optimizer = self.optimizer()
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        part.requires_grad_(False)

    def optimizer(self) -> torch.optim.Optimizer:
        """Made when it is first asked for: by then the module is on its device."""
        if self._optimizer is None:
            part, lr = self.own()
            self._optimizer = uncompiled(torch.optim.Adam)(part.parameters(), lr=lr)
            if self._stored:
                self._optimizer.load_state_dict(deepcopy(self._stored))  # torch would move on in the given tensors
        return self._optimizer

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state, for the checkpoint that a training resumes from; {} before its first step."""
        return self._stored if self._optimizer is None else self._optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._optimizer, self._stored = None, state
