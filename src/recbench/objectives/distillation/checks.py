"""What the configs of student, teacher and objective are checked for, before anything is trained. Each raises UserError that names the key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from recbench.models.base import Recommender


def check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"unknown distillation.{key} '{value}'; {nearest(value, known)}")


def check_weight(key: str, value: float, positive: bool = False) -> None:
    """Raise UserError for a number that is negative or not finite, or 0 where that would leave nothing."""
    if not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
        raise UserError(f"distillation.{key} must be {'positive' if positive else '0 or more'}, not {value:g}")


def check_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"distillation.{key} must be at least {least}, not {value}")


def check_blocks(n_blocks: int, model: Any, role: str, objective: str) -> None:
    """Raise UserError where B blocks do not divide the depth in a model's config, or where it has none."""
    depth = getattr(model, "n_layers", None)
    if depth is None:
        raise UserError(
            f"the {role} '{model.name}' has no layers to cut into blocks; distillation={objective} needs them"
        )
    if n_blocks < 1 or depth % n_blocks:
        raise UserError(f"distillation.n_blocks={n_blocks} does not divide the {depth} layers of the {role}")


def check_widths(student: int, teacher: int) -> None:
    """Raise UserError for states of unequal width."""
    if student != teacher:
        raise UserError(
            f"the teacher's states are {teacher} wide and the student's {student}; distillation=slmrec compares them directly: "
            "give both the same width, or use distillation=features, which learns a projection"
        )


def state_width(model: Any) -> int | None:
    """Width of the hidden states of a model with this config; None where the config does not tell."""
    return class_of(model).state_width(model)  # type: ignore[attr-defined]


def class_of(model: Any) -> type[Recommender]:
    from recbench.models.registry import lookup

    return lookup(model.name).model


def has_states(model: Any) -> bool:
    from recbench.models.sequence_model import SequenceModel

    return issubclass(class_of(model), SequenceModel)
