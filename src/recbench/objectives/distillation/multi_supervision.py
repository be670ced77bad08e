"""Multi-supervision alone: each block of the student learns to predict, and nobody teaches [arXiv 2405.17890, eq. 9].

    L_ms = mean over k < B of CE(y, prediction from W_k h_s^(k)),  weight lambda_3

The third term of SLMRec's objective without the first two. Its reviewers asked for it and it was not published: what a distilled student
gains over this one is what the teacher is worth. The same deviations as in ``slmrec.py`` hold: all real positions, raw inner states.

Glossary: lambda_3 -> ``supervision_weight``; B -> ``n_blocks``; W_k -> ``heads``. Shapes: N real positions of a batch, D width of the states.
"""

from __future__ import annotations

from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.blocks import AuxiliaryHeads, block_ends
from recbench.objectives.distillation.configs import MultiSupervision


@register("multi_supervision")
class MultiSupervisionObjective(Objective):
    """See the head of this file. Raises UserError where the blocks do not divide the depth."""

    def __init__(self, config: MultiSupervision, student: SequenceModel, teacher: None = None) -> None:
        super().__init__()
        self.weight = config.supervision_weight
        self.inner_steps = block_ends(student, config.n_blocks, "student", config.name)[:-1]
        self.heads = AuxiliaryHeads(student, len(self.inner_steps), config.heads == "shared")

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        assert batch.targets is not None
        real = batch.mask
        inner = [states[step][real] for step in self.inner_steps]
        return {"supervision": self.weight * self.heads.losses(student, inner, batch.targets[real]).mean()}
