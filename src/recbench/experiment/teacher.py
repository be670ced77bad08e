"""Which run teaches: the config of a teacher, from the student's and the keys under ``distillation.teacher``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.config.tuned import OFF, tuned_for_part
from recbench.core.errors import UserError
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup

WHERE = "distillation.teacher"


def teacher_config(config: RunConfig) -> RunConfig:
    """The run that teaches a student. Raises UserError for keys that make no sense.

    It shares data, protocol, seed and training keys with the student but for what is given. A teacher of the student's own kind shares the
    student's model keys too; one of another kind starts from its own files, also from what is known to suit it on these data.
    """
    given = dict(config.distillation.teacher)
    init = given.pop("init", None)
    use_tuned = config.tuned.name != OFF
    model, training = compose_model(_laid_over_student(config, given), WHERE, config.data.name, use_tuned)
    of_own_kind = given.get("model", config.model.name) == config.model.name
    tuned = config.tuned if of_own_kind else tuned_for_part(given["model"], config.data.name, config.tuned)
    teacher = config.undistilled(model=model, training=replace(config.training, **training), tuned=tuned)
    teacher.check()
    by_gradient = lookup(model.name).model.trains_by_gradient
    if by_gradient and teacher.training.max_length < config.training.max_length:
        raise UserError(
            f"{WHERE}.training.max_length={teacher.training.max_length} is shorter than the student's {config.training.max_length}: "
            "the teacher could not read what the student reads"
        )
    if init is not None:
        teacher = _started(teacher, init, by_gradient)
    return _on_shared_runs(teacher, config)


def is_untrained(teacher: RunConfig) -> bool:
    """Whether it is the control whose weights are as they were drawn; a user's own training has an epoch at least."""
    return teacher.training.max_epochs == 0


def _laid_over_student(config: RunConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("model", config.model.name) != config.model.name:
        return dict(given)
    own = dataclasses.asdict(config.model)
    own.pop("name")
    training = given.get("training") or {}
    if isinstance(training, Mapping):
        training = {**dataclasses.asdict(config.training), **training}
    return {**own, "model": config.model.name, **given, "training": training}


def _started(teacher: RunConfig, init: Any, by_gradient: bool) -> RunConfig:
    """``init=random``: never trained, its backbone drawn too. ``pretrained`` is the backbone's own key and passes on."""
    name, has_backbone = teacher.model.name, hasattr(teacher.model, "init")
    if init not in ("random", "pretrained") or (init == "pretrained" and not has_backbone):
        raise UserError(f"unknown {WHERE}.init '{init}'; known: {'pretrained, ' if has_backbone else ''}random")
    if not by_gradient:
        raise UserError(f"{WHERE}.init=random: the model '{name}' is computed and has no weights to draw")
    if has_backbone:
        teacher = replace(teacher, model=replace(teacher.model, init=init))
    return teacher if init == "pretrained" else replace(teacher, training=replace(teacher.training, max_epochs=0))


def _on_shared_runs(teacher: RunConfig, student: RunConfig) -> RunConfig:
    """Let training keys of the teacher alone not reach the runs that it stands on: it shares its item table with the student."""
    changed = {
        key: value
        for key, value in dataclasses.asdict(student.training).items()
        if getattr(student.training, key) != getattr(teacher.training, key)
    }
    for name, keys in parts_of(lookup(teacher.model.name).model, teacher.model).items():
        _, decided = compose_model(keys, f"{WHERE}.{name}", student.data.name, student.tuned.name != OFF)
        kept = {key: value for key, value in changed.items() if key not in decided}
        if kept:
            own = {**keys, "training": {**(keys.get("training") or {}), **kept}}
            teacher = replace(teacher, model=replace(teacher.model, **{name: own}))
    return teacher
