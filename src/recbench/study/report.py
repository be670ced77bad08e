"""A report on a study: its rows and seeds, its published numbers, and what of it is still missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.config.schemas import conf_dir
from recbench.core.errors import UserError
from recbench.data.download import offline
from recbench.report.build import Material
from recbench.report.collect import StoredRun, read_run
from recbench.report.rows import Row
from recbench.study.definition import Study, find_study, load_study
from recbench.study.ranks_file import FILE, read_ranks_file
from recbench.study.recorded import Line, final_lines, recorded_runs

if TYPE_CHECKING:
    from recbench.study.plan import StudyPlan

logger = logging.getLogger(__name__)

#: What a report needs of a final job: row, seed as text, key.
Wanted = tuple[str, str, str]


def study_material(
    name: str, words: tuple[str, ...], rewrite: bool, metric: str | None, reference: str | None, cache_dir: Path | None
) -> Material:
    """A report on the final runs of a study. words: overrides of every run, as for ``recbench study``.

    Runs that are not here are told by the study's results.csv and ranks.npz. rewrite: also write those two and the table of the study's
    README, unless they hold runs that are not here. Raises UserError for what is wrong with the study or the words.
    """
    path = find_study(name, Path.cwd(), conf_dir().parent)
    study = load_study(path)
    from recbench.study.run import study_runs_dir, write_results

    runs_dir = study_runs_dir(path, study, words)
    lines = final_lines(study.folder / "results.csv", study)
    absent: list[tuple[str, str]] = []
    plan: StudyPlan | None = None
    try:
        with offline():
            plan = _plan(study, words, runs_dir)
        wanted = _wanted(study, plan, lines, absent)
    except UserError as error:
        if not lines:
            raise
        wanted = [(line["row"], line["seed"], line["key"]) for line in lines]
        logger.warning("the study cannot be planned here (%s); its rows are taken from results.csv", error)
    runs, owners = _collect(study, wanted, lines, runs_dir, absent)
    if rewrite and plan is not None and not any(run.recorded for run in runs):
        with offline():
            write_results(study, plan)
    if not runs:
        raise UserError(
            f"{runs_dir} holds no run of the study {study.name}, and its results.csv tells of none; run it with: "
            f"recbench study {study.name}, or say runs_dir=PATH"
        )
    return Material(
        name=study.name,
        about=tuple(filter(None, [study.question, _counts(wanted, runs)])),
        runs=tuple(runs),
        rows=tuple(_rows(study, wanted, {run.key: run for run in runs})),
        absent=tuple(dict.fromkeys(absent)),
        names=owners,
        columns=study.columns,
        published=study.published,
        references=(reference,) if reference else _present(study.references, wanted, runs),
        metric=metric or _judged_metric(study),
        cache_dir=cache_dir,
    )


def _collect(
    study: Study, wanted: list[Wanted], lines: Sequence[Line], runs_dir: Path, absent: list[tuple[str, str]]
) -> tuple[list[StoredRun], dict[str, str]]:
    """(runs, each once, from their folders or else as recorded; key -> row). What is nowhere is added to ``absent``."""
    kept = read_ranks_file(study.folder / FILE)
    owners: dict[str, str] = {}
    for row, _, key in wanted:
        owners.setdefault(key, row)  # two rows may share one run
    here = {key: read_run(runs_dir / key) for key in owners if (runs_dir / key).is_dir()}
    recorded = recorded_runs(study, lines, kept, runs_dir, [run for run in here.values() if run.finished])
    runs: dict[str, StoredRun] = {}
    for row, seed, key in wanted:
        if key in here and (here[key].finished or key not in recorded):
            run = here[key]
            # A folder may have lost its ranks; the study still has them.
            runs[key] = run if run.ranks.is_file() else replace(run, held=kept.columns(key))
        elif key in recorded:
            runs[key] = recorded[key]
        else:
            absent.append((f"{row} seed {seed}", f"there is no folder {key}, and results.csv does not tell of it"))
    return list(runs.values()), owners


def _counts(wanted: list[Wanted], runs: Sequence[StoredRun]) -> str:
    """How many runs the report is about, and where it knows them from."""
    finished = [run for run in runs if run.finished]
    recorded = sum(run.recorded for run in finished)
    said = f"{len(wanted)} final runs of the study, {len(finished)} of them finished."
    if not recorded:
        return said
    where = "None of them is" if recorded == len(finished) else f"{recorded} of these are not"
    ranks = sum(run.recorded and run.held is not None for run in finished)
    more = f" The ranks of {ranks} runs come from {FILE}." if ranks else ""
    return f"{said} {where} in the folder of runs; the figures are those of results.csv.{more}"


def _present(references: Sequence[str], wanted: list[Wanted], runs: list[StoredRun]) -> tuple[str, ...]:
    """Those of the study's references of which a run is finished."""
    finished = {run.key for run in runs if run.finished}
    there = {row for row, _, key in wanted if key in finished}
    return tuple(name for name in references if name in there)


def _judged_metric(study: Study) -> str | None:
    """The study's first column, where it is a metric of the ranks of its own protocol."""
    from recbench.evaluation.metrics import METRICS

    first = study.columns[0]
    return first if first.partition("@")[0] in METRICS else None


def _plan(study: Study, words: tuple[str, ...], runs_dir: Path) -> StudyPlan:
    """The jobs of a study, worked out as the study does it. Raises UserError where its data are not here."""
    from recbench.study.jobs import Planner
    from recbench.study.plan import StudyPlan
    from recbench.study.run import drain
    from recbench.study.tuning import tune_rows

    planner = Planner(study, words, runs_dir)
    plan = StudyPlan(study, planner)
    tune_rows(study, planner, plan, 1, run=False)
    drain(plan)
    return plan


def _wanted(study: Study, plan: StudyPlan, lines: Sequence[Line], absent: list[tuple[str, str]]) -> list[Wanted]:
    """The final jobs of a plan in the order of the rows; of a row whose search is not here, those that results.csv has."""
    from recbench.study.jobs import FINAL

    found: list[Wanted] = []
    for name in study.rows:
        planned = [job for job in plan.jobs if job.phase == FINAL and job.row == name]
        recorded = [(line["row"], line["seed"], line["key"]) for line in lines if line["row"] == name]
        found += [(job.row, str(job.seed), job.key) for job in planned] or recorded
        if not planned and not recorded:
            absent.append((name, plan.dead.get(name, "its search is not over")))
    return found


def _rows(study: Study, wanted: list[Wanted], runs: Mapping[str, StoredRun]) -> list[Row]:
    """Rows in the order of the study, with their finished runs. Two rows may share a run."""
    found = []
    for name in study.rows:
        own = [runs[key] for row, _, key in wanted if row == name and key in runs and runs[key].finished]
        if own:
            found.append(Row(name, tuple(own)))
    return found
