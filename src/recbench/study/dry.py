"""``recbench study NAME --dry``: what of a study is there and what is missing. Nothing is downloaded, nothing is trained.

With ``--hours`` a few training steps of each row are timed on the prepared data, and what is missing is estimated from them
(``recbench.study.hours``); without, the command only looks at run folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbench.config.schemas import conf_dir
from recbench.data.download import offline
from recbench.study.definition import Study, find_study, load_study
from recbench.study.jobs import Job, Planner
from recbench.study.plan import StudyPlan
from recbench.study.run import check_jobs, drain, look, part_of, study_runs_dir, tuned_words
from recbench.study.told import told_records
from recbench.study.tuning import tune_rows


def dry_run(
    name: str, words: tuple[str, ...], hours: bool = False, *, rows: Sequence[str] = (), missing: bool = False
) -> int:
    """Say what is there, what is missing, and which rows lack their data; returns the exit status, 0. Raises UserError for mistakes in the
    study or the words.

    rows: those to ask about, all unless given; missing: what results.csv tells of runs that are not here is there as well.
    """
    path = find_study(name, Path.cwd(), conf_dir().parent)
    whole = load_study(path)
    study = part_of(whole, rows) if rows else whole
    planner = Planner(study, words, study_runs_dir(path, whole, words))
    plan = StudyPlan(study, planner, told_records(study.folder / "results.csv", study) if missing else [])
    with offline():
        absent, examples = look(study, planner)
        check_jobs(study, planner, examples)
        plan.dead |= absent
        tune_rows(study, planner, plan, 1, run=False)
        lacking = drain(plan)
        for line in [*tuned_words(study, examples), *_state(study, plan, lacking, absent)]:
            print(line)
        if hours:
            from recbench.study.hours import hour_lines

            for line in hour_lines(study, plan, lacking, examples):
                print(line)
        else:
            print("--dry --hours estimates how long what is missing takes")
    return 0


def _state(study: Study, plan: StudyPlan, missing: list[Job], absent: dict[str, str]) -> list[str]:
    def there(job: Job) -> str:
        return "finished" if job.finished else "missing " if job in missing else "told    "

    lines = [f"{there(job)} {job.phase:<6} {job} ({job.key})" for job in plan.jobs]
    for reason in dict.fromkeys(absent.values()):
        rows = ", ".join(row for row in absent if absent[row] == reason)
        lines.append(f"no data  {rows}: {reason}")
    waiting = [name for name, why in plan.dead.items() if name not in absent]
    lines += [f"waits    {name}: {plan.dead[name]}" for name in waiting]
    lines += [
        f"waits    {name}: for the values that {' and '.join(others)} will choose"
        for name, row in study.rows.items()
        if (others := plan.waits_for(row)) and name not in absent
    ]
    open_rows = [name for name in study.rows if name not in plan.chosen and name not in plan.dead]
    if open_rows:
        lines.append(f"to be chosen by a search, then run with every seed: {', '.join(open_rows)}")
    return [*lines, plan.counts("known runs")]
