"""Features: a learned projection of the student's states is to equal the teacher's [FitNets, Romero et al., ICLR 2015, eq. 3].

    L = weight * mean over k of   mean over positions |P_k h_s^(k) - h_t^(k)|^2  /  mean over positions |h_t^(k)|^2

P_k is a linear map with bias from the student's width to the teacher's, so any model with hidden states can teach any other. ``layers: last``
compares the states after the last layer (one P), ``layers: blocks`` those after each of B blocks (B of them; raw inner states).

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
from recbench.models.base import SequenceModel
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.blocks import block_ends, read_states
from recbench.objectives.distillation.configs import FeaturesDistillation


@register("features")
class FeaturesObjective(Objective):
    """See the head of this file. Raises UserError where the blocks do not divide a depth."""

    def __init__(self, config: FeaturesDistillation, student: SequenceModel, teacher: SequenceModel) -> None:
        super().__init__()
        self.weight = config.weight
        if config.layers == "blocks":
            self.student_steps = block_ends(student, config.n_blocks, "student", config.name)
            self.teacher_steps = block_ends(teacher, config.n_blocks, "teacher", config.name)
        else:
            self.student_steps = self.teacher_steps = [-1]
        self.projections = nn.ModuleList(nn.Linear(student.width, teacher.width) for _ in self.student_steps)

    def reading(self) -> dict[str, Any]:
        return {"kind": "states", "steps": self.teacher_steps, "normed": False}

    def read(self, teacher: SequenceModel, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        return read_states(teacher, batch, self.teacher_steps, normed=False)

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        real, distances = batch.mask, []
        for projection, mine, theirs in zip(self.projections, self.student_steps, self.teacher_steps, strict=True):
            teacher_states = taught[f"state_{theirs}"].detach()
            scale = teacher_states.square().sum(-1).mean().clamp_min(1e-12)
            distances.append((projection(states[mine][real]) - teacher_states).square().sum(-1).mean() / scale)
        return {"features": self.weight * torch.stack(distances).mean()}
