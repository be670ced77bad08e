"""Jobs of a study: one row, one seed, one choice of searched values; composed in this process, so that each is known by its run key.

Knowing the key before anything is trained tells what is finished, which jobs are the same run, and which runs several jobs stand on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from recbench.config.compose import compose
from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import check_dependencies, check_requirements, dependency_configs
from recbench.experiment.key import run_key
from recbench.study.definition import REFERENCE, RUN, Row, Study
from recbench.study.values import key_of, last_of_each

SEARCH, FINAL = "search", "final"


@dataclass(frozen=True)
class Job:
    """One run of a study. words: its command line; needs: keys of the runs it stands on, and of those that they stand on."""

    row: str
    phase: str
    seed: int
    choice: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    config: RunConfig
    key: str
    dependencies: tuple[tuple[str, str], ...]
    needs: frozenset[str]

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.config.runs_dir / self.key)

    @property
    def finished(self) -> bool:
        return self.folder.finished

    @property
    def complete(self) -> bool:
        """Whether the run is finished and has all figures that its row asks for; one that was made for another row may lack some."""
        if not self.finished or self.phase != FINAL:
            return self.finished
        from recbench.experiment.added_later import lacks_figures

        return not lacks_figures(self.config, self.folder.read("metrics.json"))

    def __str__(self) -> str:
        values = "".join(f" {key}={value}" for key, value in self.choice)
        return f"{self.row} seed {self.seed}{values}"


#: (config, key, direct dependencies, keys of all) of a command line.
Composed = tuple[RunConfig, str, tuple[tuple[str, str], ...], frozenset[str]]


class Planner:
    """Makes jobs of rows. Data and split of equal configs are read once, and each command line is composed once."""

    def __init__(self, study: Study, words: tuple[str, ...], runs_dir: Path) -> None:
        self.study, self.words, self.runs_dir = study, words, runs_dir
        self._stages: dict[str, RunContext] = {}
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._check_words()

    def _check_words(self) -> None:
        searched = {key for row in self.study.rows.values() for key in row.search}
        for word in self.words:
            if key_of(word) in searched:
                raise UserError(f"{key_of(word)} is what the study {self.study.name} searches; change its study.yaml")
            if key_of(word) == "seed":
                raise UserError(f"the seeds of the study {self.study.name} stand in its study.yaml")

    def stage(self, config: RunConfig) -> RunContext:
        """Data and split of a config."""
        return RunContext.among(self._stages, config)

    def search_jobs(self, row: Row, chosen: Mapping[str, Mapping[str, str]]) -> list[Job]:
        """One job for each combination of the searched values. chosen: row -> key -> value, of rows that are done with their search."""
        return [self.job(row, SEARCH, self.study.search_seed, choice, chosen) for choice in choices(row)]

    def final_jobs(self, row: Row, choice: Mapping[str, str], chosen: Mapping[str, Mapping[str, str]]) -> list[Job]:
        """One job a seed, all with the chosen values."""
        return [self.job(row, FINAL, seed, choice, chosen) for seed in row.seeds]

    def job(
        self, row: Row, phase: str, seed: int, choice: Mapping[str, str], chosen: Mapping[str, Mapping[str, str]]
    ) -> Job:
        """A job, composed and checked. Raises UserError that names the row."""
        own = [
            REFERENCE.sub(lambda found: self._referred(found[1], found[2], seed, chosen), word)
            for word in row.overrides
        ]
        values = [f"{key}={value}" for key, value in choice.items()]
        shared = [
            word for word in self.words if not (key_of(word) == "data.raw_dir" and _is_generated(own, self.words))
        ]
        words = last_of_each((f"runs_dir={self.runs_dir}", *own, *shared, *values, f"seed={seed}"))
        if words not in self._composed:
            try:
                self._composed[words] = self._compose(words)
            except UserError as error:
                # Of its own kind, so that data that are not here can be told from a mistake.
                raise type(error)(f"row '{row.name}': {error}") from error
        return Job(row.name, phase, seed, tuple(choice.items()), words, *self._composed[words])

    def _compose(self, words: tuple[str, ...]) -> Composed:
        config = compose(words)
        check_dependencies(config)
        stage = self.stage(config)
        check_requirements(config, stage.data)
        direct, needs = self._keys_below(config, stage)
        return config, run_key(config, stage), direct, needs

    def _referred(self, name: str, key: str, seed: int, chosen: Mapping[str, Mapping[str, str]]) -> str:
        """What ``<ROW:KEY>`` stands for: a value that the row chose, or the key of its run."""
        if key != RUN:
            return chosen[name][key]
        return self.job(self.study.rows[name], FINAL, seed, chosen[name], chosen).key

    def _keys_below(self, config: RunConfig, stage: RunContext) -> tuple[tuple[tuple[str, str], ...], frozenset[str]]:
        """((role, key) of the direct dependencies, keys of all)."""
        direct, needs = [], set()
        for role, part in dependency_configs(config).items():
            below = stage.of_part(part)
            key = run_key(part, below)
            direct.append((role, key))
            needs |= {key} | self._keys_below(part, below)[1]
        return tuple(direct), frozenset(needs)

    def check(self, rows: Iterable[str] | None = None) -> list[Job]:
        """Every row's jobs for one seed, composed so that a mistake in the last row is told before the first one is trained. rows: only these."""
        # What other rows will choose is not known yet; for a check any of their values will do.
        chosen = {name: next(choices(other)) for name, other in self.study.rows.items()}
        return [
            self.job(row, FINAL, row.seeds[0], choice, chosen)
            for row in self.study.rows.values()
            if rows is None or row.name in rows
            for choice in choices(row)
        ]


def choices(row: Row) -> Iterator[dict[str, str]]:
    """Every combination of the searched values; a single empty one where nothing is searched."""
    for values in product(*row.search.values()):
        yield dict(zip(row.search, values, strict=True))


def _is_generated(*words: Sequence[str]) -> bool:
    """Whether these words of a command choose generated data, which have no raw files: a study may have rows of both kinds."""
    named = [word for part in words for word in part if key_of(word) == "data"]
    return named[-1:] == ["data=synthetic"]
