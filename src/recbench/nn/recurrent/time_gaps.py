"""Time between events, as a sequence model may read it.

Shapes: B rows, L positions.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbench.data.training import TrainingData

logger = logging.getLogger(__name__)


def gaps(timestamps: Tensor) -> Tensor:
    """timestamps [B, L] int64 seconds -> [B, L] int64: seconds since the event before, 0 at the first position.

    Taken between integers: float32 knows today's Unix seconds to the nearest 128 only. At pads it is whatever their timestamps give.
    """
    return torch.diff(timestamps, dim=1, prepend=timestamps[:, :1])


class LogGaps(nn.Module):
    """log(1 + seconds since the event before), standardised on the training data; 0, the mean, at pads and where no event is before.

    Without training data it standardises nothing: a model that is built for stored weights takes mean and deviation from them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, train: TrainingData | None) -> None:
        super().__init__()
        mean, deviation = (0.0, 1.0) if train is None else log_gap_statistics(train)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    def forward(self, timestamps: Tensor, mask: Tensor) -> Tensor:
        """timestamps [B, L] int64, mask [B, L] bool (False at pads) -> [B, L] float32."""
        value = (gaps(timestamps).clamp_min(0).to(self.mean.dtype).log1p() - self.mean) / self.deviation
        known = mask.clone()
        known[:, 0] = False
        return value.masked_fill(~known, 0.0)


def training_gaps(train: TrainingData) -> np.ndarray:
    """[G] int64: seconds between consecutive training events of a user."""
    user, _, timestamp = train.flat()
    return np.diff(timestamp)[np.diff(user) == 0]


def log_gap_statistics(train: TrainingData) -> tuple[float, float]:
    """(mean, deviation) of log(1 + gap) over consecutive training events of a user; (0, 1) if there are none, deviation 1 if all are equal."""
    gap = training_gaps(train)
    if len(gap) == 0:
        return 0.0, 1.0
    logs = np.log1p(np.maximum(gap, 0).astype(np.float64))
    return float(logs.mean()), float(logs.std()) or 1.0


def warn_of_equal_gaps(model: str, train: TrainingData) -> None:
    """Say, once for a model and its data, that a time path has nothing to learn from because all gaps of the training events are equal."""
    gap = training_gaps(train)
    if len(gap) == 0 or gap.min() == gap.max():
        _warn_once(
            f"{train.data.folder.name}: the gaps between training events are all equal, so the time path of the model '{model}' has "
            "nothing to learn from and degenerates to that of a model without time"
        )


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)
