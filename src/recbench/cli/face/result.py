"""A finished run in Python: figures, ranks, the trained model and what it recommends. Everything is read when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError
from recbench.core.run_files import Damaged
from recbench.core.run_folder import finished_run

if TYPE_CHECKING:
    import polars as pl

    from recbench.cli.face.frames import Data
    from recbench.cli.recommend.histories import History
    from recbench.cli.recommend.model_of_run import Opened
    from recbench.config.run import RunConfig
    from recbench.models.base import Recommender

#: Figures of the short form of a result.
SHOWN = ("ndcg@10", "hr@10", "mrr", "coverage@10")

Id = str | int
Time = str | int | date | datetime


def load(folder: Path | str, *, cache_dir: Path | str | None = None, raw_dir: Path | str | None = None) -> Result:
    """The finished run in a folder, such as ``runs/sasrec-3f9c2b71a0d4``.

        result = recbench.load("runs/sasrec-3f9c2b71a0d4")
        result.metrics["test/ndcg@10"]

    cache_dir, raw_dir: where the prepared and the raw data are by now, if not where the run found them; read for ``model``, ``data`` and
    ``recommend`` alone. Raises UserError if the folder holds no finished run.
    """
    return Result(folder, cache_dir=cache_dir, raw_dir=raw_dir)


class Result:
    """One finished run. ``run`` and ``load`` return it; nothing of it can be changed.

    folder: where it lies; key: the name of that folder; reused: True if ``run`` found it, False if ``run`` made it, None if it was loaded.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        reused: bool | None = None,
        cache_dir: Path | str | None = None,
        raw_dir: Path | str | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.reused = reused
        self._run = finished_run(self.folder)
        self._cache_dir, self._raw_dir = (None if p is None else Path(p) for p in (cache_dir, raw_dir))

    @property
    def key(self) -> str:
        """Names everything that changes the result, such as ``sasrec-3f9c2b71a0d4``."""
        return self._run.key

    @cached_property
    def name(self) -> str:
        """What a person calls it, such as ``sasrec seed 1``."""
        return run_name(self._run.config())

    @cached_property
    def config(self) -> RunConfig:
        """Everything that was chosen, typed: ``result.config.training.lr``."""
        from recbench.config.run import RunConfig

        return RunConfig.from_dict(self._run.config())

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Final figures by name: ``test/ndcg@10``, ``validation/mrr``, ``cost/train_seconds``, and the protocol's id as ``protocol``."""
        return self._run.read("metrics.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where it comes from: commit, versions, machine, hashes of data and split."""
        return self._run.read("provenance.json")

    @cached_property
    def ranks(self) -> pl.DataFrame:
        """One row a test target: ``case``, ``user``, ``target``, ``rank`` (1 is best), ``n_equal`` (items with the target's score),
        ``truncated`` (the model's list ended before it), ``history_length``.

        ``user`` and ``target`` are numbers of the prepared data. Their raw ids:

            result.ranks.join(result.data.users, on="user").join(result.data.items, left_on="target", right_on="item_id")

        Raises UserError for a run that ranks nothing, such as an item tokenizer.
        """
        import polars as pl

        if not self._run.ranks.is_file():
            raise UserError(f"{self.key} ranks nothing, so it has no ranks")
        try:
            return pl.read_parquet(self._run.ranks)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Damaged(self._run.ranks, "is damaged") from error

    @cached_property
    def curve(self) -> pl.DataFrame:
        """One row an epoch: training loss, validation metrics, seconds. Empty for a model that is computed in one go."""
        import polars as pl

        return pl.DataFrame(self._run.history(), infer_schema_length=None)

    @cached_property
    def dependencies(self) -> dict[str, Result]:
        """The runs that it was made with, by their role: ``teacher``, ``item_table``. Raises UserError if one of them was removed."""
        return {role: load(self.folder.parent / key) for role, key in self.metrics.get("dependencies", {}).items()}

    @cached_property
    def data(self) -> Data:
        """What it was trained and tested on. Raises UserError if the data are gone, or are others by now."""
        from recbench.cli.face.frames import Data
        from recbench.cli.recommend.model_of_run import config_of_run, stage_of_run

        config = config_of_run(self._run, self._cache_dir, self._raw_dir)
        return Data(stage_of_run(self._run, config))

    @property
    def model(self) -> Recommender:
        """The trained model, a torch module in evaluation mode on the CPU, without gradients. Raises UserError as ``data`` does."""
        return self._opened.model

    @cached_property
    def _opened(self) -> Opened:
        from recbench.cli.recommend.model_of_run import open_model

        return open_model(self.folder, self._cache_dir, self._raw_dir)

    def recommend(
        self,
        user: Id | Sequence[Id] | None = None,
        history: Sequence[Id] | Sequence[Sequence[Id]] | None = None,
        k: int = 10,
        *,
        times: Sequence[Any] | None = None,
        behaviours: Sequence[Any] | None = None,
        mask_seen: bool | None = None,
        as_in_test: bool = False,
    ) -> pl.DataFrame:
        """The k best items for users of the data, or for histories that you give; raw ids in, raw ids out.

            result.recommend(user="A1YJEY40YUW4SE")
            result.recommend(user=["A1YJEY40YUW4SE", "A60XNB876KYML"], k=5)
            result.recommend(history=["7806397051", "9759091062"])       # oldest first
            result.recommend(history=[["7806397051"], ["9759091062"]])   # two histories

        times, behaviours: one an item of the history, for models that read them. mask_seen: leave out items of the history; None: as in the
        protocol of the run. as_in_test: of a user, only what came before the test target.

        Returns a frame with the columns ``user`` (or ``history``, counted from 0), ``rank``, ``item``, ``title`` and ``score``, best first.
        Raises UserError for unknown users and items, and for times or behaviours that are missing.
        """
        from recbench.cli.recommend.answer import recommend

        if (user is None) == (history is None):
            raise UserError(
                "give either a user or a history, as in recommend(user='17') or recommend(history=['a', 'b'])"
            )
        if k < 1:
            raise UserError(f"k must be at least 1, not {k}")
        labels: list[Any]
        if user is not None:
            labels, histories = self._of_users(user, as_in_test)
        else:
            labels, histories = self._of_histories(history or [], times, behaviours)
        answers = recommend(self._opened, histories, k, mask_seen)
        return _frame("history" if user is None else "user", labels, self._opened, answers)

    def _of_users(self, user: Id | Sequence[Id], as_in_test: bool) -> tuple[list[Any], list[History]]:
        from recbench.cli.recommend.histories import histories_of_users

        names = [str(user)] if isinstance(user, str | int) else [str(one) for one in user]
        stage = self._opened.stage
        return list(names), histories_of_users(stage.data, stage.split, names, as_in_test)

    def _of_histories(
        self, history: Sequence[Any], times: Sequence[Any] | None, behaviours: Sequence[Any] | None
    ) -> tuple[list[Any], list[History]]:
        from recbench.cli.recommend.histories import typed_history

        if isinstance(history, str):
            raise UserError(f"a history is a list of items, as in history=['{history}']")
        several = bool(history) and not isinstance(history[0], str | int)
        given = (
            [history, times, behaviours]
            if several
            else [None if p is None else [p] for p in (history, times, behaviours)]
        )
        n = len(history) if several else 1
        columns = []
        for name, part in zip(("history", "times", "behaviours"), given, strict=True):
            if part is not None and len(part) != n:
                raise UserError(f"{len(part)} {name} for {n} histories; give one list a history, in the same order")
            columns.append([None] * n if part is None else [[_text(value) for value in row] for row in part])
        opened = self._opened
        histories = [
            typed_history(opened.stage.data, items or [], clock, kinds, opened.needs)
            for items, clock, kinds in zip(*columns, strict=True)
        ]
        return list(range(n)), histories

    def _shown(self) -> dict[str, float]:
        """A few test figures, under whatever prefix the protocol gives them."""
        found = {}
        for name in SHOWN:
            fitting = [key for key in self.metrics if key.startswith("test/") and key.endswith(name)]
            if fitting:
                found[fitting[0].removeprefix("test/")] = float(self.metrics[fitting[0]])
        return found

    def __repr__(self) -> str:
        figures = "".join(f", {name} {value:.4f}" for name, value in self._shown().items())
        return f"<Result {self.key}: {self.name}, {self._run.config()['data']['name']}{figures}>"

    def _repr_html_(self) -> str:
        facts = [self.name, str(self._run.config()["data"]["name"]), str(self.metrics.get("protocol", ""))]
        heads = "".join(f"<th>{escape(name)}</th>" for name in self._shown())
        cells = "".join(f"<td>{value:.4f}</td>" for value in self._shown().values())
        title = escape(", ".join(filter(None, facts)))
        return (
            f"<p><b>{title}</b><br><code>{escape(str(self.folder))}</code></p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
        )


def run_name(config: Mapping[str, Any]) -> str:
    """What a person calls a run, from its config as plain values.

    >>> run_name({"model": {"name": "slmrec"}, "distillation": {"name": "slmrec"}, "seed": 2})
    'slmrec (slmrec distillation) seed 2'
    """
    distillation, compression = (config.get(part, {}).get("name", "none") for part in ("distillation", "compression"))
    details = [
        *config["model"].get("auxiliary", []),
        *([f"{distillation} distillation"] if distillation != "none" else []),
        *([compression] if compression != "none" else []),
    ]
    return str(config["model"]["name"]) + (f" ({', '.join(details)})" if details else "") + f" seed {config['seed']}"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _frame(label: str, labels: Sequence[Any], opened: Opened, answers: Sequence[Any]) -> pl.DataFrame:
    import polars as pl

    table = opened.stage.data.item_table()
    counts = [len(answer.items) for answer in answers]
    items = [item for answer in answers for item in answer.items]
    chosen = table.select("item", "title")[[item - 1 for item in items]]
    return pl.DataFrame(
        {
            label: [name for name, count in zip(labels, counts, strict=True) for _ in range(count)],
            "rank": [place for count in counts for place in range(1, count + 1)],
            "item": chosen["item"],
            "title": chosen["title"],
            "score": [score for answer in answers for score in answer.scores],
        },
        schema_overrides={label: pl.Int64 if label == "history" else pl.String, "rank": pl.Int64, "score": pl.Float64},
    )
