"""A teacher and a retriever must have learned something before others build on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.experiment.context import Run, RunContext
from recbench.experiment.dependencies import EPOCHS
from recbench.experiment.teacher import is_untrained
from recbench.models.registry import lookup

#: The popularity run on the data and protocol of a config: made, or found, only when it is asked for.
Floor = Callable[[RunConfig, RunContext], Run]


def check_teacher(config: RunConfig, needed: Mapping[str, Run], stage: RunContext, floor: Floor) -> None:
    """Stop before a student learns from a teacher that popularity beats on validation, unless forced."""
    teacher = needed.get("teacher")
    if teacher is None or config.distillation.force or is_untrained(teacher.config) or EPOCHS in needed:
        return  # with a first part, it was that one's teacher that had to show itself, on validation that it had not seen
    if loss := no_better_than_popularity(config, teacher, stage, floor):
        raise UserError(
            f"the teacher {loss}: a student would learn nothing from it; train it longer (distillation.teacher.training.max_epochs) or set "
            "distillation.force=true"
        )


def check_retriever(config: RunConfig, needed: Mapping[str, Run], stage: RunContext, floor: Floor) -> None:
    """Stop before a run goes on from one that was not trained: a retriever, a guide or a start that popularity beats on validation, unless forced."""
    for role in ("retriever", "guide", "start"):
        part = needed.get(role)
        if part is None or config.compression.name != "none" or config.model.force or EPOCHS in needed:
            continue
        if not lookup(part.config.model.name).model.trains_by_gradient:
            continue
        if loss := no_better_than_popularity(config, part, stage, floor):
            raise UserError(
                f"the {role} {loss}: it is not trained, and nothing that follows could help; train it longer "
                f"(model.{role}.training.max_epochs), name another, or set model.force=true"
            )


def no_better_than_popularity(config: RunConfig, part: Run, stage: RunContext, floor: Floor) -> str:
    """What shows that popularity beats a run on validation; "" if it does not."""
    name = f"validation/{stage.split.metric_prefix}{config.evaluation.monitor}"
    popularity = floor(config, stage).metrics[name]
    if part.metrics[name] > popularity:
        return ""
    return f"{part.folder.key} has {name} {part.metrics[name]:.4f}, no better than popularity ({popularity:.4f})"
