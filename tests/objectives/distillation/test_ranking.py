"""The order of the teacher's best items: the likelihood against a plain loop, and which items are the best."""

from __future__ import annotations

import math

import pytest
import torch

from recbench.objectives.distillation.configs import RankingDistillation
from recbench.objectives.distillation.ranking import NEGLIGIBLE, RankingObjective, relaxed_list_loss


def by_hand(wanted, below, real):
    """The formula of the head of ``ranking.py``, one exponential after the other."""
    each = []
    for n in range(len(wanted)):
        likelihood, listed = 0.0, [k for k in range(wanted.shape[1]) if real[n, k]]
        for place, k in enumerate(listed):
            left = sum(math.exp(wanted[n, j]) for j in listed[place:])
            left += sum(math.exp(u) for u in below[n].tolist() if u > NEGLIGIBLE)
            likelihood += math.log(math.exp(wanted[n, k]) / left)
        each.append(-likelihood / max(len(listed), 1))
    return sum(each) / len(each)


@pytest.mark.parametrize("m", [0, 1, 6])
def test_the_loss_is_the_formula_and_its_gradients_are_true(m):
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    below = torch.randn(5, m, generator=generator, dtype=torch.float64)
    real = torch.ones(5, 4, dtype=torch.bool)
    real[1, 2:] = False  # a short list
    if m:
        below[2, 0] = NEGLIGIBLE
        below[3] = NEGLIGIBLE  # nothing was drawn that counts
    below.requires_grad_()
    found = relaxed_list_loss(wanted, below, real)
    assert found.item() == pytest.approx(by_hand(wanted.detach(), below.detach(), real), rel=1e-9)
    assert torch.autograd.gradcheck(lambda w: relaxed_list_loss(w, below.detach(), real), wanted)
    found.backward()
    assert wanted.grad.isfinite().all()
    assert not wanted.grad[1, 2:].any()
    if m:
        assert below.grad.isfinite().all()
        assert not below.grad[3].any()
        assert (below.grad[0] > 0).all()


def test_the_right_order_is_more_likely_than_any_other():
    real = torch.ones(1, 3, dtype=torch.bool)
    losses = {
        order: relaxed_list_loss(torch.tensor([order]), torch.tensor([[-2.0]]), real).item()
        for order in [(3.0, 2.0, 1.0), (3.0, 1.0, 2.0), (1.0, 2.0, 3.0), (2.0, 3.0, 1.0)]
    }
    assert min(losses, key=losses.get) == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("teacher_name", ["slmrec", "sasrec", "markov"])
def test_the_term_is_the_formula_at_every_position(build, build_teacher, batch, by_position, few_values, teacher_name):
    student, teacher = build("sasrec"), build_teacher(teacher_name)
    objective = RankingObjective(RankingDistillation(weight=0.3, top_k=4, n_uninteresting=9), student, teacher)
    with torch.no_grad():
        best = objective.read(teacher, batch)["best"]
        states = student.hidden_states(batch)
        torch.manual_seed(8)
        found = objective.terms(student, states, {"best": best}, batch)["ranking"].item()
    torch.manual_seed(8)
    drawn = torch.randint(1, student.n_items + 1, (9,)).tolist()
    losses = []
    for n, (b, i) in enumerate(by_position(batch)):
        scores = (student.item_vectors() @ states[-1][b, i]).tolist()
        items = best[n].tolist()
        below = [scores[item] for item in drawn if item not in items]
        real = torch.ones(1, 4, dtype=torch.bool)
        losses.append(by_hand(torch.tensor([[scores[item] for item in items]]), torch.tensor([below]), real))
    assert found == pytest.approx(0.3 * sum(losses) / len(losses), rel=1e-4)


def test_a_catalogue_smaller_than_the_list_is_ranked_whole(build, build_teacher, terms_of, batch):
    student, teacher = build("sasrec"), build_teacher("sasrec")
    objective = RankingObjective(RankingDistillation(top_k=1000), student, teacher)
    best = objective.read(teacher, batch)["best"]
    assert best.shape[1] == student.n_items
    assert sorted(best[0].tolist()) == list(range(1, student.n_items + 1))
    assert terms_of(objective, student, teacher, batch)["ranking"].isfinite()
