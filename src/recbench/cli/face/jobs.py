"""One run, and sweeps over many, from Python: the words, the keys and the machinery are those of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from recbench.cli.face.result import Result
from recbench.cli.face.words import Words, messages, own_hydra, words_of
from recbench.core import own_folder
from recbench.core.errors import UserError

if TYPE_CHECKING:
    import polars as pl

#: Tells Hydra that a sweep prints no tables, and that it leaves the caller's logging alone.
QUIET = ("++hydra.callbacks.sweep.tables=false", "hydra/hydra_logging=none")


def run(*words: Words) -> Result:
    """Find a run, or make it: train, test, and record it in its folder. Takes the keys of the command line.

        result = recbench.run("model=sasrec", "data=synthetic", "training.max_epochs=5", "tracking=off")
        result.metrics["test/ndcg@10"]

    A run that is there already is not trained again; runs that it needs, such as a teacher, are found or made first. Nothing is printed but
    messages, on stderr or where ``logging`` sends them. Raises UserError for whatever the caller can mend, such as a misspelt key.
    """
    from recbench.config.compose import compose
    from recbench.experiment.job import run_config

    _refuse_many_processes()
    with messages():
        with own_hydra():
            config = compose(tuple(_checked(words_of(words))))
        made = run_config(config)[-1]
    return Result(made.folder.path, reused=made.reused)


def sweep(*words: Words) -> Sweep:
    """A run for every combination of the values, as ``-m`` on the command line makes them.

        found = recbench.sweep("model=popularity,markov", "seed=1,2", "data=synthetic", "tracking=off")
        found.frame()               # one row a run
        found.failures              # the jobs that failed, each with its reason

    A job that fails does not stop the others. ``hydra/launcher=joblib`` runs jobs side by side, ``hardware=slurm`` on a cluster.
    Raises UserError where nothing was started, as for a misspelt key.
    """
    _refuse_many_processes()
    with messages(), own_hydra():
        records = _records(_checked(words_of(words)))
    failures = [Failure(tuple(r["overrides"]), str(r["reason"])) for r in records if r["status"]]
    done = [r for r in records if not r["status"] and r.get("folders")]
    return Sweep([Result(r["folders"][-1], reused=r.get("reused")) for r in done], failures)


@dataclass(frozen=True)
class Failure:
    """A job of a sweep that failed. words: what it was asked, such as ``("model=sasrec", "seed=2")``."""

    words: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{' '.join(self.words)}: {self.reason}"


class Sweep(Sequence[Result]):
    """The finished runs of a sweep in the order of its jobs, and the jobs that failed. Use it as a list of results."""

    def __init__(self, runs: Sequence[Result], failures: Sequence[Failure] = ()) -> None:
        self.failures = tuple(failures)
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Result]: ...
    def __getitem__(self, place: int | slice) -> Result | Sequence[Result]:
        return self._runs[place]

    def __len__(self) -> int:
        return len(self._runs)

    def frame(self) -> pl.DataFrame:
        """One row a run, as ``recbench.results`` has them; a run that two jobs ended in, as popularity has no seed, has one row."""
        from recbench.cli.face.tables import frame_of_folders

        return frame_of_folders(list(dict.fromkeys(run.folder for run in self._runs)))

    def __repr__(self) -> str:
        lines = [f"<Sweep of {len(self._runs) + len(self.failures)} jobs, {len(self.failures)} of them failed>"]
        return "\n".join([*lines, *map(repr, self._runs), *(f"failed: {failure}" for failure in self.failures)])

    def _repr_html_(self) -> str:
        from html import escape

        said = "".join(f"<p>failed: {escape(str(failure))}</p>" for failure in self.failures)
        return (str(self.frame()._repr_html_()) if self._runs else "") + said


def _checked(words: tuple[str, ...]) -> list[str]:
    """Raises UserError for what is a word of the command line alone."""
    for word in words:
        if word.startswith("-"):
            raise UserError(
                f"{word} is an option of the command line; give key=value, and use recbench.sweep(...) for -m"
            )
        if word.lstrip("+").startswith("experiment="):
            raise UserError(f"{word} asks for a study; use recbench.run_study('{word.partition('=')[2]}')")
    return list(words)


def _refuse_many_processes() -> None:
    from recbench.training.processes.ranks import launched

    if launched().world > 1:
        raise UserError(
            "torchrun and srun start the processes of one run; use them with the command line: recbench key=value ..."
        )


def _records(words: list[str]) -> list[dict[str, Any]]:
    """Run a sweep in this process, or from it; returns what its jobs said. Raises UserError where it cannot begin."""
    from hydra import initialize
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from recbench.config.compose import launcher_words, opened, plain_mistakes
    from recbench.config.hydra_source import TOP, register_sources
    from recbench.experiment import sweep as jobs

    register_sources()
    given = [*map(opened, words), *launcher_words(["-m", *words]), "hydra.mode=MULTIRUN"]
    try:
        GlobalHydra.instance().clear()
        with plain_mistakes(), jobs.plain_folder_errors(), initialize(version_base="1.3", config_path=None):
            hydra: Any = GlobalHydra.instance().hydra
            # Composed once to know the folder of the sweep, which has the time of day in its name.
            folder = hydra.compose_config(TOP, given, RunMode.MULTIRUN, with_log_configuration=False).hydra.sweep.dir
            if not any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in given):
                folder = own_folder.claim(Path(folder))
            fixed = jobs.folder_word(Path(folder))
            hydra.multirun(TOP, jobs.Outcome().job, [*given, fixed, *QUIET], with_log_configuration=False)
    finally:
        jobs.end_early()
    return jobs.read_records(Path(folder))
