"""One job: its runs are found or made, shown beside popularity, and sent to MLflow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recbench.config.run import RunConfig
from recbench.config.tuned import tuned_lines
from recbench.core.terminal import show, speak
from recbench.experiment.clicks import check_task
from recbench.experiment.context import FOLLOWER, Run, RunContext
from recbench.experiment.dependencies import check_dependencies, dependency_configs
from recbench.experiment.run import floors, run
from recbench.report.console import codes_tables, cold_lines, results_table
from recbench.report.notes import Entry, doubts, tuned_notes
from recbench.tracking.loggers import check_logger, is_logger
from recbench.tracking.store import NotSent
from recbench.training.processes.leader import team

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recbench.experiment.early_stop import Judge

logger = logging.getLogger(__name__)


def run_job(composed: DictConfig, in_sweep: bool = False, judge: Judge | None = None) -> list[Run]:
    """One job of a command: run it, show it, send it. Returns the runs to show, the asked one last.

    in_sweep: the process that started the sweep shows and sends its jobs.
    judge: of a search that may give it up. Raises StoppedEarly if it does, or did before, and NotSent, which holds the finished runs, where the
    disk of the tracker is full.
    """
    config = RunConfig.from_hydra(composed)
    speak()
    return run_config(config, in_sweep, judge, tables=not in_sweep)


def run_config(
    config: RunConfig, in_sweep: bool = False, judge: Judge | None = None, tables: bool = False
) -> list[Run]:
    """As ``run_job``, from a typed config. tables: print the run beside popularity and what it needs."""
    with team(config.hardware, FOLLOWER):  # one for all the runs that the job is made of
        return _run_job(config, in_sweep, judge, tables)


def _run_job(config: RunConfig, in_sweep: bool, judge: Judge | None, tables: bool) -> list[Run]:
    check_task(config)
    check_dependencies(config)
    check_logger(config.tracking)
    stage = RunContext.of(config)
    show_run_start(config, stage)
    show_tuned(config)
    made = run(config, stage, judge)
    shown = [*floors(config, stage), *made.dependencies.values(), made]
    # A run may be its own reference or stand twice among the dependencies.
    unique = list({part.folder.key: part for part in reversed(shown)}.values())[::-1]
    if tables:
        show_run(unique, stage)
    elif not in_sweep:
        for line in _doubts(_entries(unique)):
            logger.warning("%s", line)
    if config.tracking.enabled and (not in_sweep or is_logger(config.tracking)):
        from recbench.tracking.deliver import deliver

        try:
            page = deliver(config.tracking, [part.folder for part in unique])
        except NotSent as error:
            error.runs = unique
            raise
        if page:
            logger.info("compare runs: %s", page)
    return unique


def show_run_start(config: RunConfig, stage: RunContext) -> None:
    data = stage.data
    logger.info(
        "data %s: %s users, %s items, %s interactions%s; protocol %s",
        data.folder.name,
        f"{data.n_users:,}",
        f"{data.n_items:,}",
        f"{data.n_interactions:,}",
        ", {first_date} to {last_date}".format_map(data.manifest) if data.has_timestamps else ", no timestamps",
        stage.split.protocol_id,
    )


def show_tuned(config: RunConfig, role: str = "", level: int = logging.INFO) -> None:
    """Say which values come from a file, of the run and of those that it needs. role: of a run that another one needs."""
    for line in tuned_lines(config, role):
        logger.log(level, "%s", line)
    for name, part in dependency_configs(config).items():
        if name != "original":  # the same values, before they are compressed
            show_tuned(part, f"{name} ({part.model.name})")


def show_run(runs: Sequence[Run], stage: RunContext) -> None:
    """The asked run last, below popularity and its dependencies."""
    here = [one for one in runs if one.metrics.get("protocol") == runs[-1].metrics.get("protocol")]
    entries = _entries(here)
    rows = [(e.marked, e.metrics, "reused" if one.reused else "") for e, one in zip(entries, here, strict=True)]
    show(*codes_tables(rows))
    from recbench.experiment.task import task_of

    if any(name.startswith("test/") for name in rows[-1][1]):  # a tokenizer or an item table ranks nothing
        cold = cold_lines(rows[-1][1], stage.split.metric_prefix)
        show(results_table(rows, stage.split.protocol_id), task_of(stage).audit_line(), *cold)
    show(*tuned_notes(entries), *_doubts(entries))
    for part in runs:
        if part not in here:
            show(f"needed: {part.folder.path} (protocol {part.metrics.get('protocol')})")
    show(f"run: {runs[-1].folder.path}")


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """Rows of a run's table: named by their models, and by what they are to the asked run, which is the last one."""
    found = []
    for one in runs:
        role = next((name for name, part in runs[-1].dependencies.items() if part.folder.key == one.folder.key), "")
        said = (*getattr(one.config.model, "auxiliary", []), one.config.compression.label)
        detail = role or ", ".join(filter(None, said))
        by = getattr(one.config.model, "by", "")
        label = one.config.model.name + (f" by {by}" if by else "") + (f" ({detail})" if detail else "")
        found.append(Entry(label, one.config.as_dict(), one.metrics))
    return found


def _doubts(entries: Sequence[Entry]) -> list[str]:
    """On the asked run alone, against popularity; what it needs is judged where it was asked for."""
    return doubts([entries[0], entries[-1]] if len(entries) > 1 else entries)
