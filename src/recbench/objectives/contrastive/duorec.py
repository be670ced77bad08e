"""DuoRec: a history, read a second time under another dropout, attracts another history with the same next item [Qiu et al., WSDM 2022, eq. 13].

    L = L_rec + weight * InfoNCE(h'(s), h(s+)),     s+ drawn anew at each step from the training histories with the target of s

This is the form that the released code calls ``us_x``, with which its tables were made; nothing is augmented but by dropout, so a model without
dropout compares plain states.

Glossary (paper -> here): lambda (code: lmd_sem) -> ``weight``; tau -> ``temperature``; h' -> a second pass over the batch; s+ -> ``SameTarget``.
Deviations: the histories compared are whole windows, while s+ may be any prefix of any training window; the encoder is ours (pre-norm), not
the released post-norm one with GELU; see ``base.py`` for both. Rows of a batch that share a target are negatives of each other, and a row whose
target nobody else has is its own s+, both as in the released code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import DuoRecConfig
from recbench.models.base import SequenceModel
from recbench.objectives.contrastive.base import Auxiliary, register, representations
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.same_target import SameTarget


@register("duorec")
class DuoRec(Auxiliary):
    """See the head of this file."""

    batch: Batch
    #: The other histories in groups of like length, and where each row of the batch stands among them.
    others: list[Batch]
    place: Tensor

    def __init__(self, config: DuoRecConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        self.same_target = SameTarget(dataset)

    def draw(self, batch: Batch) -> None:
        assert batch.windows is not None, "only batches of training windows have histories with the same target"
        self.batch, device = batch, batch.items.device
        numbers = self.same_target.draw(batch.windows)
        groups = groups_of_like_length(self.same_target.lengths(numbers))
        self.others = [self.same_target.histories(numbers[rows]).to(device) for rows in groups]
        self.place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        own = representations(model, self.batch)
        other = torch.cat([representations(model, group) for group in self.others])[self.place]
        return {"duorec": self.config.weight * info_nce(own, other, self.config.temperature)}


def groups_of_like_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Row numbers by length: up to 4 events, up to 16, up to 64 and so on.

    What is drawn is of any length, unlike the rows of a batch. In one piece it would be padded to the longest, which on Beauty makes most
    of the step.
    """
    size = np.ceil(np.log2(np.maximum(lengths, 2)) / 2)
    return [np.flatnonzero(size == each) for each in np.unique(size)]
