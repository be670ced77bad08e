"""SLMRec's objective: the student's blocks imitate the teacher's, and each block learns to predict [arXiv 2405.17890, eqs. 5 to 9].

Teacher (M layers) and student (N layers) are cut into B blocks; h^(k) is the state after the k-th block.

    D_cos  = mean over k of cos(h_t^(k), h_s^(k))                      weight lambda_1 on 1 - D_cos
    D_norm = mean over k of |h_t^(k) - h_s^(k)|^2                       weight lambda_2
    L_ms   = mean over k < B of CE(y, prediction from W_k h_s^(k))      weight lambda_3

``form: released`` is what the authors' code computes instead: sums over k in place of the means, and the norm not squared. With widths in
the hundreds that makes the norm term smaller by one to two orders of magnitude. A weight of 0 switches its term off: it is not computed.

Deviations. The paper compares the states of the last position of one target a user; our students are trained at every position, so the
terms are means over all real positions. By default each inner block has a head W_k of its own, as in the released code; ``heads: shared``
is the one adapter that the paper's figure draws. By default inner states are compared before the final norm and the last ones after it, on
both sides alike, as in the released code; ``inner_states: normed`` lays each model's own final norm over the inner states that are
compared as well. The heads read the raw states either way.

Glossary: lambda_1 -> ``cosine_weight``; lambda_2 -> ``norm_weight``; lambda_3 -> ``supervision_weight``; B -> ``n_blocks``; W_a -> ``heads``.
Shapes: N real positions of a batch, D width of the states, E width of the item vectors.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.base import Objective, register
from recbench.objectives.distillation.blocks import AuxiliaryHeads, block_ends, read_states, step_state
from recbench.objectives.distillation.configs import SLMRecDistillation, check_widths


@register("slmrec")
class SLMRecObjective(Objective):
    """Adds up to three terms to a student's loss. Raises UserError if teacher and student cannot be aligned."""

    def __init__(self, config: SLMRecDistillation, student: SequenceModel, teacher: SequenceModel) -> None:
        super().__init__()
        self.config = config
        self.student_steps = block_ends(student, config.n_blocks, "student", config.name)
        self.teacher_steps = block_ends(teacher, config.n_blocks, "teacher", config.name)
        check_widths(student.width, teacher.width)
        self.normed = config.inner_states == "normed"
        n_inner = config.n_blocks - 1 if config.supervision_weight else 0
        self.heads = AuxiliaryHeads(student, n_inner, config.heads == "shared") if n_inner else None

    def reading(self) -> dict[str, Any]:
        return {"kind": "states", "steps": self.teacher_steps, "normed": self.normed}

    def read(self, teacher: SequenceModel, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        return read_states(teacher, batch, self.teacher_steps, self.normed)

    def terms(
        self, student: SequenceModel, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        assert batch.targets is not None
        real, config = batch.mask, self.config
        paper = config.form == "paper"
        reduce = torch.mean if paper else torch.sum
        mine = [step_state(student, states, step, self.normed)[real] for step in self.student_steps]
        theirs = [taught[f"state_{step}"].detach() for step in self.teacher_steps]
        pairs = list(zip(mine, theirs, strict=True))
        terms = {}
        if config.cosine_weight:
            cosine = [1.0 - F.cosine_similarity(s, t, dim=-1).mean() for s, t in pairs]
            terms["cosine"] = config.cosine_weight * reduce(torch.stack(cosine))
        if config.norm_weight:
            square = [(s - t).square().sum(-1) for s, t in pairs]
            norm = [(d if paper else d.clamp_min(1e-12).sqrt()).mean() for d in square]
            terms["norm"] = config.norm_weight * reduce(torch.stack(norm))
        if self.heads is not None:
            inner = [states[step][real] for step in self.student_steps[:-1]]
            losses = self.heads.losses(student, inner, batch.targets[real])
            terms["supervision"] = config.supervision_weight * reduce(losses)
        return terms
