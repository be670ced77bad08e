"""What finished runs are asked once more: the metrics among sampled items, and under the other rule on seen items. Nothing is trained here.

Each leaves a small file in the run's folder, so that they are not asked twice.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from recbench.config.run import RunConfig
from recbench.core import run_folder
from recbench.core.errors import UserError
from recbench.core.run_folder import rule_file, sampled_file
from recbench.data.protocol import SampledConfig
from recbench.experiment.asking import rank_cases
from recbench.experiment.build import load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.device import prepare_device
from recbench.models.base import Recommender
from recbench.study.jobs import Job, Planner

logger = logging.getLogger(__name__)


def sampled_config(config: RunConfig, n_candidates: int) -> RunConfig:
    """The same run asked among sampled items. Raises UserError where its protocol has no cases that could be sampled for."""
    if config.protocol.name != "leave_one_out":
        raise UserError(
            f"sampled metrics are for protocol=leave_one_out, not {config.protocol.name}; set 'sampled: false' in the study"
        )
    return replace(config, protocol=SampledConfig(seen_items=config.protocol.seen_items, n_candidates=n_candidates))


def stored_model(job: Job, stage: RunContext) -> Recommender:
    """The model of a finished job with its weights, as ``experiment`` loads it."""
    return load_model(Run(job.folder, job.config, {}, {}, reused=True), stage)


def add_sampled(job: Job, planner: Planner, n_candidates: int) -> None:
    """Rank the stored weights' test targets among ``n_candidates`` sampled items each, unless that was done before."""
    _ask(job, planner, sampled_config(job.config, n_candidates), sampled_file(n_candidates), "")


def add_other_rule(job: Job, planner: Planner) -> None:
    """Rank the stored weights' test targets once more with seen items kept if the run masked them, and masked if it kept them."""
    rule = other_rule(planner.stage(job.config).split.seen_items)
    config = replace(job.config, protocol=replace(job.config.protocol, seen_items=rule))
    _ask(job, planner, config, rule_file(rule), f"{rule}_")


def other_rule(seen_items: str) -> str:
    """``keep`` for ``mask`` and the other way round."""
    return {"mask": "keep", "keep": "mask"}[seen_items]


def _ask(job: Job, planner: Planner, config: RunConfig, name: str, prefix: str) -> None:
    """Test the stored weights under the protocol of ``config`` and write the metrics into the file ``name`` of the run's folder."""
    with run_folder.locked(job.folder):
        if job.folder.read(name):
            return
        stage = planner.stage(config)
        prepare_device(config.hardware, config.seed)
        ranked = rank_cases(stored_model(job, stage), stage.data, stage.split, stage.split.test, config)
        figures: dict[str, Any] = {
            f"test/{prefix}{stage.split.metric_prefix}{metric}": value
            for metric, value in ranked.metrics(config.evaluation.cutoffs).items()
        }
        job.folder.write(name, {**figures, f"{prefix or 'sampled_'}protocol": stage.split.protocol_id})
    logger.info("asked   %s under %s", job, stage.split.protocol_id)
