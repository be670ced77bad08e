"""The story of one run: prepare, find what it needs, build, fit, test, record.

The recursion over dependencies lives here: an item table or a teacher is a run like any other, found by its key or made first.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.config.settings import TunedConfig
from recbench.core import run_folder
from recbench.core.run_folder import RunFolder
from recbench.evaluation.cost.estimated_energy import estimated_energy
from recbench.experiment import copies
from recbench.experiment.added_later import add_metrics
from recbench.experiment.added_up import beside, started_from, with_dependencies
from recbench.experiment.build import build_model, builder
from recbench.experiment.clicks import check_task, protocol_id
from recbench.experiment.context import FOLLOWER, Run, RunContext
from recbench.experiment.dependencies import check_lists, check_requirements, check_users, dependency_configs
from recbench.experiment.device import reads_energy
from recbench.experiment.failures import plain_failures
from recbench.experiment.key import run_key
from recbench.experiment.list_figures import check_list_metrics
from recbench.experiment.produce import produce
from recbench.experiment.untaught import check_retriever, check_teacher
from recbench.experiment.warm_start import check_source
from recbench.models.registry import lookup
from recbench.training.processes.leader import together

if TYPE_CHECKING:
    from recbench.experiment.early_stop import Judge

logger = logging.getLogger(__name__)


def run(
    config: RunConfig, stage: RunContext | None = None, judge: Judge | None = None, made_for: str | None = None
) -> Run:
    """Find the run of a config, or make it. Raises UserError for whatever the user can mend.

    judge: of a search that may give this run up, though none of those that it needs; then StoppedEarly is raised. made_for: key of the run
    that needs this one; None if it was asked for.
    """
    check_task(config)
    stage = stage or RunContext.of(config)
    check_requirements(config, stage.data)
    check_lists(config, stage)
    check_users(config, stage)
    check_list_metrics(config, stage.data)
    check_source(config)
    wanted = dependency_configs(config)
    key = run_key(config, stage)
    if judge is not None:
        judge.refuse_stopped(RunFolder(config.runs_dir / key))
    if key in stage.made:
        stage.made[key].folder.note_wish(made_for, is_new=False)
        return stage.made[key]
    if wanted and not RunFolder(config.runs_dir / key).finished:
        try_out(config, stage)
    # The dependencies' own locks are taken and released before ours, so no two processes can wait for each other.
    needed = {name: run(part, stage.of_part(part), made_for=key) for name, part in wanted.items()}
    check_teacher(config, needed, stage, reference)
    check_retriever(config, needed, stage, reference)
    folder = run_folder.open_folder(config.runs_dir, key)
    with run_folder.locked(folder):
        reused = folder.finished or copies.fetch(folder)
        folder.note_wish(made_for, is_new=not reused)
        if not reused:
            with run_folder.recording(folder), shared(config, needed, folder):
                make(config, stage, needed, folder, judge)
        else:
            folder.check_whole()
            logger.info("%s is there already", key)
            add_metrics(config, stage, folder)
        copies.send(folder)
    stage.made[key] = Run(folder, config, folder.read("metrics.json"), needed, reused)
    return stage.made[key]


def shared(config: RunConfig, needed: Mapping[str, Run], folder: RunFolder) -> AbstractContextManager[None]:
    """Has the other processes of the hardware, if there are any, ``produce`` the same run. What is computed in one go is not shared."""
    if config.compression.name != "none" or not lookup(config.model.name).model.trains_by_gradient:
        return contextlib.nullcontext()
    keys = {name: part.folder.key for name, part in needed.items()}
    message = {"config": config.as_dict(), "key": folder.key, "needed": keys}
    return together(
        config.hardware, FOLLOWER, message, on_lost=lambda reason: folder.set_state("failed", reason=reason)
    )


def try_out(config: RunConfig, stage: RunContext) -> None:
    """Build, on random weights, what a run will need its dependencies for: a backbone that is not to be had, or layers that cannot be
    compressed, are known before anything is trained."""
    if config.compression.name == "none":
        build_model(config, stage, {})
    else:
        config.compression.try_out(config.model, builder(config, stage))


def make(
    config: RunConfig, stage: RunContext, needed: Mapping[str, Run], folder: RunFolder, judge: Judge | None = None
) -> None:
    """Train, or compress, and test one run into its folder; called with its lock held."""
    from recbench.experiment.provenance import exit_reason, provenance

    started = time.perf_counter()
    folder.write("config.yaml", config.as_dict())
    folder.write(
        "provenance.json", provenance(config, stage.data, stage.split, {n: r.folder.key for n, r in needed.items()})
    )
    estimates = config.hardware.estimate_energy and not reads_energy(config.hardware)
    with plain_failures(folder.key), estimated_energy(estimates) as energy:
        found = produce(config, stage, needed, folder, judge)
    found |= energy
    found["cost/wall_seconds"] = time.perf_counter() - started
    metrics = {
        **found,
        **with_dependencies(found, {**needed, **started_from(config)}),
        "protocol": protocol_id(config, stage.split),
        "audit": stage.split.audit,
        "oracle": stage.data.manifest.get("extra", {}).get("oracle", {}),
        "dependencies": {
            name: part.folder.key for name, part in {**needed, **beside(started_from(config), config)}.items()
        },
    }
    folder.write("metrics.json", metrics)
    folder.set_state("finished", reason=exit_reason(config, found))
    folder.resume_checkpoint.unlink(missing_ok=True)


def reference(config: RunConfig, stage: RunContext) -> Run:
    """The popularity run on the same data and protocol: the floor that stands beside every table."""
    model, _ = compose_model({"model": "popularity"}, "reference", config.data.name)
    return run(config.uncompressed().undistilled(model=model, tuned=TunedConfig()), stage)


#: What the models that stand beside every table of clicks count by.
CLICK_FLOORS = ("nothing", "item", "pair")


def floors(config: RunConfig, stage: RunContext) -> list[Run]:
    """What a run is shown beside: popularity, or under ``protocol=clicks`` the three counters."""
    if not config.protocol.asks_clicks:
        return [reference(config, stage)] if lookup(config.model.name).model.ranks else []
    found = []
    for by in CLICK_FLOORS:
        model, _ = compose_model({"model": "click_rate", "by": by}, "reference", config.data.name)
        found.append(run(replace(config, model=model, tuned=TunedConfig()), stage))
    return found


def open_run(path: Path) -> tuple[Run, RunContext]:
    """A finished run by its folder, with its data. Raises UserError if it is none."""
    folder = run_folder.finished_run(path)
    config = RunConfig.from_dict(folder.config())
    stage = RunContext.of(config)
    return Run(folder, config, folder.read("metrics.json"), {}, reused=True), stage
