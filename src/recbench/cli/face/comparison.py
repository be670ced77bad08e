"""Finished runs judged against each other, as ``recbench compare`` does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.cli.face.result import Result
from recbench.core.errors import UserError

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

    from recbench.evaluation.statistics.compare import Verdict


def compare_runs(
    runs: Iterable[Result | Path | str],
    metric: str = "ndcg@10",
    reference: str | Result | Path | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Which of these runs is better, and is that more than chance? Runs that differ by the seed alone count as one.

        found = recbench.sweep("model=popularity,markov", "data=synthetic", "tracking=off")
        recbench.compare_runs(found, reference="popularity").frame()

    runs: results of ``run``, ``sweep`` or ``load``, or folders. metric: ``ndcg``, ``hr``, ``mrr``, ``recall`` or ``precision`` with a cutoff.
    reference: what the others are compared with: a model's name if only one row has it, a row's whole name, or one of its runs. resamples,
    seed: of the bootstrap over users. Raises UserError for runs of different data or protocols, and for runs that rank nothing.
    """
    from recbench.core.run_folder import RunFolder
    from recbench.evaluation.statistics.compare import judge
    from recbench.report.entrants import entrants_of, find_reference

    if isinstance(runs, str | Path):
        raise UserError(f"compare_runs takes a list of runs, as in compare_runs(['{runs}', ...])")
    folders = [run.folder if isinstance(run, Result) else Path(run).expanduser() for run in runs]
    if seed < 0:
        raise UserError(f"seed must not be negative, not {seed}")
    entrants = entrants_of(folders)
    if not entrants:
        raise UserError("there is nothing to compare; give finished runs, as from recbench.sweep(...)")
    wanted = str(reference.folder if isinstance(reference, Result) else reference) if reference is not None else None
    name = None if wanted is None else find_reference(wanted, entrants)
    verdicts = tuple(judge(entrants, metric, name, resamples, seed))
    protocol = RunFolder(entrants[0].runs[0]).read("metrics.json")["protocol"]
    return Comparison(verdicts, metric, str(protocol), name)


@dataclass(frozen=True)
class Comparison:
    """What ``compare_runs`` found. verdicts: one a row, best first; reference: the name of the row that the others are compared with."""

    verdicts: tuple[Verdict, ...]
    metric: str
    protocol: str
    reference: str | None

    def frame(self) -> pl.DataFrame:
        """One row for each that was compared, best first.

        ``name``, ``mean`` (the metric on test), ``low`` and ``high`` (its 95 % interval over users and seeds), ``seed_deviation``, ``relative``
        with ``relative_low`` and ``relative_high`` (difference to the reference as a share of it), ``p``, ``p_holm`` and ``p_fdr`` (that there
        is no difference; the latter two adjusted for all rows), ``group`` (rows that share a letter are not told apart), ``n_seeds``, ``n_users``.
        """
        import polars as pl

        numbers = ("seed_deviation", "relative", "relative_low", "relative_high", "p", "p_holm", "p_fdr")
        return pl.DataFrame([asdict(v) for v in self.verdicts], schema_overrides=dict.fromkeys(numbers, pl.Float64))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Means with their intervals, best on top, drawn with matplotlib; returns the axes, as for ``ax.figure.savefig("plot.png")``."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(6, 0.8 + 0.4 * len(self.verdicts)), layout="constrained")[1]
        for place, verdict in enumerate(self.verdicts):
            below, above = max(verdict.mean - verdict.low, 0), max(verdict.high - verdict.mean, 0)
            ax.errorbar(verdict.mean, place, xerr=[[below], [above]], fmt="o", capsize=3, color="C0")
        ax.set_yticks(range(len(self.verdicts)), [verdict.name for verdict in self.verdicts])
        ax.set_ylim(len(self.verdicts) - 0.5, -0.5)
        ax.set_xlabel(f"{self.metric} on test, with 95 % intervals")
        ax.grid(axis="x", alpha=0.3)
        return ax

    def __str__(self) -> str:
        """The table of ``recbench compare``."""
        from rich.console import Console

        from recbench.cli.compare import notes, verdict_table

        console = Console(markup=False, emoji=False, width=150, color_system=None, force_jupyter=False)
        with console.capture() as captured:
            console.print(verdict_table(self.verdicts, self.metric, self.protocol, self.reference), highlight=False)
            console.print(notes(self.verdicts), highlight=False, soft_wrap=True)
        return captured.get()

    def _repr_html_(self) -> Any:
        return self.frame()._repr_html_()
