"""The story of one study: plan, train what is missing, ask the finished runs what else is wanted, write results and table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recbench.config.schemas import conf_dir
from recbench.config.tuned import tuned_file
from recbench.core.errors import MissingData, UserError, nearest
from recbench.data.download import offline
from recbench.models.registry import lookup
from recbench.report.notes import unequal
from recbench.study.definition import Study, find_study, load_study
from recbench.study.further_metrics import add_other_rule, add_sampled, sampled_config
from recbench.study.jobs import FINAL, Job, Planner
from recbench.study.latency import measure_latency
from recbench.study.plan import StudyPlan
from recbench.study.pool import Pool
from recbench.study.ranks_file import FILE, StudyRanks, collect_ranks, read_ranks_file, write_ranks
from recbench.study.records import Record, record_of, write_csv
from recbench.study.results import markdown, table_in, write_readme
from recbench.study.told import cells_of, kept_lines, ranks_told, told_records
from recbench.study.tuning import tune_rows, tuning_figures
from recbench.study.values import key_of

logger = logging.getLogger(__name__)

#: Names of tuned files that are still said in one line.
MANY_FILES = 8


def run_study(
    name: str,
    words: tuple[str, ...],
    jobs: int,
    *,
    table_only: bool = False,
    rows: Sequence[str] = (),
    missing: bool = False,
) -> int:
    """Run a study by name or path; words: overrides of every run; rows: those to train, all unless given; results are always of all rows.

    missing: what results.csv tells of runs that are not here is not made again.
    Returns the exit status. Raises UserError before anything is trained.
    """
    path = find_study(name, Path.cwd(), conf_dir().parent)
    whole = load_study(path)
    runs_dir = study_runs_dir(path, whole, words)
    if table_only:
        write_results(whole, finished_plan(whole, Planner(whole, words, runs_dir)))
        return 0
    study = part_of(whole, rows) if rows else whole
    planner = Planner(study, words, runs_dir)
    told = told_records(whole.folder / "results.csv", whole) if missing else []
    plan = StudyPlan(study, planner, [record for record in told if record["row"] in study.rows], asks_again=True)
    check(study, planner)
    tune_rows(study, planner, plan, jobs, run=True)
    pool = Pool(jobs, planner.runs_dir / "studies" / study.name)
    reasons: list[str] = []
    try:
        pool.run(plan)
        reasons = ask_more(study, plan, planner)
    finally:
        over = finished_plan(whole, Planner(whole, words, runs_dir)) if rows else plan
        write_results(whole, over, kept=[record["key"] for record in told])
    status = say_failures(plan, reasons)
    for line in dict.fromkeys(pool.afterwards.values()):
        logger.error("error: %s", line)
    return status or (2 if pool.afterwards else 0)


def finished_plan(study: Study, planner: Planner) -> StudyPlan:
    """A plan that was walked through with nothing trained or fetched: what is finished of a study. Rows whose data are not here are left out."""
    plan = StudyPlan(study, planner, told_records(study.folder / "results.csv", study))
    with offline():
        absent, _ = look(study, planner)
    plan.dead |= absent
    if absent:
        logger.warning("the data of these rows are not here, so nothing is known of their runs: %s", ", ".join(absent))
    tune_rows(study, planner, plan, 1, run=False)
    drain(plan)
    return plan


def look(study: Study, planner: Planner) -> tuple[dict[str, str], list[Job]]:
    """(row -> why its data are not here, jobs of the other rows: one a combination of searched values)."""
    absent: dict[str, str] = {}
    jobs: list[Job] = []
    for row in study.rows:
        try:
            jobs += planner.check([row])
        except MissingData as error:
            absent[row] = str(error).removeprefix(f"row '{row}': ")
    return absent, jobs


def part_of(study: Study, rows: Sequence[str]) -> Study:
    """A study of some of its rows, with those whose searches they use. Raises UserError for a name that is no row."""
    wanted = list(rows)
    for name in wanted:
        if name not in study.rows:
            raise UserError(f"the study has no row '{name}'; {nearest(name, study.rows)}")
        wanted += [other for other, _ in study.rows[name].references() if other not in wanted]
    return replace(study, rows={name: row for name, row in study.rows.items() if name in wanted})


def study_runs_dir(path: Path, study: Study, words: tuple[str, ...]) -> Path:
    """``runs`` beside ``experiments/``, or in the working folder for a study that lies elsewhere; runs_dir=PATH decides otherwise."""
    given = [word.split("=", 1)[1] for word in words if key_of(word) == "runs_dir"]
    given += [w.split("=", 1)[1] for row in study.rows.values() for w in row.overrides if key_of(w) == "runs_dir"]
    home = path.parent.parent
    default = home.parent if home.name == "experiments" else Path.cwd()
    return Path(given[0]).expanduser().absolute() if given else default / "runs"


def check(study: Study, planner: Planner) -> None:
    """Everything that can be known to be wrong before the first run."""
    jobs = planner.check()
    check_jobs(study, planner, jobs)
    for line in tuned_words(study, jobs):
        logger.info("%s", line)


def check_jobs(study: Study, planner: Planner, jobs: Sequence[Job]) -> None:
    """Raise UserError for a row that asks for what its model cannot give."""
    for job in jobs:
        if not ranks(job):
            if study.rows[job.row].search or job.row in study.latency.rows:
                raise UserError(
                    f"row '{job.row}': {job.config.model.name} ranks nothing, so there is no validation to search by and no latency to measure"
                )
            continue
        if study.rows[job.row].search and not job.config.evaluation.validate:
            raise UserError(f"row '{job.row}' is searched by validation: leave out evaluation.validate=false")
        if study.n_sampled:
            planner.stage(sampled_config(job.config, study.n_sampled))


def ranks(job: Job) -> bool:
    """False for a run that only serves others, such as an item tokenizer."""
    return lookup(job.config.model.name).model.ranks


def drain(plan: StudyPlan) -> list[Job]:
    """Walk through a plan without running anything; returns the jobs that are missing."""
    missing = []
    while new := plan.available():
        missing += new
        for job in new:
            if job.folder.state == "failed":  # it would be tried again; until then a search goes on without it
                plan.settle(job, str(job.folder.read("status.json").get("reason")))
    return missing


def tuned_words(study: Study, jobs: Sequence[Job]) -> list[str]:
    """What is said before anything is trained of rows with values from tuned files, and of rows without. jobs: at least one a row."""
    files: dict[str, str] = {}
    plain = []
    for job in {job.row: job for job in reversed(jobs)}.values():
        row, file = study.rows[job.row], tuned_file(job.config.as_dict())
        if file:
            files[job.row] = file
        elif not (row.search or row.tuned) and lookup(job.config.model.name).model.trains_by_gradient:
            plain.append(job.row)
    rows = [name for name in study.rows if name in files]
    if not rows:
        return []
    return [_from_files(files, rows), *([unequal([name for name in study.rows if name in plain])] if plain else [])]


def _from_files(files: Mapping[str, str], rows: Sequence[str]) -> str:
    """
    >>> _from_files({"a": "tuned/x", "b": "tuned/x"}, ["a", "b"])
    'values from tuned/x for the rows a, b'
    >>> _from_files({str(n): f"tuned/{n}" for n in range(60)}, [str(n) for n in range(60)])
    'values from 60 tuned files for 60 rows; the table names them'
    """
    named = list(dict.fromkeys(files[name] for name in rows))
    if len(named) > MANY_FILES:
        return f"values from {len(named)} tuned files for {len(rows)} rows; the table names them"
    return f"values from {', '.join(named)} for the rows {', '.join(rows)}"


def ask_more(study: Study, plan: StudyPlan, planner: Planner) -> list[str]:
    """Metrics of other protocols, then latency with nothing else on the machine. Returns why some of it could not be had."""
    reasons = []
    final = [job for job in plan.jobs if job.phase == FINAL and job.finished and ranks(job)]
    for job in final:
        try:
            if study.n_sampled:
                add_sampled(job, planner, study.n_sampled)
            if study.both_rules:
                add_other_rule(job, planner)
        except UserError as error:
            reasons.append(f"further metrics of {job}: {error}")
    for job in final:
        if job.row in study.latency.rows:
            try:
                measure_latency(job, planner, study.latency)
            except UserError as error:
                reasons.append(f"latency of {job}: {error}")
    return reasons


def write_results(study: Study, plan: StudyPlan, kept: Sequence[str] = ()) -> None:
    """results.csv, ranks.npz and the table, of all that is finished, in the order of the rows.

    kept: keys of runs whose lines stay as they are although the runs are here, made again for others that stand on them.
    """
    jobs = [job for job in plan.jobs if job.finished and job.key not in kept]
    records = [record_of(job, plan.is_chosen(job), study) | tuning_figures(plan, job.row) for job in jobs]
    records = in_order(study, [*records, *kept_lines(study, plan.planner, records)])
    write_csv(study.folder / "results.csv", records)
    ranks = keep_ranks(study, [job for job in jobs if job.phase == FINAL], ranks_told(records))
    earlier = cells_of(table_in(study.folder / "README.md"))
    table = markdown(study, records, plan.planner.runs_dir, ranks, earlier)
    print(table)
    if write_readme(study.folder / "README.md", table):
        logger.info("table written to %s", study.folder / "README.md")
    logger.info("results: %s", study.folder / "results.csv")


def in_order(study: Study, records: Sequence[Record]) -> list[Record]:
    """By row as the study has them, searches before final runs, seeds upwards."""
    place = {name: i for i, name in enumerate(study.rows)}
    return sorted(records, key=lambda r: (place[r["row"]], r["phase"] == FINAL, r["seed"]))


def keep_ranks(study: Study, final: Sequence[Job], told: Sequence[tuple[str, str]] = ()) -> StudyRanks:
    """Write ranks.npz, and return what it holds. Results never wait for it: what is wrong with it is said, and that is all."""
    path = study.folder / FILE
    try:
        earlier = read_ranks_file(path)
    except UserError as error:
        logger.warning("%s", error)
        earlier = StudyRanks()
    kept = collect_ranks(final, earlier, told)
    try:
        if kept.groups:
            write_ranks(path, kept)
    except UserError as error:
        logger.warning("%s was not written: %s", FILE, error)
    return kept


def say_failures(plan: StudyPlan, more: list[str]) -> int:
    """Name what failed, last, where it is seen. Returns the exit status."""
    lines = [f"{job} ({job.key}): {reason}" for job, reason in plan.failures]
    lines += [f"{row}: no final run, because {reason}" for row, reason in plan.dead.items()]
    for line in [*lines, *more]:
        logger.error("failed: %s", line)
    logger.info("%s", plan.counts())
    return 1 if lines or more else 0
