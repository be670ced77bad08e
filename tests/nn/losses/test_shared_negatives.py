"""The softmax among shared negatives against the plain formula and what autograd makes of it."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.losses.shared_negatives import shared_softmax


@pytest.fixture
def problem():
    """(hidden, positives [7, 5], negatives [4, 5], targets [7], drawn [4]); two targets are drawn, one of them twice."""
    generator = torch.Generator().manual_seed(3)
    hidden, positives, negatives = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (7, 7, 4))
    return hidden, positives, negatives, torch.tensor([3, 9, 4, 1, 6, 9, 2]), torch.tensor([9, 8, 4, 9])


def plain(hidden, positives, negatives, targets, drawn, log_expected, weights):
    scores = hidden @ negatives.T - (0 if log_expected is None else log_expected)
    scores = scores.masked_fill(drawn == targets[:, None], -torch.inf)
    positive = (hidden * positives).sum(1)
    losses = torch.cat([positive[:, None], scores], 1).logsumexp(1) - positive
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_formula(problem, corrected, weighted):
    log_expected = torch.tensor([-1.0, 0.5, -2.0, 0.0], dtype=torch.float64) if corrected else None
    weights = torch.arange(7, dtype=torch.float64) if weighted else None
    found = []
    for loss in (shared_softmax, plain):
        tensors = [part.clone().requires_grad_() for part in problem[:3]]
        value = loss(*tensors, *problem[3:], log_expected, weights)
        (0.3 * value).backward()
        found.append([value.detach(), *(part.grad for part in tensors)])
    for own, reference in zip(*found, strict=True):
        torch.testing.assert_close(own, reference)


def test_a_position_whose_every_negative_is_its_target_teaches_nothing(problem):
    hidden = problem[0].clone().requires_grad_()
    loss = shared_softmax(hidden, *problem[1:3], torch.full((7,), 8), torch.full((4,), 8))
    loss.backward()
    assert loss.item() == 0.0
    assert not hidden.grad.any()


def test_mixed_precision_stays_within_its_rounding(problem):
    narrow = [part.float() for part in problem[:3]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = shared_softmax(*narrow, *problem[3:])
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(plain(*problem, None, None).item(), rel=0.02)


def test_gradients_are_taken_once(problem):
    hidden = problem[0].clone().requires_grad_()
    loss = shared_softmax(hidden, *problem[1:])
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()
