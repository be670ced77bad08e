"""SLMRec's objective: each term against a plain loop, where gradients go, and which pairs are refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from recbench.config import TrainingConfig
from recbench.data.batches import WindowDataset, training_windows
from recbench.distillation.configs import SLMRecDistillation
from recbench.distillation.slmrec import SLMRecObjective, block_ends
from recbench.errors import UserError
from recbench.experiment import build_objective
from recbench.models.base import ModelContext
from recbench.models.popularity import Popularity, PopularityConfig
from recbench.models.sasrec import SASRec, SASRecConfig
from recbench.models.slmrec import SLMRec, SLMRecConfig
from recbench.training import Learner

MAX_LENGTH = 20


@pytest.fixture(scope="module")
def context(tiny_data):
    bare = ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH)
    torch.manual_seed(5)
    table = SASRec(SASRecConfig(hidden_size=12, n_heads=2, feedforward_size=8), bare)
    return ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, None, {"item_table": table})


@pytest.fixture
def pair(context):
    """make(n_layers of the student, of the teacher, width of the teacher) -> (student, teacher), with different weights."""

    def make(student_layers=2, teacher_layers=4, teacher_width=16):
        def model(n_layers, width, seed):
            torch.manual_seed(seed)
            config = SLMRecConfig(
                n_layers=n_layers, tiny_hidden_size=width, tiny_n_heads=2, tiny_feedforward_size=16, dropout=0.0
            )
            return SLMRec(config, context)

        teacher = model(teacher_layers, teacher_width, 2)
        return model(student_layers, 16, 1), teacher.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="module")
def batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    return WindowDataset(tiny_data, windows)[torch.arange(10).numpy()]


def terms_of(objective, student, teacher, batch):
    with torch.no_grad():
        taught = teacher.hidden_states(batch)
    return objective.terms(student, student.hidden_states(batch), taught, batch)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_every_term_is_there_finite_and_not_zero(pair, batch, form):
    student, teacher = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2, form=form), student, teacher)
    terms = terms_of(objective, student, teacher, batch)
    assert set(terms) == {"cosine", "norm", "supervision"}
    assert all(term.isfinite() and term > 0 for term in terms.values())


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("n_blocks", [1, 2, 4])
def test_the_terms_are_the_formula(pair, batch, form, n_blocks):
    student, teacher = pair(4, 8)
    config = SLMRecDistillation(
        n_blocks=n_blocks, form=form, cosine_weight=0.7, norm_weight=0.3, supervision_weight=0.2
    )
    torch.manual_seed(3)
    objective = SLMRecObjective(config, student, teacher)
    found = terms_of(objective, student, teacher, batch)
    with torch.no_grad():
        mine, theirs = student.hidden_states(batch), teacher.hidden_states(batch)
    cosine, norm, supervision = [], [], []
    for k in range(1, n_blocks + 1):
        angles, distances, losses = [], [], []
        for b in range(len(batch)):
            for i in range(int(batch.lengths[b])):
                s, t = mine[4 // n_blocks * k][b, i], theirs[8 // n_blocks * k][b, i]
                angles.append(float(s @ t / (s.norm() * t.norm())))
                distances.append(float((s - t).norm()) ** (2 if form == "paper" else 1))
                if k < n_blocks:
                    scores = student.item_table @ objective.heads[k - 1](s)
                    losses.append(F.cross_entropy(scores[1:], batch.targets[b, i] - 1).item())
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


def test_pads_take_no_part(pair, batch):
    student, teacher = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)
    states = [state.detach() for state in student.hidden_states(batch)]
    taught = teacher.hidden_states(batch)
    assert (~batch.mask).any()
    spoiled = [torch.where(batch.mask[..., None], state, torch.nan) for state in states]
    before, after = objective.terms(student, states, taught, batch), objective.terms(student, spoiled, taught, batch)
    assert {name: term.item() for name, term in before.items()} == {name: term.item() for name, term in after.items()}


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_student_equal_to_its_teacher_has_nothing_to_imitate(pair, batch, form):
    student, _ = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2, form=form), student, student)
    terms = terms_of(objective, student, student, batch)
    assert terms["cosine"].item() == pytest.approx(0, abs=1e-6)
    assert terms["norm"].item() == pytest.approx(0, abs=1e-6)
    (terms["cosine"] + terms["norm"]).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_gradients_reach_student_and_heads_and_nothing_else(pair, batch):
    student, teacher = pair()
    # Even a teacher that somebody forgot to freeze.
    teacher.requires_grad_(True)
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)
    terms = objective.terms(student, student.hidden_states(batch), teacher.hidden_states(batch), batch)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(head.weight.grad.any() for head in objective.heads)
    assert student.item_to_state.weight.grad.any()
    assert all(p.grad.any() for name, p in student.named_parameters() if "layers" in name)


def test_each_term_alone_reaches_the_student(pair, batch):
    student, teacher = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)
    for name, term in terms_of(objective, student, teacher, batch).items():
        (gradient,) = torch.autograd.grad(term, student.item_to_state.weight, retain_graph=True)
        assert gradient.any(), name


def test_training_changes_the_student_and_not_one_bit_of_the_teacher(pair, batch):
    student, teacher = pair()
    objective = build_objective(
        SimpleNamespace(distillation=SLMRecDistillation(n_blocks=2), model=student.config), student, teacher
    )
    learner = Learner(student, TrainingConfig(lr=0.01), 10, objective, teacher).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = learner.configure_optimizers()
    losses = []
    for step in range(8):
        optimizer.zero_grad()
        loss = learner.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training
    means = learner.take_means()
    assert set(means) == {"loss", "recommendation", "cosine", "norm", "supervision"}
    parts = sum(value for name, value in means.items() if name != "loss")
    assert means["loss"] == pytest.approx(parts, rel=1e-5)


def test_what_a_teacher_is_is_not_stored_with_its_student(pair):
    student, teacher = pair()
    objective = SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)
    learner = Learner(student, TrainingConfig(), 10, objective, teacher)
    assert {name.split(".")[0] for name in learner.state_dict()} == {"student", "objective"}
    trained = {id(p) for group in learner.configure_optimizers().param_groups for p in group["params"]}
    assert not trained & {id(p) for p in teacher.parameters()}
    assert {id(p) for p in objective.parameters()} <= trained


def test_a_loss_that_is_not_finite_is_named(pair, batch):
    student, teacher = pair()
    learner = Learner(
        student, TrainingConfig(), 10, SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher), teacher
    )
    with torch.no_grad():
        learner.objective.heads[0].weight.fill_(math.inf)
    learner.training_step(batch, 0)
    with pytest.raises(FloatingPointError, match=r"supervision.*training\.lr"):
        learner.take_means()


def test_blocks_end_at_even_steps():
    model = SimpleNamespace(config=SimpleNamespace(n_layers=8))
    assert block_ends(model, 4, "teacher") == [2, 4, 6, 8]
    assert block_ends(model, 1, "teacher") == [8]


@pytest.mark.parametrize(("student_layers", "teacher_layers", "who"), [(2, 3, "teacher"), (3, 2, "student")])
def test_blocks_that_do_not_divide_the_depth_are_refused(pair, student_layers, teacher_layers, who):
    student, teacher = pair(student_layers, teacher_layers)
    with pytest.raises(UserError, match=rf"n_blocks=2 does not divide the 3 layers of the {who}"):
        SLMRecObjective(SLMRecDistillation(n_blocks=2), student, teacher)


@pytest.mark.parametrize("n_blocks", [0, -2])
def test_a_number_of_blocks_that_is_none_is_refused(pair, n_blocks):
    with pytest.raises(UserError, match="n_blocks"):
        SLMRecObjective(SLMRecDistillation(n_blocks=n_blocks), *pair())


def test_states_of_different_width_are_refused(pair):
    with pytest.raises(UserError, match=r"24 wide and the student's 16"):
        SLMRecObjective(SLMRecDistillation(n_blocks=2), *pair(teacher_width=24))


def test_an_unknown_form_is_refused(pair):
    with pytest.raises(UserError, match=r"distillation.form 'papr'; .*paper.*released"):
        SLMRecObjective(SLMRecDistillation(n_blocks=2, form="papr"), *pair())


def test_a_teacher_without_layers_is_refused(pair, context):
    student, _ = pair()
    with pytest.raises(UserError, match="teacher Popularity has no layers"):
        SLMRecObjective(SLMRecDistillation(n_blocks=2), student, Popularity(PopularityConfig(), context))


def test_a_student_without_a_loss_for_vectors_is_refused(pair, context):
    _, teacher = pair()
    config = SimpleNamespace(distillation=SLMRecDistillation(), model=SASRecConfig())
    with pytest.raises(UserError, match=r"'sasrec' cannot be a student of distillation=slmrec; set distillation=none"):
        build_objective(config, SASRec(SASRecConfig(), context), teacher)
