"""What every objective owes, over the students and teachers that it allows."""

from __future__ import annotations

import pytest
import torch

from recbench.config.settings import TrainingConfig
from recbench.core.key_fields import key_values
from recbench.core.run_folder import open_folder
from recbench.data.epoch_sampler import EpochSampler
from recbench.objectives.distillation.base import build_objective
from recbench.objectives.distillation.configs import _CONFIGS, TaughtConfig, config_class
from recbench.objectives.distillation.offline import stored_lessons
from recbench.objectives.distillation.teacher import OnlineLessons
from recbench.training.learner import Learner

KEYS = {
    "slmrec": {"n_blocks": 2},
    "multi_supervision": {"n_blocks": 2},
    "logits": {"temperature": 1.5},
    "ranking": {"top_k": 5, "n_uninteresting": 20},
    "features": {},
}
#: Deeper than a student; as wide where states are compared as they are, wider where a projection is learned.
TEACHERS = {
    "slmrec": {"slmrec": {"n_layers": 4}, "sasrec": {"n_layers": 4}},
    "multi_supervision": {None: {}},
    "logits": {"slmrec": {"n_layers": 4}, "sasrec": {"hidden_size": 24}, "markov": {}},
    "ranking": {"slmrec": {"n_layers": 4}, "sasrec": {"hidden_size": 24}, "markov": {}, "recent_popularity": {}},
    "features": {"slmrec": {"tiny_hidden_size": 24}, "sasrec": {"hidden_size": 8}},
}
CASES = [
    (name, student, teacher) for name in KEYS for student in ("slmrec", "sasrec") for teacher in TEACHERS[name]
] + [(name, "e4srec", next(iter(TEACHERS[name]))) for name in KEYS]
TAUGHT = [case for case in CASES if case[2] is not None]


def test_every_option_is_among_the_cases():
    assert set(KEYS) == set(_CONFIGS) - {"none"}


@pytest.fixture
def three(build, build_teacher):
    """three(name, student, teacher) -> (objective, student, teacher)."""

    def make(name, student, teacher):
        student = build(student)
        teacher = build_teacher(teacher, **TEACHERS[name][teacher]) if teacher else None
        torch.manual_seed(3)
        return build_objective(config_class(name)(**KEYS[name]), student, teacher), student, teacher

    return make


@pytest.mark.parametrize("case", CASES)
def test_every_term_is_there_finite_and_not_zero(three, terms_of, batch, case):
    objective, student, teacher = three(*case)
    terms = terms_of(objective, student, teacher, batch)
    assert set(terms) == {
        "slmrec": {"cosine", "norm", "supervision"},
        "multi_supervision": {"supervision"},
    }.get(case[0], {case[0]})
    assert all(term.shape == () and term.isfinite() and term > 0 for term in terms.values())


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_the_student_and_what_is_learned_with_it_and_nothing_else(three, batch, case):
    objective, student, teacher = three(*case)
    taught = {}
    if teacher is not None:
        teacher.requires_grad_(True)  # even of one that somebody forgot to freeze, asked without no_grad
        taught = objective.read(teacher, batch)

    def terms():  # anew each time: the gradients of a catalogue loss can be taken once only
        return objective.terms(student, student.hidden_states(batch), taught, batch)

    entry = student.item_embedding.weight if case[1] == "sasrec" else student.item_to_state.weight
    for name in terms():
        (gradient,) = torch.autograd.grad(terms()[name], entry, retain_graph=True)
        assert gradient.any(), name
    sum(terms().values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters())
    assert any(p.grad is not None for p in student.parameters())
    assert teacher is None or all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("case", CASES)
def test_pads_take_no_part(three, batch, case):
    objective, student, teacher = three(*case)
    with torch.no_grad():
        states = student.hidden_states(batch)
        taught = objective.read(teacher, batch) if teacher else {}
        spoiled = [torch.where(batch.mask[..., None], state, torch.nan) for state in states]
        found = []
        for given in (states, spoiled):
            torch.manual_seed(1)
            found.append({name: term.item() for name, term in objective.terms(student, given, taught, batch).items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("case", CASES)
def test_training_changes_the_student_and_not_one_bit_of_the_teacher(three, batch, case):
    objective, student, teacher = three(*case)
    before = {name: value.clone() for name, value in teacher.state_dict().items()} if teacher else {}
    lessons = OnlineLessons(objective, teacher) if teacher else None
    learner = Learner(student, TrainingConfig(lr=0.01), 10, objective, lessons).train()
    assert {name.split(".")[0] for name in learner.state_dict()} <= {"student", "objective"}
    assert not any("teacher" in name for name in learner.state_dict())
    optimizer, losses = learner.configure_optimizers(), []
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in objective.parameters()} <= trained
    for step in range(8):
        optimizer.zero_grad()
        torch.manual_seed(0)  # the same items are drawn at every step, so the loss is one function
        loss = learner.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    if teacher:
        assert not trained & {id(p) for p in teacher.parameters()}
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        assert not teacher.training
    means = learner.take_means()
    assert means["loss"] == pytest.approx(sum(v for name, v in means.items() if name != "loss"), rel=1e-5)


@pytest.mark.parametrize("case", TAUGHT)
def test_stored_answers_give_the_terms_of_a_teacher_that_is_asked(three, dataset, tmp_path, monkeypatch, case):
    objective, student, teacher = three(*case)
    online = OnlineLessons(objective, teacher)
    folder = open_folder(tmp_path, "teacher")
    stored, _ = stored_lessons(objective.reading(), online, dataset, 20, "float32", folder, torch.device("cpu"))
    plan = EpochSampler(dataset.windows, 400, seed=4).plan(0)
    assert len(plan) > 3

    def terms(lessons, windows):
        batch = dataset[windows]
        torch.manual_seed(int(windows[0]))
        taught = lessons(batch)
        with torch.no_grad():
            return {
                k: v.item() for k, v in objective.terms(student, student.hidden_states(batch), taught, batch).items()
            }

    asked = [terms(online, windows) for windows in plan]

    def silent(*_):
        raise AssertionError("the teacher was asked")

    for method in ("forward", "hidden_states", "queries", "score", "recommend"):
        monkeypatch.setattr(teacher, method, silent, raising=False)
    with pytest.raises(AssertionError, match="was asked"):
        online(dataset[plan[0]])
    for windows, expected in zip(plan, asked, strict=True):
        assert terms(stored, windows) == pytest.approx(expected, rel=2e-5)


def test_every_taught_option_keeps_how_the_teacher_is_asked_out_of_the_run_key():
    for name in KEYS:
        config = config_class(name)()
        if isinstance(config, TaughtConfig):
            parts = key_values(config)
            assert key_values(config_class(name)(mode="online", store="float16")) == parts
            assert key_values(config_class(name)(force=True)) != parts
