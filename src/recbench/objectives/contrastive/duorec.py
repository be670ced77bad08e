"""DuoRec: a history, read a second time under another dropout, attracts another history with the same next item [Qiu et al., WSDM 2022, eq. 13].

    L = L_rec + weight * InfoNCE(h'(s), h(s+)),     s+ drawn anew at each step from the training histories with the target of s

This is the form that the released code calls ``us_x``, with which its tables were made; nothing is augmented but by dropout, so a model without
dropout compares plain states.

Glossary (paper -> here): lambda (code: lmd_sem) -> ``weight``; tau -> ``temperature``; h' -> a second pass over the batch; s+ -> ``SameTarget``.
Deviations: the histories compared are whole windows, while s+ may be any prefix of any training window (``n_contrasts=256``: both are prefixes,
drawn over all users, as in the released batches); the encoder is ours (pre-norm), not
the released post-norm one with GELU; see ``base.py`` for both. Rows of a batch that share a target are negatives of each other, and a row whose
target nobody else has is its own s+, both as in the released code.
"""

from __future__ import annotations

from torch import Tensor

from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import DuoRecConfig
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.base import Auxiliary, register, representations_of
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.same_target import SameTarget


@register("duorec")
class DuoRec(Auxiliary):
    """See the head of this file."""

    #: Histories and the others with their targets, in groups of like length, and where each row stands among them.
    own: tuple[list[Batch], Tensor | None]
    others: tuple[list[Batch], Tensor | None]

    def __init__(self, config: DuoRecConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        self.same_target = SameTarget(dataset)

    def draw(self, batch: Batch) -> None:
        device = batch.items.device
        if self.config.n_contrasts:
            numbers = self.same_target.some(self.config.n_contrasts)
            self.own = self.same_target.grouped(numbers, device)
        else:
            assert batch.windows is not None, "only batches of training windows have histories with the same target"
            numbers = self.same_target.last_of(batch.windows)
            self.own = [batch], None
        self.others = self.same_target.grouped(self.same_target.partners(numbers), device)

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        own, other = (representations_of(model, *part) for part in (self.own, self.others))
        return {"duorec": self.config.weight * info_nce(own, other, self.config.temperature)}
