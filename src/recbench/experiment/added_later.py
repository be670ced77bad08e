"""Figures that a finished run lacks: its stored weights are tested once more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder
from recbench.evaluation.lists.families import FAMILIES
from recbench.experiment.build import load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.list_figures import LIST_METRICS
from recbench.models.base import Recommender
from recbench.models.registry import lookup

logger = logging.getLogger(__name__)

#: What the figures of shuffled histories begin with (``experiment.shuffled``, which is not imported before it is needed).
SHUFFLED = "shuffled_"


def lacks_validation(config: RunConfig, model: Recommender | type[Recommender], figures: Mapping[str, Any]) -> bool:
    """Whether the figures of a run hold no validation, though it is asked for and the model answers."""
    answers = model.ranks or config.protocol.asks_clicks
    wanted = config.evaluation.validate or model.trains_by_gradient  # what is trained always is
    return wanted and answers and not any(name.startswith("validation/") for name in figures)


def add_metrics(config: RunConfig, stage: RunContext, folder: RunFolder) -> None:
    """Give a finished run the metrics of ``evaluation.metrics`` that it lacks, and the validation if it was left out: its stored weights are
    asked once more, and nothing else changes."""
    metrics = folder.read("metrics.json")
    lacking, mixed, unvalidated = _lacking(config, metrics)
    if not (lacking or mixed or unvalidated):
        return
    from recbench.experiment import evaluate
    from recbench.experiment.device import prepare_device
    from recbench.experiment.shuffled import shuffled_figures
    from recbench.experiment.task import task_of

    words = [*lacking, *(["shuffled histories"] if mixed else []), *(["its validation"] if unvalidated else [])]
    logger.info("%s: testing it once more for %s", folder.key, ", ".join(words))
    asked = replace(config, evaluation=replace(config.evaluation, metrics=lacking))
    prepare_device(config.hardware, config.seed)
    model = load_model(Run(folder, config, metrics, {}, reused=True), stage)
    found = evaluate.add_metrics(model, stage.data, stage.split, asked, folder) if lacking else {}
    if mixed:
        found |= shuffled_figures(model, stage.data, stage.split, config)
    if unvalidated:
        found |= {f"validation/{name}": value for name, value in task_of(stage).validate(model, config).items()}
    if LIST_METRICS in found:
        found[LIST_METRICS] = [*metrics.get(LIST_METRICS, []), *found[LIST_METRICS]]
    folder.write("metrics.json", metrics | found)


def lacks_figures(config: RunConfig, metrics: Mapping[str, Any]) -> bool:
    """Whether the figures of a finished run, which another may have asked for less, lack some that this config asks for."""
    return any(_lacking(config, metrics))


def _lacking(config: RunConfig, metrics: Mapping[str, Any]) -> tuple[list[str], bool, bool]:
    """(names of ``evaluation.metrics`` that the figures lack, whether they lack those of shuffled histories, and the validation)."""
    kind = lookup(config.model.name).model
    unvalidated = lacks_validation(config, kind, metrics)
    if config.protocol.asks_clicks or not kind.ranks:
        return [], False, unvalidated
    first, prefix = config.evaluation.cutoffs[0], config.protocol.metric_prefix
    there = metrics.get(LIST_METRICS, [])
    lacking = [
        name
        for name in config.evaluation.metrics
        if (name not in there if name in FAMILIES else f"test/{prefix}{name}@{first}" not in metrics)
    ]
    mixed = config.evaluation.shuffled_histories and f"test/{prefix}{SHUFFLED}ndcg@{first}" not in metrics
    return lacking, mixed, unvalidated
