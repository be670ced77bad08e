"""Features: a learned projection of the student's states is to equal the teacher's [FitNets, Romero et al., ICLR 2015, eq. 3].

    L = weight * mean over k of   mean over positions |P_k h_s^(k) - h_t^(k)|^2  /  mean over positions |h_t^(k)|^2

P_k is a linear map with bias from the student's width to the teacher's, so any model with hidden states can teach any other. ``layers: last``
compares the states after the last layer (one P), ``layers: blocks`` those after each of B blocks (B of them; raw inner states), and
``at: query`` in place of the last states what both models multiply with their item vectors.

Two published distillations are values of these keys. LEADER [arXiv 2402.02803]: a language model teaches a small sequence model by its last
state, ``normalise: none``, the mean over the teacher's width; its weight is 0.4. LLM-SRec [KDD 2025, arXiv 2502.13909]: the language model is
the student and a sequence model its teacher, ``at: query`` with ``teacher: {model: sasrec}``, so that it learns to read order; its uniformity
terms are not here.

Deviations. FitNets pretrains a lower half of the student on one middle layer before the student learns its task; here both are learned
together. Its distance is not scaled; divided by the teacher's own mean squared norm in the batch it is 1 for a student that says nothing
and 0 for one that says all, whatever the widths, so one weight suits all pairs of models. The projections exist in training only.

Shapes: N real positions of a batch, D_s and D_t widths of the states of student and teacher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.blocks import block_ends, read_states
from recbench.objectives.distillation.configs import FeaturesDistillation
from recbench.objectives.distillation.scoring import final_queries


@register("features")
class FeaturesObjective(Objective):
    """See the head of this file. Raises UserError where the blocks do not divide a depth."""

    def __init__(self, config: FeaturesDistillation, student: SequenceModel, teacher: SequenceModel) -> None:
        super().__init__()
        self.weight, self.at, self.normalise = config.weight, config.at, config.normalise
        if config.layers == "blocks":
            self.student_steps = block_ends(student, config.n_blocks, "student", config.name)
            self.teacher_steps = block_ends(teacher, config.n_blocks, "teacher", config.name)
        else:
            self.student_steps = self.teacher_steps = [-1]
        mine, theirs = (m.item_vectors().shape[1] if self.at == "query" else m.width for m in (student, teacher))
        self.projections = nn.ModuleList(nn.Linear(mine, theirs) for _ in self.student_steps)

    def reading(self) -> dict[str, Any]:
        if self.at == "query":
            return {"kind": "query"}
        return {"kind": "states", "steps": self.teacher_steps, "normed": False}

    def read(self, teacher: SequenceModel, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        if self.at == "query":
            return {"query": final_queries(teacher, batch)}
        return read_states(teacher, batch, self.teacher_steps, normed=False)

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        real, distances = batch.mask, []
        for projection, mine, theirs in zip(self.projections, self.student_steps, self.teacher_steps, strict=True):
            wanted = taught["query" if self.at == "query" else f"state_{theirs}"].detach()
            own = states[mine][real]
            own = student.queries(own) if self.at == "query" else own
            scale = wanted.square().sum(-1).mean().clamp_min(1e-12) if self.normalise == "teacher" else wanted.shape[-1]
            distances.append((projection(own) - wanted).square().sum(-1).mean() / scale)
        return {"features": self.weight * torch.stack(distances).mean()}
