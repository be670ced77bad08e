"""SLMRec's objective: the student's blocks imitate the teacher's, and each block learns to predict [arXiv 2405.17890, eqs. 5 to 9].

Teacher (M layers) and student (N layers) are cut into B blocks; h^(k) is the state after the k-th block.

    D_cos  = mean over k of cos(h_t^(k), h_s^(k))                      weight lambda_1 on 1 - D_cos
    D_norm = mean over k of |h_t^(k) - h_s^(k)|^2                       weight lambda_2
    L_ms   = mean over k < B of CE(y, prediction from W_k h_s^(k))      weight lambda_3

``form: released`` is what the authors' code computes instead: sums over k in place of the means, and the norm not squared. With widths in
the hundreds that makes the norm term smaller by one to two orders of magnitude.

Deviations. The paper compares the states of the last position of one target a user; our students are trained at every position, so the
terms are means over all real positions. Each inner block has a head W_k of its own, as in the released code (the paper's figure draws a
shared one). Inner states are compared before the final norm and the last ones after it, on both sides alike.

Glossary: lambda_1 -> ``cosine_weight``; lambda_2 -> ``norm_weight``; lambda_3 -> ``supervision_weight``; B -> ``n_blocks``; W_a -> ``heads``.
Shapes: N real positions of a batch, D width of the states, E width of the item vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.distillation.configs import SLMRecDistillation, check_blocks
from recbench.errors import UserError

if TYPE_CHECKING:
    from recbench.models.base import Recommender


class BlockStudent(Protocol):
    """What this objective needs of a student: states of equal width after each layer, and a loss over the catalogue for vectors."""

    width: int
    item_width: int

    def hidden_states(self, batch: Batch) -> list[Tensor]: ...

    def catalogue_loss(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """vectors [N, E], targets [N] -> scalar."""


class SLMRecObjective(nn.Module):
    """Adds the three terms to a student's loss. Raises UserError if teacher and student cannot be aligned."""

    def __init__(self, config: SLMRecDistillation, student: BlockStudent, teacher: Recommender) -> None:
        super().__init__()
        if config.form not in ("paper", "released"):
            raise UserError(f"unknown distillation.form '{config.form}'; known: paper, released")
        self.config = config
        self.student_steps = block_ends(student, config.n_blocks, "student")
        self.teacher_steps = block_ends(teacher, config.n_blocks, "teacher")
        if getattr(teacher, "width", None) != student.width:
            raise UserError(
                f"the teacher's states are {getattr(teacher, 'width', '?')} wide and the student's {student.width}; distillation=slmrec compares "
                "them directly, so both need the same backbone width"
            )
        self.heads = nn.ModuleList(
            nn.Linear(student.width, student.item_width, bias=False) for _ in range(config.n_blocks - 1)
        )

    def terms(
        self, student: BlockStudent, states: list[Tensor], taught: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Weighted terms of a batch. states, taught: per layer [B, L, D] of the student and of the frozen teacher."""
        assert batch.targets is not None
        real, config = batch.mask, self.config
        mine = [states[i][real] for i in self.student_steps]
        theirs = [taught[i][real].detach() for i in self.teacher_steps]
        cosine = torch.stack(
            [1.0 - F.cosine_similarity(s, t, dim=-1).mean() for s, t in zip(mine, theirs, strict=True)]
        )
        square = [(s - t).square().sum(-1) for s, t in zip(mine, theirs, strict=True)]
        paper = config.form == "paper"
        norm = torch.stack([(d if paper else d.clamp_min(1e-12).sqrt()).mean() for d in square])
        reduce = torch.mean if paper else torch.sum
        terms = {"cosine": config.cosine_weight * reduce(cosine), "norm": config.norm_weight * reduce(norm)}
        if self.heads and config.supervision_weight:
            targets = batch.targets[real]
            losses = [student.catalogue_loss(h(s), targets) for h, s in zip(self.heads, mine[:-1], strict=True)]
            terms["supervision"] = config.supervision_weight * reduce(torch.stack(losses))
        return terms


def block_ends(model: object, n_blocks: int, role: str) -> list[int]:
    """Indices into ``hidden_states`` at which the blocks of a model end. Raises UserError where B does not divide the depth."""
    depth = getattr(getattr(model, "config", None), "n_layers", None)
    if depth is None:
        raise UserError(
            f"the {role} {type(model).__name__} has no layers to cut into blocks; distillation=slmrec needs them"
        )
    check_blocks(n_blocks, depth, role)
    return [depth // n_blocks * k for k in range(1, n_blocks + 1)]
