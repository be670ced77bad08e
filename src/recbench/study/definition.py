"""What a study is: the strict reader of ``experiments/<name>/study.yaml``.

    question: one sentence
    shared: {name: [overrides]}          # lists to be used below through YAML anchors; nothing else reads them
    base: [overrides]                    # of every row, in the words of the command line
    seeds: [1, 2, 3]
    search: {training.lr: [1e-3, 3e-3]}  # every row gets the same search on search_seed; validation decides
    search_seed: 1
    tune: {trials: 20, hours: 1}         # or every row is tuned by Optuna within this budget, over conf/tuning/<model>.yaml
    rows:
      plain: [model=slmrec_plain]
      other: {overrides: [...], seeds: [1], search: {}}   # a row with seeds or a search of its own; tune: false leaves it as it is
    reference: plain                     # the row that the others are compared with; a list: in each table the first of them that is in it
    columns: [ndcg@10, hr@10]            # of the Markdown table; rows are compared by the first one; of item codes tokenizer/distinct and so on,
                                         # of attacks attack/t_hr@50, of seldom met items tail/ndcg@10
    published: [{label: ..., ndcg@10: 0.05, source: ..., beside: plain}]   # in the table of that row; else in that of the reference
    sampled: true                        # final rows also get the metrics among 999 sampled items
    both_rules: true                     # and those with seen items kept where they were masked, or masked where kept: columns keep_*, mask_*
    latency: {rows: [plain], batch_size: 128, threads: 1}

A value of the form ``<ROW:KEY>`` stands for what the search of another row chose for KEY, as in
``distillation.teacher.training.lr=<teacher:training.lr>``; ``<ROW:run>`` for the run of another row with the same seed, once it is finished, as in
``training.init_from=<plain:run>``. Overrides may lie in nested lists; of two that set one key, the later one holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.config.foreign import refuse_foreign_word
from recbench.core.errors import UserError, nearest
from recbench.report.columns import BY_NAME
from recbench.study.values import (
    as_flag,
    as_mapping,
    as_names,
    as_search,
    as_seeds,
    as_words,
    key_of,
    last_of_each,
    read_yaml,
    refuse_unknown,
)

REFERENCE, RUN = re.compile(r"<([^<>:]+):([^<>:]+)>"), "run"
METRIC = re.compile(
    r"(validation_|sampled\d+_|keep_|mask_|popularity_order_|retriever_order_|shuffled_|rewarded_)*"
    r"(ndcg|hr|mrr|coverage|gini|novelty|mean_popularity|recall|precision)(@\d+)?"
    r"|(sampled\d+_)?((ild|calibration)_[a-z]+|disparity_[a-z0-9_]+)@\d+|(sampled\d+_)?(arp|aplt|tail_recall|serendipity|(day_)?stability)@\d+"
    r"|(validation_)?(auc|gauc|gauc_rows|logloss|ne|calibration|ece)(:\w+)?"  # of clicks
    r"|(sampled\d+_)?candidate_recall"  # of rerankers: targets that are among the reordered items
    r"|reward_in_lists@\d+"  # of data whose behaviours are worth something
    r"|tokenizer/[a-z_]+\d*"  # of rows that make item codes
    r"|(attack|tail|cold)/[a-z_]+(@\d+)?"  # of promoted items under an attack, and of targets whose item is met seldom or never in training
    r"|share_of_best"  # of the best achievable score of generated data, of the first column
)


#: Starts of the names of figures that stand in metrics.json under these very names.
OWN_NAMES = ("tokenizer/", "attack/", "tail/", "cold/")


@dataclass(frozen=True)
class Row:
    """One line of the final table. search: key -> values to try, as text; empty: nothing is searched. tuned: Optuna looks for its values."""

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    search: Mapping[str, tuple[str, ...]]
    tuned: bool = False

    def references(self) -> list[tuple[str, str]]:
        """(row, key) of every ``<ROW:KEY>`` among the overrides."""
        return [(m[1], m[2]) for word in self.overrides for m in REFERENCE.finditer(word)]


@dataclass(frozen=True)
class Latency:
    """Which rows are timed at the end, and how: users of a batch, CPU threads of the one process."""

    rows: tuple[str, ...] = ()
    batch_size: int = 128
    threads: int = 1


@dataclass(frozen=True)
class Budget:
    """What the tuning of each row may take: trials, and hours of training (0: no limit)."""

    trials: int | None = 20
    hours: float = 0.0


@dataclass(frozen=True)
class Study:
    """A study, checked. references: rows that others are compared with, one a table. n_sampled: negatives of the additional sampled metrics, 0 for
    none. both_rules: ask under the other rule too."""

    name: str
    folder: Path
    question: str
    rows: Mapping[str, Row]
    search_seed: int
    columns: tuple[str, ...]
    references: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()
    n_sampled: int = 0
    both_rules: bool = False
    latency: Latency = field(default_factory=Latency)
    tune: Budget | None = None


KEYS = {
    "question", "shared", "base", "seeds", "search", "search_seed", "rows", "reference", "columns", "published", "sampled", "both_rules", "latency",
    "tune",
}  # fmt: skip


def find_study(name: str, around: Path, checkout: Path) -> Path:
    """The study.yaml of a name or path: a file, a folder, or a folder of ``experiments/`` in ``around`` or in our checkout."""
    given = Path(name).expanduser()
    homes = list(dict.fromkeys([around / "experiments", checkout / "experiments"]))
    for path in (given, given / "study.yaml", *(home / name / "study.yaml" for home in homes)):
        if path.is_file():
            return path.absolute()
    known = sorted({path.parent.name for home in homes for path in home.glob("*/study.yaml")})
    raise UserError(f"there is no study '{name}'; {nearest(name, known)}; or give the path of a study.yaml")


def load_study(path: Path) -> Study:
    """Read and check a study. Raises UserError, with the nearest right name, for whatever does not belong."""
    raw = read_yaml(path)
    refuse_unknown(raw, KEYS, f"{path.parent.name}: study key")
    rows = as_mapping(raw.get("rows"), "rows")
    if not rows:
        raise UserError(f"the study {path} has no rows; give at least one, as in 'rows: {{plain: [model=sasrec]}}'")
    for name, words in as_mapping(raw.get("shared"), "shared").items():
        _refuse_foreign(as_words(words, f"shared.{name}"), path)
    base = as_words(raw.get("base"), "base")
    seeds, search = as_seeds(raw.get("seeds", [1]), "seeds"), as_search(raw.get("search"), "search")
    tune = _budget(raw.get("tune"))
    study = Study(
        name=path.parent.name,
        folder=path.parent,
        question=str(raw.get("question", "")).strip(),
        rows={str(name): _row(str(name), given, base, seeds, search, tune is not None) for name, given in rows.items()},
        search_seed=as_seeds([raw.get("search_seed", seeds[0])], "search_seed")[0],
        columns=_columns(raw.get("columns", ["ndcg@10", "hr@10", "mrr"])),
        references=as_names(raw.get("reference"), "reference"),
        published=_published(raw.get("published") or []),
        n_sampled=_n_sampled(raw.get("sampled", False)),
        both_rules=as_flag(raw, "both_rules"),
        latency=_latency(raw.get("latency")),
        tune=tune,
    )
    _check_names(study)
    for row in study.rows.values():
        _refuse_foreign(row.overrides, path)
        _refuse_foreign([f"{key}={value}" for key, values in row.search.items() for value in values], path)
    return study


def _refuse_foreign(words: Iterable[str], path: Path) -> None:
    """A study may come from a stranger: none of its words sets a place of this machine, or reads it."""
    for word in words:
        refuse_foreign_word(REFERENCE.sub("", word), str(path))


def _row(
    name: str,
    given: Any,
    base: tuple[str, ...],
    seeds: tuple[int, ...],
    search: Mapping[str, tuple[str, ...]],
    tuned: bool,
) -> Row:
    own: dict[str, Any] = given if isinstance(given, dict) else {"overrides": given}
    refuse_unknown(own, {"overrides", "seeds", "search", "tune"}, f"key of the row '{name}'")
    words = (*base, *as_words(own.get("overrides"), f"row '{name}'"))
    if own.get("tune", False) not in (True, False) or (own.get("tune") and not tuned):
        raise UserError(
            f"row '{name}': tune is true or false; the budget stands in the study's own tune, equal for all rows"
        )
    return Row(
        tuned=tuned and own.get("tune", True),
        name=name,
        overrides=last_of_each(words),
        seeds=as_seeds(own["seeds"], f"seeds of the row '{name}'") if "seeds" in own else seeds,
        search=as_search(own["search"], f"search of the row '{name}'") if "search" in own else search,
    )


def _columns(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise UserError(f"columns must be a list of metrics and costs, as in [ndcg@10, train_seconds], not {given!r}")
    for name in given:
        if name not in BY_NAME and not METRIC.fullmatch(str(name)):
            raise UserError(
                f"unknown column '{name}'; {nearest(str(name), ['ndcg@10', 'hr@10', 'mrr', 'validation_ndcg@10', *BY_NAME])}"
            )
    return tuple(given)


def _published(given: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(given, list):
        raise UserError(
            f"published must be a list of rows such as {{label: SASRec, hr@10: 0.0605, source: ...}}, not {given!r}"
        )
    for row in given:
        if not isinstance(row, dict) or "label" not in row or "source" not in row:
            raise UserError(f"a published row needs a label and a source; this one does not have both: {row!r}")
    return tuple(given)


def _n_sampled(given: Any) -> int:
    if isinstance(given, bool):
        return 999 if given else 0
    if not isinstance(given, int) or given < 0:
        raise UserError(f"sampled must be true, false or a number of negatives, not {given!r}")
    return given


def _budget(given: Any) -> Budget | None:
    if given is None:
        return None
    own = as_mapping(given, "tune")
    refuse_unknown(own, {"trials", "hours"}, "key of tune")
    trials, hours = own.get("trials"), own.get("hours", 0)
    if (
        (trials is not None and (not isinstance(trials, int) or trials < 1))
        or not isinstance(hours, int | float)
        or hours < 0
    ):
        raise UserError(f"tune must be such as {{trials: 20}} or {{hours: 1.5}}, not {given!r}")
    return Budget(trials if trials or hours else 20, float(hours))


def _latency(given: Any) -> Latency:
    own = as_mapping(given, "latency")
    refuse_unknown(own, {"rows", "batch_size", "threads"}, "key of latency")
    for key in ("batch_size", "threads"):
        if key in own and (not isinstance(own[key], int) or own[key] < 1):
            raise UserError(f"latency.{key} must be a whole number from 1, not {own[key]!r}")
    if not isinstance(own.get("rows", []), list):
        raise UserError(f"latency.rows must be a list of rows, not {own['rows']!r}")
    return Latency(**{**own, "rows": tuple(own.get("rows", ()))})


def _check_names(study: Study) -> None:
    """Raise UserError where one part of a study names what another does not have."""
    named = [("reference", name) for name in study.references] + [("latency", name) for name in study.latency.rows]
    for key, name in named:
        if name not in study.rows:
            raise UserError(f"{key}: there is no row '{name}'; {nearest(str(name), study.rows)}")
    for printed in study.published:
        if printed.get("beside") not in {None, *study.rows}:
            raise UserError(
                f"published '{printed['label']}': there is no row '{printed['beside']}'; {nearest(str(printed['beside']), study.rows)}"
            )
        for key in set(printed) - {"label", "source", "beside"}:
            if key not in study.columns:
                raise UserError(
                    f"published '{printed['label']}': '{key}' is none of the columns; {nearest(str(key), study.columns)}"
                )
    for row in study.rows.values():
        _check_references(study, row, ())
        if row.tuned and (row.search or row.references()):
            raise UserError(
                f"row '{row.name}': a tuned row has no search of its own and takes no value of another; or say tune: false"
            )
        for key in row.search:
            if key in map(key_of, row.overrides):
                raise UserError(
                    f"row '{row.name}': {key} is set and searched; take one away ('search: {{}}' searches nothing)"
                )


def _check_references(study: Study, row: Row, path: tuple[str, ...]) -> None:
    if row.name in path:
        raise UserError(f"rows refer to each other in a circle: {' -> '.join([*path, row.name])}")
    for name, key in row.references():
        if name not in study.rows:
            raise UserError(f"row '{row.name}': <{name}:{key}> names no row; {nearest(name, study.rows)}")
        if key != RUN and key not in study.rows[name].search:
            known = list(study.rows[name].search)
            raise UserError(
                f"row '{row.name}': the row '{name}' does not search {key}; it searches: {', '.join(known) or 'nothing'}"
            )
        _check_references(study, study.rows[name], (*path, row.name))
