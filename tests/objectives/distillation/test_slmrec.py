"""SLMRec's objective: each term against a plain loop, its switches, and which pairs are refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.objectives.distillation.configs import MultiSupervision, SLMRecDistillation
from recbench.objectives.distillation.multi_supervision import MultiSupervisionObjective
from recbench.objectives.distillation.slmrec import SLMRecObjective
from recbench.objectives.distillation.teacher import OnlineLessons
from recbench.training.learner import Learner


@pytest.fixture
def pair(build, build_teacher):
    """pair(n_layers of the student, of the teacher) -> (student, teacher), with different weights."""
    return lambda student_layers=2, teacher_layers=4: (
        build("slmrec", n_layers=student_layers),
        build_teacher("slmrec", n_layers=teacher_layers),
    )


@pytest.mark.parametrize("inner_states", ["raw", "normed"])
@pytest.mark.parametrize("heads", ["separate", "shared"])
@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("n_blocks", [1, 2, 4])
def test_the_terms_are_the_formula(pair, terms_of, batch, by_position, form, n_blocks, heads, inner_states):
    student, teacher = pair(4, 8)
    keys = {"form": form, "heads": heads, "inner_states": inner_states}
    config = SLMRecDistillation(n_blocks=n_blocks, cosine_weight=0.7, norm_weight=0.3, supervision_weight=0.2, **keys)
    torch.manual_seed(3)
    objective = SLMRecObjective(config, student, teacher)
    found = terms_of(objective, student, teacher, batch)
    assert len(list(objective.parameters())) == (n_blocks - 1 if heads == "separate" else min(n_blocks - 1, 1))
    with torch.no_grad():
        mine, theirs = student.hidden_states(batch), teacher.hidden_states(batch)

    def rms(x):  # as transformers' Llama norms, times a weight that is still 1
        return x / x.square().mean().add(1e-6).sqrt()

    cosine, norm, supervision = [], [], []
    for k in range(1, n_blocks + 1):
        angles, distances, losses = [], [], []
        for b, i in by_position(batch):
            raw, t = mine[4 // n_blocks * k][b, i], theirs[8 // n_blocks * k][b, i]
            s = raw
            if inner_states == "normed" and k < n_blocks:
                s, t = rms(s), rms(t)
            angles.append(float(s @ t / (s.norm() * t.norm())))
            distances.append(float((s - t).norm()) ** (2 if form == "paper" else 1))
            if k < n_blocks:
                head = objective.heads.heads[k - 1 if heads == "separate" else 0]
                losses.append(F.cross_entropy((student.item_table @ head(raw))[1:], batch.targets[b, i] - 1).item())
        cosine.append(1 - sum(angles) / len(angles))
        norm.append(sum(distances) / len(distances))
        supervision += [sum(losses) / len(losses)] if losses else []
    over = (lambda values: sum(values) / len(values)) if form == "paper" else sum
    assert found["cosine"].item() == pytest.approx(0.7 * over(cosine), rel=1e-4)
    assert found["norm"].item() == pytest.approx(0.3 * over(norm), rel=1e-4)
    if n_blocks == 1:
        assert "supervision" not in found  # there is no block before the last
    else:
        assert found["supervision"].item() == pytest.approx(0.2 * over(supervision), rel=1e-4)


def test_normed_inner_states_are_other_states(pair, terms_of, batch):
    student, teacher = pair()
    raw, normed = (
        terms_of(
            SLMRecObjective(SLMRecDistillation(n_blocks=2, inner_states=kind), student, teacher),
            student,
            teacher,
            batch,
        )
        for kind in ("raw", "normed")
    )
    assert raw["norm"].item() != pytest.approx(normed["norm"].item(), rel=0.01)


@pytest.mark.parametrize(
    ("off", "left"),
    [
        (["cosine_weight"], {"norm", "supervision"}),
        (["norm_weight"], {"cosine", "supervision"}),
        (["supervision_weight"], {"cosine", "norm"}),
        (["norm_weight", "supervision_weight"], {"cosine"}),
    ],
)
def test_a_weight_of_zero_switches_a_term_off_and_leaves_the_others_as_they_are(pair, terms_of, batch, off, left):
    student, teacher = pair()
    found = []
    for keys in ({}, dict.fromkeys(off, 0.0)):
        torch.manual_seed(3)
        objective = SLMRecObjective(SLMRecDistillation(n_blocks=2, **keys), student, teacher)
        found.append(terms_of(objective, student, teacher, batch))
    assert set(found[1]) == left
    assert all(torch.equal(found[1][name], found[0][name]) for name in left)
    assert bool(list(objective.parameters())) == ("supervision" in left)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_student_equal_to_its_teacher_has_nothing_to_imitate(pair, terms_of, batch, form):
    student, _ = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2, form=form), student, student)
    terms = terms_of(objective, student, student, batch)
    assert terms["cosine"].item() == pytest.approx(0, abs=1e-6)
    assert terms["norm"].item() == pytest.approx(0, abs=1e-6)
    (terms["cosine"] + terms["norm"]).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_multi_supervision_is_the_third_term_alone(pair, terms_of, batch):
    student, teacher = pair(4, 8)
    torch.manual_seed(3)
    whole = SLMRecObjective(SLMRecDistillation(n_blocks=4, supervision_weight=0.4), student, teacher)
    torch.manual_seed(3)
    alone = MultiSupervisionObjective(MultiSupervision(n_blocks=4, supervision_weight=0.4), student)
    expected = terms_of(whole, student, teacher, batch)["supervision"]
    found = alone.terms(student, student.hidden_states(batch), {}, batch)
    assert set(found) == {"supervision"}
    assert torch.equal(found["supervision"], expected)


def test_a_shared_head_hears_of_every_inner_block(pair, batch):
    student, _ = pair(4, 8)
    objective = MultiSupervisionObjective(MultiSupervision(n_blocks=4, heads="shared"), student)
    (head,) = objective.parameters()
    states = [state.detach() for state in student.hidden_states(batch)]
    gradients = []
    for silenced in (None, 1, 2, 3):
        given = [torch.zeros_like(s) if i == silenced else s for i, s in enumerate(states)]
        gradients.append(torch.autograd.grad(objective.terms(student, given, {}, batch)["supervision"], head)[0])
    assert all(not torch.allclose(gradients[0], other) for other in gradients[1:])


def test_a_loss_that_is_not_finite_is_named(pair, batch):
    student, teacher = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)
    learner = Learner(student, TrainingConfig(), 10, objective, OnlineLessons(objective, teacher))
    with torch.no_grad():
        objective.heads.heads[0].weight.fill_(math.inf)
    learner.training_step(batch, 0)
    with pytest.raises(UserError, match=r"supervision.*training\.lr"):
        learner.take_means()
