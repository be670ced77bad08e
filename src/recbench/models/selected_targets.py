"""``training.selection``: the run that says which training events are targets, and which models can be trained on some of them."""

from __future__ import annotations

from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.models.registry import lookup, model_names

#: What a selection's registered name begins with; ``training.selection=random`` stands for the run of ``select_random``.
PREFIX = "select_"
NONE = "none"


def selection_names() -> list[str]:
    """What ``training.selection`` may be, sorted."""
    return [NONE, *(name.removeprefix(PREFIX) for name in model_names() if name.startswith(PREFIX))]


def check_selection(training: Any, model: Any, distilled: bool) -> None:
    """Raise UserError for an unknown selection, keys without one, and a model that cannot leave targets out."""
    name = training.selection
    if name not in selection_names():
        raise UserError(f"unknown training.selection '{name}'; {nearest(name, selection_names())}")
    if name == NONE:
        if training.selection_keys or training.equal_steps:
            key = "equal_steps" if training.equal_steps else "selection_keys"
            raise UserError(f"training.{key} is set, but training.selection is none; name a selection, such as random")
        return
    if not weighs_targets(lookup(model.name).model):
        raise UserError(
            f"the model '{model.name}' is trained on whole windows and cannot leave targets out; use training.selection=none, or sasrec"
        )
    if distilled:
        raise UserError("a teacher's lessons are of all targets: set distillation=none, or training.selection=none")


def weighs_targets(kind: type) -> bool:
    """Whether a model's loss reads ``Batch.target_weights``."""
    from recbench.models.sequence_model import SequenceModel

    if getattr(kind, "reads_target_weights", False):
        return True
    return issubclass(kind, SequenceModel) and kind.has_usual_loss()


def selection_part(training: Any) -> dict[str, Any] | None:
    """The keys of the selection's run; None where all events are targets."""
    if training.selection == NONE:
        return None
    return {"model": f"{PREFIX}{training.selection}", **training.selection_keys}
