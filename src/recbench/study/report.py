"""A report on a study: its rows and seeds, its published numbers, and what of it is still missing."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

from recbench.config.schemas import conf_dir
from recbench.core.errors import UserError
from recbench.data.download import offline
from recbench.report.build import Material
from recbench.report.collect import StoredRun, read_run
from recbench.report.rows import Row
from recbench.study.definition import Study, find_study, load_study

logger = logging.getLogger(__name__)

#: What a report needs of a final job: row, seed as text, key.
Wanted = tuple[str, str, str]


def study_material(
    name: str, words: tuple[str, ...], rewrite: bool, metric: str | None, reference: str | None, cache_dir: Path | None
) -> Material:
    """A report on the final runs of a study. words: overrides of every run, as for ``recbench.study``.

    rewrite: also write the study's own results.csv and the table of its README. Where the keys cannot be worked out because the data are
    not here, they are read from results.csv. Raises UserError for what is wrong with the study or the words.
    """
    path = find_study(name, Path.cwd(), conf_dir().parent)
    study = load_study(path)
    from recbench.study.run import study_runs_dir

    runs_dir = study_runs_dir(path, study, words)
    absent: list[tuple[str, str]] = []
    try:
        with offline():
            wanted = _planned(study, words, runs_dir, rewrite, absent)
    except UserError as error:
        wanted = _recorded(study.folder / "results.csv", study, error)
        logger.warning("the study cannot be planned here (%s); its rows are taken from results.csv", error)
    runs: list[StoredRun] = []
    owners: dict[str, str] = {}
    for row, seed, key in wanted:
        owners.setdefault(key, row)  # two rows may stand on one run
        if not (runs_dir / key).is_dir():
            absent.append((f"{row} seed {seed}", f"there is no folder {key}"))
        elif key not in {run.key for run in runs}:
            runs.append(read_run(runs_dir / key))
    if not runs:
        raise UserError(
            f"{runs_dir} holds no run of the study {study.name}; run it with: recbench study {study.name}, or say runs_dir=PATH"
        )
    about = tuple(
        filter(
            None,
            [
                study.question,
                f"{len(wanted)} final runs of the study, {sum(run.finished for run in runs)} of them finished.",
            ],
        )
    )
    return Material(
        name=study.name,
        about=about,
        runs=tuple(runs),
        rows=tuple(_rows(study, wanted, {run.key: run for run in runs})),
        absent=tuple(dict.fromkeys(absent)),
        names=owners,
        columns=study.columns,
        published=study.published,
        reference=reference or _present(study.reference, wanted, runs),
        metric=metric or _judged_metric(study),
        cache_dir=cache_dir,
    )


def _present(reference: str | None, wanted: list[Wanted], runs: list[StoredRun]) -> str | None:
    """The study's reference, if a run of it is finished."""
    finished = {run.key for run in runs if run.finished}
    return reference if any(row == reference and key in finished for row, _, key in wanted) else None


def _judged_metric(study: Study) -> str | None:
    """The study's first column, where it is a metric of the ranks of its own protocol."""
    from recbench.evaluation.metrics import METRICS

    first = study.columns[0]
    return first if first.partition("@")[0] in METRICS else None


def _planned(
    study: Study, words: tuple[str, ...], runs_dir: Path, rewrite: bool, absent: list[tuple[str, str]]
) -> list[Wanted]:
    """The final jobs of a study, worked out as the study does it."""
    from recbench.study.jobs import FINAL, Planner
    from recbench.study.plan import StudyPlan
    from recbench.study.run import drain, write_results
    from recbench.study.tuning import tune_rows

    planner = Planner(study, words, runs_dir)
    plan = StudyPlan(study, planner)
    tune_rows(study, planner, plan, 1, run=False)
    drain(plan)
    if rewrite:
        write_results(study, plan)
    absent += list(plan.dead.items())
    open_rows = [row for row in study.rows if row not in plan.chosen and row not in plan.dead]
    absent += [(row, "its search is not over") for row in open_rows]
    place = {row: i for i, row in enumerate(study.rows)}
    final = sorted((job for job in plan.jobs if job.phase == FINAL), key=lambda job: place[job.row])
    return [(job.row, str(job.seed), job.key) for job in final]


def _recorded(path: Path, study: Study, error: UserError) -> list[Wanted]:
    """The final jobs as results.csv of the study has them. Raises the error that made us look here if it has none."""
    if not path.is_file():
        raise error
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found = [
        (line["row"], line["seed"], line["key"])
        for line in lines
        if line.get("phase") == "final" and line.get("row") in study.rows and line.get("key")
    ]
    if not found:
        raise error
    return found


def _rows(study: Study, wanted: list[Wanted], runs: Mapping[str, StoredRun]) -> list[Row]:
    """Rows in the order of the study, with their finished runs. Two rows may stand on one run."""
    found = []
    for name in study.rows:
        own = [runs[key] for row, _, key in wanted if row == name and key in runs and runs[key].finished]
        if own:
            found.append(Row(name, tuple(own)))
    return found
