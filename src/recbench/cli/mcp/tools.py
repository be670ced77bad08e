"""What the tools answer, without any protocol: plain values from finished runs. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, nearest
from recbench.core.run_folder import RunFolder, finished_run
from recbench.core.secrets import redact_values

if TYPE_CHECKING:
    from recbench.cli.recommend.model_of_run import Opened

TOOLS = ("recommend", "explain_run", "compare")
#: The longest list that is given.
MOST_ITEMS = 1000


@dataclass
class Runs:
    """The runs that may be asked for, by key, each opened when it is first asked."""

    folders: dict[str, RunFolder]
    cache_dir: Path | None = None
    raw_dir: Path | None = None
    _opened: dict[str, Opened] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Sequence[Path], cache_dir: Path | None = None, raw_dir: Path | None = None) -> Runs:
        """Raises UserError for a folder that holds no finished run."""
        folders = [finished_run(path) for path in paths]
        return cls({folder.key: folder for folder in folders}, cache_dir, raw_dir)

    def folder(self, key: str | None) -> RunFolder:
        """The run of that key, or the first one. Raises UserError for a key that was not named on the command line."""
        if key is None:
            return next(iter(self.folders.values()))
        if key not in self.folders:
            raise UserError(f"there is no run '{key}' here; {nearest(key, list(self.folders))}")
        return self.folders[key]

    def opened(self, key: str | None) -> Opened:
        from recbench.cli.recommend.model_of_run import open_model

        folder = self.folder(key)
        if folder.key not in self._opened:
            self._opened[folder.key] = open_model(folder.path, self.cache_dir, self.raw_dir)
        return self._opened[folder.key]


def recommend(
    runs: Runs,
    history: Sequence[str] | None = None,
    user: str | None = None,
    k: int = 10,
    run: str | None = None,
    times: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The best k items for a history or a known user. Raises UserError for unknown ids, and unless one of the two is given."""
    from recbench.cli.recommend.answer import named
    from recbench.cli.recommend.answer import recommend as answers_of
    from recbench.cli.recommend.histories import histories_of_users, typed_history

    if (history is None) == (user is None):
        raise UserError("give either a history (raw item ids, oldest first) or the id of a known user")
    if not 1 <= k <= MOST_ITEMS:
        raise UserError(f"k must lie in 1..{MOST_ITEMS}, not {k}")
    opened = runs.opened(run)
    data = opened.stage.data
    if user is not None:
        asked = histories_of_users(data, opened.stage.split, [user])
    else:
        asked = [typed_history(data, list(history or ()), times and list(times), None, opened.needs)]
    found = named(opened, answers_of(opened, asked, k, None))[0]
    return {"run": opened.key, "model": opened.name, **found}


def explain_run(runs: Runs, run: str | None = None) -> dict[str, Any]:
    """What a run is, what it scored and what it cost, where it comes from, and what its split must be known by."""
    folder = runs.folder(run)
    metrics, config, made = folder.read("metrics.json"), folder.config(), folder.read("provenance.json")
    figures = {name: value for name, value in metrics.items() if name.startswith(("test/", "validation/", "cost/"))}
    kept = {name: config.get(name) for name in ("seed", "model", "data", "protocol", "training", "distillation")}
    told = {
        "run": folder.key,
        "config": kept,
        "protocol": metrics.get("protocol"),
        "figures": figures,
        "audit": metrics.get("audit"),
        "ended": folder.read("status.json").get("reason"),
        "commit": made.get("commit"),
        "dependencies": metrics.get("dependencies"),
    }
    return dict(redact_values(told))


def compare(runs: Runs, metric: str = "ndcg@10", reference: str | None = None) -> list[dict[str, Any]]:
    """The runs that were named on the command line, judged against each other as by ``recbench compare``."""
    from recbench.evaluation.statistics.compare import judge
    from recbench.report.entrants import entrants_of, find_reference

    entrants = entrants_of([folder.path for folder in runs.folders.values()])
    chosen = None if reference is None else find_reference(reference, entrants)
    return [vars(verdict) for verdict in judge(entrants, metric, chosen)]
