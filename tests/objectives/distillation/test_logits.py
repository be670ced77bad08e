"""The softened distribution of the teacher: value and gradients against torch, chunk by chunk, for teachers with and without states."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.objectives.distillation.configs import LogitsDistillation
from recbench.objectives.distillation.logits import LogitsObjective, catalogue_kl

N, D, E, V = 23, 12, 7, 51


@pytest.fixture
def problem():
    """(queries [N, D], table [V, D], teacher's queries [N, E], teacher's table [V, E]) in float64."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((N, D), (V, D), (N, E), (V, E))]


def reference(queries, table, scores, temperature):
    """(KL, gradients by queries and table) by torch in float64; scores [N, V] are the teacher's."""
    queries, table = queries.double().requires_grad_(), table.double().requires_grad_()
    mine = F.log_softmax(queries @ table[1:].T / temperature, dim=1)
    theirs = F.log_softmax(scores.double()[:, 1:] / temperature, dim=1)
    loss = F.kl_div(mine, theirs, log_target=True, reduction="batchmean")
    return loss.detach(), *torch.autograd.grad(loss, (queries, table))


def ours(queries, table, *teacher, bfloat16=False):
    queries, table = queries.clone().requires_grad_(), table.clone().requires_grad_()
    loss = catalogue_kl(queries, table, *teacher, bfloat16)
    return loss.detach(), *torch.autograd.grad(loss, (queries, table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_at_once", [0, 1, 7, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("from_scores", [False, True])
def test_value_and_gradients_are_those_of_torch(problem, monkeypatch, dtype, rows_at_once, temperature, from_scores):
    monkeypatch.setattr("recbench.nn.losses.catalogue.CHUNK_VALUES", 3 * rows_at_once * (V - 1))
    queries, table, theirs, their_table = problem
    scores = theirs @ their_table.T
    teacher = (scores.to(dtype), None) if from_scores else (theirs.to(dtype), their_table.to(dtype))
    found = ours(queries.to(dtype), table.to(dtype), *teacher, temperature)
    for mine, exact in zip(found, reference(queries, table, scores, temperature), strict=True):
        torch.testing.assert_close(mine.double(), exact, atol=5e-6, rtol=5e-5)
    assert found[1].dtype == found[2].dtype == dtype
    assert not found[2][0].any()  # the pad


def test_an_overconfident_teacher_leaves_no_nan(problem):
    queries, table, theirs, their_table = (part.float() for part in problem)
    found = ours(queries, table, 1e4 * theirs, their_table, 1.0)
    assert all(part.isfinite().all() for part in found)
    expected = reference(queries, table, 1e4 * theirs @ their_table.T, 1.0)
    torch.testing.assert_close(found[1].double(), expected[1], atol=1e-5, rtol=1e-4)


def test_in_bfloat16_it_stays_within_its_rounding(problem):
    queries, table, theirs, their_table = (part.float() / 2 for part in problem)
    found = ours(queries, table, theirs, their_table, 2.0, bfloat16=True)
    exact = reference(queries, table, theirs @ their_table.T, 2.0)
    assert found[0].item() == pytest.approx(exact[0].item(), abs=0.01)
    for mine, true in zip(found[1:], exact[1:], strict=True):
        assert mine.dtype == torch.float32
        assert (mine.double() - true).norm() < 0.03 * true.norm()


def test_the_pad_takes_no_part_on_either_side(problem):
    queries, table, theirs, their_table = (part.float() for part in problem)
    plain = ours(queries, table, theirs, their_table, 2.0)
    table[0], their_table[0] = 100 * queries.sum(0), 100 * theirs.sum(0)
    for before, after in zip(plain, ours(queries, table, theirs, their_table, 2.0), strict=True):
        assert torch.equal(before, after)


def test_a_frozen_table_gets_no_gradient_and_a_second_backward_is_refused(problem):
    queries, table, theirs, their_table = (part.float() for part in problem)
    queries.requires_grad_()
    loss = catalogue_kl(queries, table, theirs, their_table, 2.0)
    (3 * loss).backward(retain_graph=True)
    exact = reference(queries.detach(), table, theirs @ their_table.T, 2.0)
    torch.testing.assert_close(queries.grad.double(), 3 * exact[1], atol=5e-6, rtol=5e-5)
    assert table.grad is None
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()


@pytest.mark.parametrize("teacher_name", ["slmrec", "sasrec", "markov"])
def test_the_term_is_the_formula_at_every_position(
    build, build_teacher, terms_of, batch, by_position, few_values, teacher_name
):
    student, teacher = build("sasrec"), build_teacher(teacher_name)
    objective = LogitsObjective(LogitsDistillation(weight=0.3, temperature=0.7), student, teacher)
    found = terms_of(objective, student, teacher, batch)["logits"].item()
    each = []
    with torch.no_grad():
        states = student.hidden_states(batch)[-1]
        for b, i in by_position(batch):
            mine = (student.item_vectors() @ states[b, i])[1:].double() / 0.7
            history = batch.items[b, : i + 1].tolist()
            theirs = teacher.score(only(history, batch))[0, 1:].double() / 0.7
            p = theirs.softmax(0)
            each.append(float((p * (p.log() - mine.log_softmax(0))).sum()))
    assert found == pytest.approx(0.3 * 0.7**2 * sum(each) / len(each), rel=1e-4)


def only(history, batch):
    items = torch.tensor([history])
    return type(batch)(items, torch.zeros_like(items), torch.tensor([len(history)]), torch.tensor([0]))


def test_the_teacher_s_item_vectors_are_not_stored(build, build_teacher):
    objective = LogitsObjective(LogitsDistillation(), build("sasrec"), build_teacher("sasrec"))
    assert objective.teacher_items.shape[1] == 16
    assert objective.state_dict() == {}
    assert list(objective.parameters()) == []
