"""What to run next: searches first, then the seeds of a row at the values that its search chose.

Every row goes its own pace. A row that uses what another one chose (``<ROW:KEY>``) waits for that row's search only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from recbench.study.definition import RUN, Row, Study
from recbench.study.jobs import FINAL, SEARCH, Job, Planner
from recbench.study.records import Record
from recbench.study.told import values_of
from recbench.study.values import as_text

logger = logging.getLogger(__name__)


class StudyPlan:
    """The jobs of a study, handed out as they become possible. told: lines of results.csv whose runs shall not be made again. asks_again: finished
    runs that lack a figure are handed out too, to be tested for it."""

    def __init__(
        self, study: Study, planner: Planner, told: Sequence[Record] = (), *, asks_again: bool = False
    ) -> None:
        self.study, self.planner, self.asks_again = study, planner, asks_again
        self.told = {record["key"]: record for record in told}
        #: row -> the chosen value of each searched key; {} for a row that searches nothing.
        self.chosen: dict[str, dict[str, str]] = {
            name: {} for name, row in study.rows.items() if not row.search and not row.tuned
        }
        if told:
            found = values_of(study, told)
            self.chosen |= {name: found[name] for name, row in study.rows.items() if row.tuned and name in found}
        #: row -> what its tuning left, as ``recbench.study.tune.result`` writes it.
        self.tunings: dict[str, dict[str, Any]] = {}
        #: row -> why it will never have final runs.
        self.dead: dict[str, str] = {}
        self.jobs: list[Job] = []
        self.failures: list[tuple[Job, str]] = []
        self._searching: dict[str, list[Job]] = {}
        self._settled: set[int] = set()
        self._final: set[str] = set()

    def available(self) -> list[Job]:
        """New jobs, in the order of the rows; whatever is finished already is settled here and not handed out."""
        found: list[Job] = []
        while new := list(self._next()):
            for job in new:
                self.jobs.append(job)
                if job.finished:
                    job.folder.check_whole()
                    if self.asks_again and not job.complete:
                        found.append(job)
                    else:
                        self.settle(job, None)
                elif job.key in self.told:
                    self.settle(job, None)
                else:
                    found.append(job)
        return found

    def _next(self) -> Iterator[Job]:
        for row in self.study.rows.values():
            if row.name in self.dead or not self._ready(row):
                continue
            if row.name in self.chosen:
                if row.name not in self._final:
                    self._final.add(row.name)
                    yield from self.planner.final_jobs(row, self.chosen[row.name], self.chosen)
            elif row.name not in self._searching and not row.tuned:
                self._searching[row.name] = self.planner.search_jobs(row, self.chosen)
                yield from self._searching[row.name]

    def _ready(self, row: Row) -> bool:
        """Whether the rows that this one refers to have chosen, and have made the runs that it goes on from; if they cannot, it is dead."""
        names = {name for name, _ in row.references()}
        for name in sorted(names & set(self.dead)):
            self.dead[row.name] = f"it needs what the search of '{name}' chooses, which failed"
            return False
        return names <= set(self.chosen) and all(
            self._has_run(row, name) for name, key in row.references() if key == RUN
        )

    def _has_run(self, row: Row, name: str) -> bool:
        """Whether all runs of the row ``name`` are over and here; over and gone, the row that goes on from them is dead."""
        made = [job for job in self.jobs if job.row == name and job.phase == FINAL]
        if not made or any(id(job) not in self._settled for job in made):
            return False
        if not all(job.finished for job in made):
            self.dead[row.name] = f"it goes on from the run of '{name}', which is not here"
        return row.name not in self.dead

    def waits_for(self, row: Row) -> list[str]:
        """The rows whose searches must choose before this one can run; none where it runs, ran, or never will."""
        if row.name in self.dead:
            return []
        return sorted({name for name, _ in row.references()} - set(self.chosen))

    def settle(self, job: Job, reason: str | None) -> None:
        """A job is finished, or failed for a reason. The last one of a search decides it."""
        self._settled.add(id(job))
        if reason is not None:
            self.failures.append((job, reason))
        if job.phase == SEARCH and all(id(other) in self._settled for other in self._searching[job.row]):
            self._choose(job.row)

    def _choose(self, row: str) -> None:
        # A value whose training failed, as too high a learning rate may, is out of the race and named at the end.
        finished = [job for job in self._searching[row] if job.finished or job.key in self.told]
        if not finished:
            self.dead[row] = "none of its searched values could be trained"
            return
        best = max(finished, key=self.validation)  # of equal ones the first in the order of the file
        self.chosen[row] = dict(best.choice)
        values = ", ".join(f"{key}={value}" for key, value in best.choice)
        logger.info(
            "chosen  %s: %s (validation %s %.4f)", row, values, best.config.evaluation.monitor, self.validation(best)
        )

    def tuned(self, row: str, found: dict[str, Any]) -> None:
        """A row's tuning is over: its best values are chosen."""
        self.tunings[row] = found
        if found.get("best") is None:
            self.dead[row] = "none of its trials was finished"
        else:
            self.chosen[row] = {key: as_text(value) for key, value in found["best"]["values"].items()}

    def is_chosen(self, job: Job) -> bool:
        """Whether a job stands at the values that its row's search chose."""
        return self.chosen.get(job.row) == dict(job.choice)

    def counts(self, runs: str = "runs") -> str:
        """How many of the runs that are known by now are finished here, and how many more results.csv tells; runs: what to call them."""
        done = sum(job.finished for job in self.jobs)
        told = sum(not job.finished and job.key in self.told for job in self.jobs)
        return f"{done} of {len(self.jobs)} {runs} finished" + (f", {told} told by results.csv" if told else "")

    def validation(self, job: Job) -> float:
        """The figure of a finished job, or of one that results.csv tells, that decides a search."""
        name = f"{job.config.protocol.metric_prefix}{job.config.evaluation.monitor}"
        if job.finished:
            return float(job.folder.read("metrics.json")[f"validation/{name}"])
        return float(self.told[job.key][f"validation_{name}"])
