"""Rationale: a history attracts a text that a language model wrote about it [PULSE, ECIR 2026, arXiv 2510.08626, in its simplest form].

    L = L_rec + weight * InfoNCE(P h_u, r_u)     over the rows of a batch that have a text; rows with the same next item are no negatives of each
    other

r_u is the TF-IDF vector of the text (reduced to ``width`` numbers), frozen; P a linear map that is trained and not stored. Nothing is read or
computed for it when the model ranks. Texts come from a file (``recbench.nn.text.generated``, which checks that none knows what comes later), which
``recbench write-texts rationale`` has a language model write.

Glossary (paper -> here): rationale -> a text of ``texts``; tau -> ``temperature``; alignment weight -> ``weight``.
Deviations: one text a history, where the paper weighs several, and the paper's tree search is not built; its own model is a
language model that is tuned by the texts, here any sequence model is. ``shuffle`` gives every history the text of another: the control, which must
not help.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import RationaleConfig
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.base import Auxiliary, register, representations
from recbench.objectives.contrastive.written import in_batch, last_targets, texts_for


@register("rationale")
class Rationale(Auxiliary):
    """See the head of this file. ``vectors`` [K, D] of the texts; ``of_window`` [W] the text of each window, -1 without."""

    vectors: Tensor
    batch: Batch
    chosen: Tensor

    def __init__(self, config: RationaleConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        self.windows, data = dataset.windows, dataset.data
        ends = self.windows.start + self.windows.length
        texts, vectors = texts_for(config, dataset)
        self.register_buffer("vectors", vectors)
        # The latest text whose writer had read no more than the window shows.
        self.of_window = np.full(len(ends), -1, dtype=np.int64)
        order = sorted(range(len(texts)), key=lambda number: texts[number].events)
        read = ends - np.asarray(data.offsets)[self.windows.user]
        by_user: dict[int, list[int]] = {}
        for number in order:
            by_user.setdefault(texts[number].user, []).append(number)
        for window, user in enumerate(self.windows.user.tolist()):
            fitting = [number for number in by_user.get(user, []) if texts[number].events <= read[window]]
            self.of_window[window] = fitting[-1] if fitting else -1
        if not (self.of_window >= 0).any():
            raise UserError(f"{config.texts}: no text belongs to a training window; write texts that read fewer events")
        self.project = nn.Linear(model.width, config.width)

    def draw(self, batch: Batch) -> None:
        assert batch.windows is not None
        self.batch = batch
        self.chosen = torch.from_numpy(self.of_window[batch.windows.numpy()]).to(batch.items.device)

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        states = self.project(representations(model, self.batch))
        has = self.chosen >= 0
        if has.sum() < 2:
            return {"rationale": states.sum() * 0.0}
        targets, chosen = last_targets(self.batch)[has], self.chosen[has]
        alike = (targets[:, None] == targets) | (chosen[:, None] == chosen)
        term = in_batch(states[has], self.vectors[chosen], alike, self.config.temperature)
        return {"rationale": self.config.weight * term}
