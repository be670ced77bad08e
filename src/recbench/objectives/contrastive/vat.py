"""VAT: the loss once more over vectors that are moved along its gradient, further for windows that the model fits well [vulnerability-aware
adversarial training, SIGIR 2024]; with ``adaptive: false`` it is APR, adversarial personalised ranking [He et al., SIGIR 2018].

    e~ = e + eps g_w grad / |grad|            of each vector that the window reads, and of the vectors of its targets
    g_w = 2 sigma( mean of l / l_w - 1 )       l_w: mean cross-entropy of the window's targets; a fitted window gets up to 2
    L = L_rec + weight * L_rec(e~)

Where this deviates:
- ``eps`` is a share of the mean length of an item vector, so that it means the same at the first step and at the last.
- l_w is a mean over a window's targets. In the released code it is the sum over a user's draws, so that "vulnerable" means "drawn seldom".
- A target's vector moves by the mean strength of the windows that aim at it. l_w is measured by the exact softmax, whatever the loss.
- The move is of the model's own vectors at a step; user vectors are none here.

``passes: shared`` takes the gradient from the pass that trains the model, as the paper writes it: two passes a step. ``separate`` asks for it in a
pass of its own, with other dropout: three, and what a student with a teacher gets.

Shapes: B windows, L positions, D width of the input vectors, V = n_items + 1, E width of the item vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import VATConfig
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses.row_losses import losses_of_rows
from recbench.objectives.contrastive.base import Auxiliary, register
from recbench.objectives.contrastive.cl4srec import input_table


@register("vat")
class VAT(Auxiliary):
    """See the head of this file. Raises UserError for a model whose input vectors are not looked up event by event."""

    batch: Batch
    _moves: tuple[Tensor, Tensor] | None = None

    def __init__(self, config: VATConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        input_table(model, "vat")

    def draw(self, batch: Batch) -> None:
        self.batch = batch

    def own_loss(self, model: SequenceModel, batch: Batch) -> Tensor | None:
        self._moves = None
        if self.config.passes != "shared" or not (self.config.weight and self.config.eps):
            return None
        kept: list[Tensor] = []
        items = model.item_vectors()
        # Apart from what is read, where both are one table.
        items = items.view_as(items) if items.requires_grad else items.detach().requires_grad_(True)
        with leaves(model, kept, items, detached=False):
            states = model.hidden_states(batch)
            loss = model.loss_from_states(states, batch)
        weights = [p for p in model.parameters() if p.requires_grad]
        read, scored, *others = torch.autograd.grad(loss, [kept[0], items, *weights], allow_unused=True)
        assert read is not None
        assert scored is not None
        self._moves = self._moved_by(model, batch, states[-1].detach(), items.detach(), read, scored)
        return TakenGradients.apply(loss.detach(), others, *weights)

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        batch = self.batch
        if not self.config.weight:
            return {}
        if not self.config.eps:
            return {"vat": self.config.weight * model.training_loss(batch)}
        moves, self._moves = self._moves or self.moves(model, batch), None
        with moved(model, *moves):
            return {"vat": self.config.weight * model.training_loss(batch)}

    def moves(self, model: SequenceModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is added to the vectors that are read [B, L, D] and to the item vectors [V, E], the latter 0 but for targets."""
        assert batch.targets is not None
        items = model.item_vectors().detach().requires_grad_(True)
        kept: list[Tensor] = []
        with leaves(model, kept, items):
            states = model.hidden_states(batch)
            loss = model.loss_from_states(states, batch)
            read, scored = torch.autograd.grad(loss, (kept[0], items))
        return self._moved_by(model, batch, states[-1].detach(), items.detach(), read, scored)

    def _moved_by(
        self, model: SequenceModel, batch: Batch, states: Tensor, items: Tensor, read: Tensor, scored: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The moves along gradients: states [B, L, E], items [V, E], read [B, L, D], scored [V, E]."""
        assert batch.targets is not None
        if self.config.direction == "random":
            read, scored = torch.randn_like(read) * batch.mask[..., None], torch.randn_like(scored)
        strength = self.strengths(model, states, batch, items)
        of_item = torch.zeros(len(items), device=items.device)
        times = torch.zeros_like(of_item)
        targets, windows = batch.targets[batch.mask], batch.mask.nonzero()[:, 0]
        of_item.index_add_(0, targets, strength[windows])
        times.index_add_(0, targets, torch.ones_like(strength[windows]))
        of_item = of_item / times.clamp(min=1.0)
        sizes = [self.config.eps * float(t[1:].detach().norm(dim=1).mean()) for t in (input_table(model).weight, items)]
        return (
            sizes[0] * strength[:, None, None] * F.normalize(read, dim=-1) * batch.mask[..., None],
            sizes[1] * of_item[:, None] * F.normalize(scored, dim=-1),
        )

    @torch.no_grad()
    def strengths(self, model: SequenceModel, states: Tensor, batch: Batch, items: Tensor) -> Tensor:
        """g_w [B]; all 1 if not adaptive."""
        if not self.config.adaptive:
            return torch.ones(len(batch), device=states.device)
        assert batch.targets is not None
        queries, targets = model.queries(states[batch.mask]), batch.targets[batch.mask]
        each = losses_of_rows(queries, items, targets, model.loss.bfloat16_logits)
        losses = torch.zeros(len(batch), device=states.device)
        losses.index_add_(0, batch.mask.nonzero()[:, 0], each)
        losses = losses / batch.lengths
        return 2.0 * torch.sigmoid(losses.mean() / losses.clamp(min=1e-6) - 1.0)


class TakenGradients(torch.autograd.Function):
    """A loss [] whose gradients by some weights are known already: they are given to the weights in the backward pass, once."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, grads: list[Tensor | None], *weights: Tensor) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        given, ctx.grads = ctx.grads, None
        return (None, None, *(None if g is None else g * outer[0] for g in given))


@contextlib.contextmanager
def leaves(model: SequenceModel, kept: list[Tensor], items: Tensor, detached: bool = True) -> Iterator[None]:
    """While this lasts, the vectors that the model reads go into ``kept``, without a past if ``detached``, and it scores with ``items`` [V, E]."""

    def keep(_: nn.Module, __: tuple[Any, ...], vectors: Tensor) -> Tensor:
        learns = vectors.requires_grad and not detached
        kept.append(vectors if learns else vectors.detach().requires_grad_(True))
        return kept[-1]

    with _changed(model, keep, lambda: items):
        yield


@contextlib.contextmanager
def moved(model: SequenceModel, read: Tensor, scored: Tensor) -> Iterator[None]:
    """While this lasts, ``read`` [B, L, D] is added to what the model reads, and ``scored`` [V, E] to its item vectors."""
    plain = model.item_vectors
    with _changed(model, lambda _, __, vectors: vectors + read, lambda: plain() + scored):
        yield


@contextlib.contextmanager
def _changed(model: SequenceModel, read: Any, item_vectors: Any) -> Iterator[None]:
    hook = input_table(model).register_forward_hook(read)
    object.__setattr__(model, "item_vectors", item_vectors)
    try:
        yield
    finally:
        object.__delattr__(model, "item_vectors")
        hook.remove()
