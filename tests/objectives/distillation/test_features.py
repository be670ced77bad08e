"""Features through a learned projection: the formula, widths that differ, and a distance without a scale."""

from __future__ import annotations

import pytest
import torch

from recbench.objectives.distillation.configs import FeaturesDistillation
from recbench.objectives.distillation.features import FeaturesObjective


@pytest.mark.parametrize("layers", ["last", "blocks"])
def test_the_term_is_the_formula(build, build_teacher, terms_of, batch, by_position, layers):
    student, teacher = build("sasrec", n_layers=2), build_teacher("slmrec", n_layers=4, tiny_hidden_size=24)
    objective = FeaturesObjective(FeaturesDistillation(weight=0.3, layers=layers, n_blocks=2), student, teacher)
    found = terms_of(objective, student, teacher, batch)["features"].item()
    steps = [(2, 4)] if layers == "last" else [(1, 2), (2, 4)]
    assert [(p.in_features, p.out_features) for p in objective.projections] == [(16, 24)] * len(steps)
    with torch.no_grad():
        mine, theirs = student.hidden_states(batch), teacher.hidden_states(batch)
        shares = []
        for projection, (s, t) in zip(objective.projections, steps, strict=True):
            distance = sum(
                float((projection(mine[s][b, i]) - theirs[t][b, i]).norm() ** 2) for b, i in by_position(batch)
            )
            shares.append(distance / sum(float(theirs[t][b, i].norm() ** 2) for b, i in by_position(batch)))
    assert found == pytest.approx(0.3 * sum(shares) / len(shares), rel=1e-4)


def test_a_projection_that_says_nothing_costs_the_weight_whatever_the_widths(build, build_teacher, terms_of, batch):
    for width in (8, 48):
        student, teacher = build("sasrec"), build_teacher("sasrec", hidden_size=width)
        objective = FeaturesObjective(FeaturesDistillation(weight=0.3), student, teacher)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.zero_()
        assert terms_of(objective, student, teacher, batch)["features"].item() == pytest.approx(0.3)


def test_the_size_of_the_teacher_s_states_does_not_matter(build, build_teacher, batch):
    student, teacher = build("sasrec"), build_teacher("sasrec", hidden_size=8)
    objective = FeaturesObjective(FeaturesDistillation(), student, teacher)
    read = objective.read(teacher, batch)["state_-1"]
    states, found = student.hidden_states(batch), []
    for factor in (1.0, 100.0):
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.mul_(factor)
        found.append(objective.terms(student, states, {"state_-1": factor * read}, batch)["features"].item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
