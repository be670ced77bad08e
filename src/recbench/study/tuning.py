"""Rows of a study that Optuna tunes, each within the same budget: ``tune: {trials: 20}`` in study.yaml.

Each tuning is ``recbench tune`` with the row's words. Its trials are runs like any other, so the best one is the final run of its seed.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from recbench.study.definition import Row, Study
from recbench.study.jobs import Planner
from recbench.study.plan import StudyPlan
from recbench.study.tune.result import read_search
from recbench.study.tune.words import hydra_words, read_arguments
from recbench.study.values import last_of_each

logger = logging.getLogger(__name__)


def tune_rows(study: Study, planner: Planner, plan: StudyPlan, jobs: int, run: bool) -> None:
    """Tune what is to be tuned and tell the plan; without ``run`` only what was tuned before is told. Raises UserError for a row without a space."""
    for row in study.rows.values():
        if not row.tuned or row.name in plan.chosen:
            continue
        words = tune_words(study, planner, row)
        name, _ = hydra_words(read_arguments(words))
        folder = planner.runs_dir / "searches" / name
        if run and not is_done(study, read_search(folder)):
            logger.info("tune    %s", row.name)
            started = time.perf_counter()
            status = run_tuning(words, jobs, planner.runs_dir / "studies" / study.name / f"{row.name}.tune.log")
            logger.info("tuned   %s in %.0f s, status %d", row.name, time.perf_counter() - started, status)
        found = read_search(folder)
        if found and is_done(study, found):
            plan.tuned(row.name, found)
        elif run:
            plan.dead[row.name] = (
                f"its tuning ended early; see {planner.runs_dir}/studies/{study.name}/{row.name}.tune.log"
            )


def tune_words(study: Study, planner: Planner, row: Row) -> list[str]:
    """Arguments of ``recbench.study.tune`` for a row."""
    assert study.tune is not None
    words = last_of_each((f"runs_dir={planner.runs_dir}", *row.overrides, *planner.words, f"seed={study.search_seed}"))
    trials = [f"--trials={study.tune.trials}"] if study.tune.trials else []
    return [*words, *trials, f"--hours={study.tune.hours}", "--no-file"]


def is_done(study: Study, found: dict[str, Any]) -> bool:
    """Whether a tuning spent the budget of the study: one that was cut short, or had another one, goes on."""
    assert study.tune is not None
    budget = found.get("budget")
    if budget is None:
        return False
    by_trials = study.tune.trials is not None and budget["done"] == study.tune.trials
    by_time = bool(study.tune.hours) and budget["seconds_spent"] >= 3600 * study.tune.hours
    return by_trials or by_time


def run_tuning(words: list[str], jobs: int, log: Path) -> int:
    """One tuning as a process, ``jobs`` trials at a time would change what it finds, so they go one by one; returns its status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(jobs))}
    with log.open("ab") as file:
        command = [sys.executable, "-m", "recbench", "tune", *words]
        return subprocess.run(command, env={**os.environ, **threads}, stdout=file, stderr=file, check=False).returncode


def tuning_figures(plan: StudyPlan, row: str) -> dict[str, Any]:
    """Columns of results.csv and of the table for a tuned row; none for others."""
    found = plan.tunings.get(row)
    if not found or not found.get("best"):
        return {}
    budget, best = found["budget"], found["best"]
    values = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in best["values"].items())
    spent = f"{budget['done']} trials, {budget['stopped']} given up, {budget['seconds_spent'] / 3600:.2f} h"
    return {"tuned": values, "budget": spent, "best_validation": f"{best['value']:.4f}"}
