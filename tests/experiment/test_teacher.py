"""The config of the run that teaches: what it shares with its student, and the controls that are one key each."""

from __future__ import annotations

import dataclasses

import pytest

from recbench.core.errors import UserError
from recbench.experiment.build import build_model
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import check_dependencies, dependency_configs
from recbench.experiment.key import run_key
from recbench.experiment.teacher import is_untrained, teacher_config

SLMREC = ["model=slmrec", "model.n_layers=4", "training.max_epochs=7", "training.lr=0.25", "training.patience=3"]


@pytest.fixture
def config(run_config, tmp_path):
    return lambda *words: run_config(tmp_path, *words)


@pytest.fixture(scope="module")
def stage(tiny_data, tiny_split):
    return RunContext(tiny_data, tiny_split)


def test_a_teacher_of_the_same_kind_shares_model_and_training_keys(config):
    student = config(*SLMREC, "model.dropout=0.33", "model.item_table.hidden_size=24")
    teacher = teacher_config(student)
    assert teacher.training == student.training
    assert dataclasses.replace(teacher.model, n_layers=4) == student.model
    assert teacher.model.n_layers == 8
    assert teacher.distillation.name == "none"


def test_a_key_for_the_teacher_alone_changes_that_key_alone(config):
    student = config(*SLMREC, "distillation.teacher.training.lr=0.125")
    teacher = teacher_config(student)
    assert dataclasses.replace(teacher.training, lr=0.25) == student.training
    assert teacher.training.lr == 0.125


def test_a_teacher_of_another_kind_starts_from_its_own_files(config):
    teacher = teacher_config(config(*SLMREC, "distillation=logits", "distillation.teacher.model=sasrec"))
    assert (teacher.model.name, teacher.model.n_layers) == ("sasrec", 2)
    # What is known to suit it on these data (conf/tuned), and for the rest the student's keys.
    assert (teacher.training.lr, teacher.training.max_epochs) == (0.003, 7)


@pytest.mark.parametrize("words", [["distillation.teacher.training.lr=0.5"], ["distillation.teacher.init=random"]])
def test_a_teacher_shares_the_item_table_whatever_is_changed_for_it(config, stage, words):
    # On data for which nothing is tuned every training key of the table is inherited.
    student = config(*SLMREC, "distillation.n_blocks=2", *words)
    tables = [
        run_key(dependency_configs(part)["item_table"], stage)
        for part in (student, dependency_configs(student)["teacher"])
    ]
    assert tables[0] == tables[1]
    mine, theirs = (
        dependency_configs(part)["item_table"] for part in (student, dependency_configs(student)["teacher"])
    )
    assert mine.training == theirs.training
    assert mine.training.max_epochs == 7


def test_its_item_table_may_be_given_keys_of_its_own(config):
    words = ["distillation.teacher.training.lr=0.5", "distillation.teacher.item_table.training.lr=0.75"]
    teacher = teacher_config(config(*SLMREC, *words))
    assert dependency_configs(teacher)["item_table"].training.lr == 0.75


@pytest.mark.parametrize("name", ["slmrec", "sasrec"])
def test_a_random_teacher_is_never_trained_and_is_another_run(config, stage, name):
    words = [*SLMREC, "distillation=logits", f"distillation.teacher.model={name}"]
    trained, random = (teacher_config(config(*words, *more)) for more in ([], ["distillation.teacher.init=random"]))
    assert (is_untrained(trained), is_untrained(random)) == (False, True)
    assert random.training.max_epochs == 0
    assert run_key(trained, stage) != run_key(random, stage)
    assert getattr(random.model, "init", "random") == "random"
    # One key makes the control, whatever else the command says of the teacher.
    again = config(*words, "distillation.teacher.init=random", "distillation.teacher.training.max_epochs=50")
    assert is_untrained(teacher_config(again))


def test_pretrained_passes_on_to_the_backbone(config):
    words = [*SLMREC, "model.init=random"]
    assert teacher_config(config(*words)).model.init == "random"
    teacher = teacher_config(config(*words, "distillation.teacher.init=pretrained"))
    assert (teacher.model.init, is_untrained(teacher)) == ("pretrained", False)
    # The student's own key says how a backbone starts, not that the teacher is a control.
    assert not is_untrained(teacher_config(config(*words)))


def test_a_random_teacher_does_not_start_where_its_student_does(config, stage):
    words = [
        "model=sasrec",
        "distillation=logits",
        "distillation.teacher.model=sasrec",
        "distillation.teacher.init=random",
    ]
    student = config(*words)
    teacher = teacher_config(student)
    assert teacher.model == student.model
    mine, theirs = (build_model(part, stage, {}).state_dict() for part in (student, teacher))
    for name in ("item_embedding.weight", "position_embedding.weight"):
        assert (mine[name] != theirs[name]).float().mean() > 0.9
    again = build_model(teacher, stage, {}).state_dict()
    assert all((again[name] == value).all() for name, value in theirs.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distillation.teacher.init=randm"], "unknown distillation.teacher.init 'randm'; known: pretrained, random"),
        (
            ["distillation=logits", "distillation.teacher.model=sasrec", "distillation.teacher.init=pretrained"],
            "unknown distillation.teacher.init 'pretrained'; known: random",
        ),
        (
            ["distillation=logits", "distillation.teacher.model=markov", "distillation.teacher.init=random"],
            "'markov' is computed and has no weights to draw",
        ),
        (
            ["distillation.teacher.training.max_length=10"],
            "distillation.teacher.training.max_length=10 is shorter than the student's 50",
        ),
        (["distillation.teacher.training.max_epochs=0"], "training.max_epochs must be at least 1, not 0"),
        (["training.max_epochs=0"], "training.max_epochs must be at least 1, not 0"),
        (["distillation.teacher.training=3"], "distillation.teacher.training must hold training keys"),
        (["distillation=features", "distillation.teacher.model=markov"], "the teacher 'markov' has no hidden states"),
        (
            ["distillation.teacher.tiny_hidden_size=32", "model.tiny_hidden_size=64"],
            "32 wide and the student's 64; .*distillation=features",
        ),
        (["model=ease", "distillation=multi_supervision"], "'ease' is computed, not trained"),
        (["model=markov", "distillation=logits"], "'markov' is computed, not trained"),
    ],
)
def test_mistakes_are_told_before_any_data_are_read(config, words, said):
    with pytest.raises(UserError, match=said):
        check_dependencies(config(*([] if words[0].startswith("model=") else SLMREC), *words))
