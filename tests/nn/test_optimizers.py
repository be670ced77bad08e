"""Optimizers that leave torch's compiler alone move as torch's own do."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.optimizers import uncompiled
from recbench.training.row_adam import RowAdam

KINDS = [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, RowAdam]


def moved(kind, steps: int, state=None, start=None):
    """Two parameters after some steps from ``start``, with gradients of their own for each step, and the optimizer."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn(shape, generator=generator) for shape in ((5, 3), (4,))]
    parameters = [torch.nn.Parameter(value.clone()) for value in start or drawn]
    optimizer = kind(parameters, lr=0.1, weight_decay=0.01, fused=True)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p**2 * torch.randn(p.shape, generator=generator)).sum() for p in parameters).backward()
        optimizer.step()
    return [p.detach() for p in parameters], optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_states_are_those_of_torch_to_the_bit(kind):
    ours, optimizer = moved(uncompiled(kind), 4)
    torchs, other = moved(kind, 4)
    assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))
    assert isinstance(optimizer, kind)
    assert str(optimizer.state_dict()) == str(other.state_dict())
    # and from what either has stored
    on, _ = moved(uncompiled(kind), 2, state=other.state_dict(), start=torchs)
    as_torch, _ = moved(kind, 2, state=optimizer.state_dict(), start=ours)
    assert all(torch.equal(a, b) for a, b in zip(on, as_torch, strict=True))


def test_a_step_keeps_no_graph_and_calls_hooks_and_closures():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = uncompiled(torch.optim.AdamW)([parameter], lr=0.1)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(torch.is_grad_enabled()))

    def closure():
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert called == [True]
    assert parameter.grad_fn is None
    assert parameter.detach().lt(1).all()
