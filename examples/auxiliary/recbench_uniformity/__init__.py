"""``model.auxiliary=[uniformity]``: the histories of a batch are spread over the sphere [Wang and Isola, ICML 2020, eq. 9].

    L = L_rec + weight * log mean over pairs (i, j) of exp(-temperature |h_i - h_j|^2),     h of length 1

Shapes: B rows of a batch, D width of the states.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.models import Auxiliary, Batch, PairConfig, SequenceModel, WindowDataset, register_auxiliary


@dataclass
class UniformityConfig(PairConfig):
    """Its keys lie in ``model.auxiliary_keys.uniformity``. ``PairConfig`` brings weight and temperature, and checks them."""

    temperature: float = 2.0


@register_auxiliary("uniformity", UniformityConfig)
class Uniformity(Auxiliary):
    """``draw`` is called once a step, then ``terms``."""

    batch: Batch

    def __init__(self, config: UniformityConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config

    def draw(self, batch: Batch) -> None:
        """Keep the batch; nothing is drawn at random."""
        self.batch = batch

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        """Weighted scalar terms by name; 0 for a batch of one row, which has no pair."""
        histories = torch.nn.functional.normalize(model.last_states(self.batch)[-1], dim=1)  # [B, D]
        if len(histories) < 2:
            return {"uniformity": histories.sum() * 0}
        distances = torch.pdist(histories).square()
        return {"uniformity": self.config.weight * distances.mul(-self.config.temperature).exp().mean().log()}
