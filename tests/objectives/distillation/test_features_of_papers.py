"""The features objective as LEADER and LLM-SRec have it: a distance that is not scaled, and one between queries; answers kept in bfloat16."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.objectives.distillation.configs import FeaturesDistillation
from recbench.objectives.distillation.features import FeaturesObjective
from recbench.objectives.distillation.offline import _numbers, _plain


def test_leader_s_distance_is_the_mean_over_the_teacher_s_width(build, build_teacher, terms_of, batch, by_position):
    student, teacher = build("sasrec", n_layers=1), build_teacher("slmrec", n_layers=2, tiny_hidden_size=24)
    objective = FeaturesObjective(FeaturesDistillation(weight=0.4, normalise="none"), student, teacher)
    found = terms_of(objective, student, teacher, batch)["features"].item()
    with torch.no_grad():
        mine, theirs = student.hidden_states(batch)[-1], teacher.hidden_states(batch)[-1]
        each = [
            float((objective.projections[0](mine[b, i]) - theirs[b, i]).square().mean()) for b, i in by_position(batch)
        ]
    assert found == pytest.approx(0.4 * sum(each) / len(each), rel=1e-4)


def test_without_a_scale_the_term_grows_with_the_teacher_s_states(build, build_teacher, batch):
    student, teacher = build("sasrec"), build_teacher("sasrec", hidden_size=8)
    found = {}
    for normalise in ("none", "teacher"):
        objective = FeaturesObjective(FeaturesDistillation(normalise=normalise), student, teacher)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.zero_()
        read, states = objective.read(teacher, batch)["state_-1"], student.hidden_states(batch)
        small, large = (
            objective.terms(student, states, {"state_-1": k * read}, batch)["features"].item() for k in (1, 3)
        )
        found[normalise] = large / small
    assert found["none"] == pytest.approx(9.0, rel=1e-4)
    assert found["teacher"] == pytest.approx(1.0, rel=1e-4)


def test_queries_of_a_language_model_learn_from_those_of_a_sequence_model(build, build_teacher, terms_of, batch):
    student, teacher = build("slmrec", tiny_hidden_size=24), build_teacher("sasrec", hidden_size=8)
    objective = FeaturesObjective(FeaturesDistillation(at="query"), student, teacher)
    (projection,) = objective.projections
    assert projection.in_features == student.item_vectors().shape[1]
    assert projection.out_features == 8
    taught = objective.read(teacher, batch)
    with torch.no_grad():
        expected = teacher.queries(teacher.hidden_states(batch)[-1][batch.mask])
    torch.testing.assert_close(taught["query"], expected)
    objective.terms(student, student.hidden_states(batch), taught, batch)["features"].backward()
    assert student.state_to_item.weight.grad.abs().max() > 0  # the query is behind the last map
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_student_that_says_what_the_teacher_says_costs_nothing(build, build_teacher, batch):
    student = build("sasrec")
    for keys in ({"at": "query"}, {"normalise": "none"}):
        objective = FeaturesObjective(FeaturesDistillation(**keys), student, student)
        with torch.no_grad():
            objective.projections[0].weight.copy_(torch.eye(16))
            objective.projections[0].bias.zero_()
            taught = objective.read(student, batch)
            term = objective.terms(student, student.hidden_states(batch), taught, batch)["features"]
        assert term.item() == pytest.approx(0.0, abs=1e-6)


def test_keys_at_their_defaults_change_no_key():
    assert key_values(FeaturesDistillation()) == {
        "name": "features", "teacher": {"model": "slmrec", "n_layers": 8}, "force": False, "weight": 1.0, "layers": "last", "n_blocks": 4,
    }  # fmt: skip
    assert key_values(FeaturesDistillation(at="query"))["at"] == "query"
    assert key_values(FeaturesDistillation(store="bfloat16")) == key_values(FeaturesDistillation())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"normalise": "both"}, "distillation.normalise 'both'"),
        ({"at": "token"}, "distillation.at 'token'"),
        ({"at": "query", "layers": "blocks"}, "set distillation.layers=last"),
    ],
)
def test_wrong_keys_are_refused(keys, said):
    with pytest.raises(UserError, match=said):
        FeaturesDistillation(**keys).check()


def test_answers_in_bfloat16_keep_two_digits_and_any_size():
    values = torch.tensor([1.0, -3.14159, 1e30, 2.0**-20])
    stored = _plain("state", values, "bfloat16")
    assert stored.nbytes == 8
    back = _numbers(torch.from_numpy(stored))
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, values, rtol=0.005, atol=0.0)
    items = torch.tensor([[3, 70_000]], dtype=torch.int32)
    assert torch.equal(_numbers(torch.from_numpy(_plain("best", items, "bfloat16"))), items)
    with pytest.raises(UserError, match="not finite; train it anew"):
        _plain("state", torch.tensor([float("inf")]), "bfloat16")
