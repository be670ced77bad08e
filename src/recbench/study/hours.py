"""How many hours the missing runs of a study take: timed training steps of each row, times its epochs.

It is an upper bound, as if every training went on to ``training.max_epochs`` with one job at a time; the timing is that of this machine now.
A run that several jobs need, such as an item table, is counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.key import run_key
from recbench.experiment.step_time import StepTime, time_step
from recbench.models.registry import lookup
from recbench.study.definition import Row, Study
from recbench.study.jobs import Job, Planner
from recbench.study.plan import StudyPlan


def hour_lines(study: Study, plan: StudyPlan, missing: Sequence[Job], examples: Sequence[Job]) -> list[str]:
    """A line a row and one in total. missing: the jobs known to be missing; examples: jobs of each row whose data are here, for rows of which
    no job is known yet."""
    clock = _Clock(plan.planner)
    lines, total, spent, unknown = [], 0.0, 0.0, []
    for name, row in study.rows.items():
        done = [job for job in plan.jobs if job.row == name and job.finished]
        took = sum(_took(job) for job in done)
        spent += took
        # A model without a seed is one run for all of them.
        own = list({job.key: job for job in missing if job.row == name}.values())
        example = next(iter(own), next((job for job in examples if job.row == name), None))
        past = f"; {len(done)} finished took {_hours(took)}" if done else ""
        if example is None:
            lines.append(f"hours    {name}: unknown, its data are not here{past}")
            unknown.append(name)
            continue
        try:
            seconds, told = _of_row(study, plan, row, own, example, clock)
        except UserError as error:
            lines.append(f"hours    {name}: unknown ({error}){past}")
            unknown.append(name)
            continue
        total += seconds
        lines.append(f"hours    {name}: {told}{past}")
    but = f", and what {', '.join(unknown)} takes" if unknown else ""
    return [
        *lines,
        f"hours    total: at most {_hours(total)} one job at a time{but}; finished runs took {_hours(spent)}. "
        "Early stopping makes it less; --jobs N divides it",
    ]


def _of_row(
    study: Study, plan: StudyPlan, row: Row, own: Sequence[Job], example: Job, clock: _Clock
) -> tuple[float, str]:
    """(seconds that are missing, in words)."""
    seconds = sum(clock.seconds(job.config) for job in own)
    n = len(own)
    parts = sum(clock.parts(job.config) for job in own) if own else 0.0
    later = ""
    if row.name in plan.chosen and (others := plan.waits_for(row)):
        n = len(set(row.seeds)) if lookup(example.config.model.name).model.uses_seed else 1
        seconds, parts = n * clock.seconds(example.config), clock.parts(example.config)
        later = f" once {' and '.join(others)} {'has' if len(others) == 1 else 'have'} chosen"
    elif row.name not in plan.chosen and row.name not in plan.dead:
        n_later, seconds_later = _later(study, row, clock.seconds(example.config))
        parts += 0.0 if own else clock.parts(example.config)
        seconds, n = seconds + seconds_later, n + n_later
        later = " with those that its search still asks for"
    if n == 0:
        return 0.0, "nothing is missing"
    measured = clock.measured(example.config)
    how = "computed, not trained" if measured is None else _told(measured, example.config)
    needed = f", and {_hours(parts)} for runs that they need" if parts else ""
    return seconds + parts, f"{n} run{'s' if n > 1 else ''}{later}, at most {_hours(seconds)} ({how}){needed}"


def _later(study: Study, row: Row, seconds: float) -> tuple[int, float]:
    """(number, seconds) of runs that are not known yet: trials of a tuning, then the seeds at the chosen values."""
    finals = len(set(row.seeds) - {study.search_seed})
    if not row.tuned:
        return finals, finals * seconds
    assert study.tune is not None
    trials = study.tune.trials or 0
    of_trials = trials * seconds
    if study.tune.hours:
        of_trials = min(of_trials, 3600 * study.tune.hours) if trials else 3600 * study.tune.hours
    return finals + trials, finals * seconds + of_trials


def _told(measured: StepTime, config: RunConfig) -> str:
    return (
        f"{config.training.max_epochs} epochs of {measured.steps:,} steps of {1000 * measured.step:,.1f} ms, "
        f"and {measured.validation:.2g} s for a validation"
    )


def _took(job: Job) -> float:
    metrics = job.folder.read("metrics.json")
    return float(metrics.get("cost/wall_seconds") or metrics.get("cost/train_seconds") or 0.0)


def _hours(seconds: float) -> str:
    """
    >>> _hours(7200), _hours(300), _hours(2)
    ('2.0 h', '0.083 h', '0.00056 h')
    """
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h" if hours >= 1 else f"{hours:.2g} h"


class _Clock:
    """Times each kind of run once, and counts each run that others need once."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self._measured: dict[str, StepTime | None] = {}
        self._counted: set[str] = set()

    def measured(self, config: RunConfig) -> StepTime | None:
        """Of configs that differ by their seed or numbers that take no time, such as a learning rate, one is timed."""
        kind = repr(
            (config.model, config.data, config.protocol, config.distillation, config.compression, config.hardware)
        )
        kind += repr((config.training.batch_size, config.training.max_length, config.training.epoch_steps))
        if kind not in self._measured:
            self._measured[kind] = time_step(config, self.planner.stage(config))
        return self._measured[kind]

    def seconds(self, config: RunConfig) -> float:
        """At most, of a run itself; 0 for what is computed."""
        measured = self.measured(config)
        training = config.training
        return 0.0 if measured is None else measured.seconds(training.max_epochs, training.validate_every)

    def parts(self, config: RunConfig) -> float:
        """At most, of the unfinished runs that it needs and that were not counted before."""
        return sum(self.seconds(part) for part in self._unfinished(dependency_configs(config)))

    def _unfinished(self, parts: Mapping[str, RunConfig]) -> Iterator[RunConfig]:
        for part in parts.values():
            key = run_key(part, self.planner.stage(part))
            if key in self._counted or RunFolder(part.runs_dir / key).finished:
                continue
            self._counted.add(key)
            yield part
            yield from self._unfinished(dependency_configs(part))
