"""Models cut into blocks of layers, and the heads by which inner blocks predict; shared by several objectives.

Shapes: B blocks, N real positions of a batch, D width of the states, E width of the item vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.distillation.checks import check_blocks


def block_ends(model: Recommender, n_blocks: int, role: str, objective: str) -> list[int]:
    """Indices into ``hidden_states`` at which the blocks of a model end. Raises UserError where B does not divide the depth."""
    check_blocks(n_blocks, model.config, role, objective)
    return [model.config.n_layers // n_blocks * k for k in range(1, n_blocks + 1)]


def read_states(teacher: SequenceModel, batch: Batch, steps: list[int], normed: bool) -> dict[str, Tensor]:
    """{"state_<step>": [N, D]} of a teacher; with ``normed`` the inner ones as its final norm leaves them."""
    states, real = teacher.hidden_states(batch), batch.mask
    return {f"state_{step}": step_state(teacher, states, step, normed)[real].float() for step in steps}


def step_state(model: SequenceModel, states: list[Tensor], step: int, normed: bool) -> Tensor:
    """The state after a layer [B, L, D]. The last one is after the final norm anyway and is not normed twice."""
    return model.normed(states[step]) if normed and step < len(states) - 1 else states[step]


class AuxiliaryHeads(nn.Module):
    """W_k of each inner block: a linear map without bias from its state [.., D] to a query [.., E] of the student's own items."""

    def __init__(self, student: SequenceModel, n_inner: int, shared: bool) -> None:
        super().__init__()
        self.n_inner = n_inner
        item_width = student.item_vectors().shape[1]
        self.heads = nn.ModuleList(
            nn.Linear(student.width, item_width, bias=False) for _ in range(1 if shared else n_inner)
        )

    def losses(self, student: SequenceModel, inner: list[Tensor], targets: Tensor) -> Tensor:
        """[B - 1] catalogue losses. inner: states of the inner blocks, [N, D] each; targets [N]."""
        chosen = [self.heads[k % len(self.heads)] for k in range(self.n_inner)]
        return torch.stack(
            [student.catalogue_loss(head(state), targets) for head, state in zip(chosen, inner, strict=True)]
        )
