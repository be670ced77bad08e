"""Models that are computed from the training data in one go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from recbench.data.training import TrainingData
from recbench.models.base import ModelContext, Recommender


class ClosedForm(Recommender):
    """A model that is computed from the training data in one go. All it learns lives in buffers set by ``set_state``."""

    trains_by_gradient = False
    uses_seed = False
    #: Names of the buffers; they are empty until ``fit_to`` or a checkpoint fills them, whatever their shapes.
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        for name in self.state_names:
            self.register_buffer(name, torch.empty(0))

    def fit_to(self, train: TrainingData) -> None:
        """Compute the state from the training events."""
        raise NotImplementedError

    def set_state(self, name: str, value: Tensor) -> None:
        if name not in self.state_names:
            raise KeyError(f"{name} is not among the state names of {type(self).__name__}")
        self.register_buffer(name, value)

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        missing = set(self.state_names) ^ set(state)
        if missing:
            raise RuntimeError(f"the checkpoint of {type(self).__name__} does not fit: {sorted(missing)}")
        for name, value in state.items():
            self.set_state(name, value)
