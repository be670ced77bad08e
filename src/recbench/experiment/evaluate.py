"""Validation during training and the test at its end, both through the one ranking kernel."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder, replacing
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.data.training import TrainingData
from recbench.evaluation import added_metrics
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.metrics import per_case
from recbench.evaluation.outcome import Evaluation
from recbench.experiment.asking import of_all, rank_cases
from recbench.experiment.cost_of_use import cost_of_use
from recbench.experiment.device import device_of
from recbench.experiment.list_figures import list_figures, stored_lists
from recbench.experiment.rating_figures import rating_figures
from recbench.experiment.reward_figures import asks_for_rewards, reward_figures
from recbench.models.base import Recommender
from recbench.training.processes import ranks as processes


def validate(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Validation metrics by plain name with the protocol's prefix; that of ``evaluation.monitor`` too; no lists are made, so it is cheap."""
    ranked = rank_cases(model, data, split, split.validation, config)
    found, monitor = ranked.metrics(config.evaluation.cutoffs), config.evaluation.monitor
    if monitor not in found:
        found[monitor] = float(per_case(monitor, ranked.rank, ranked.case, ranked.n_ranked).mean())
    return {split.metric_prefix + name: value for name, value in found.items()}


def test(model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Test figures of a run, by name as in ``test/ndcg@10``, and what an answer costs; the ranks of every case go to ``ranks.parquet``."""
    return {
        **test_figures(model, data, split, config, folder),
        "cost/processes": processes.here().world,
        # What one answer costs is a matter of one process, undisturbed by the others.
        **(cost_of_use(model, data, split, config) if processes.here().leads else {}),
    }


def test_figures(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """The figures of the test alone; the ranks of every case go to ``ranks.parquet``."""
    cutoffs = config.evaluation.cutoffs
    started = time.perf_counter()
    ranked = rank_cases(model, data, split, split.test, config, top_k=min(max(cutoffs), data.n_items))
    seconds = time.perf_counter() - started
    counts = TrainingData.of_real_users(data, split).item_counts()
    added, means, listed = chosen_metrics(ranked, counts, data, split, config, folder)
    if processes.here().leads:
        write_ranks(ranked, added, folder)
    measured = {**ranked.metrics(cutoffs), **ranked.beyond_accuracy(counts, cutoffs), **means}
    return {
        **{f"test/{split.metric_prefix}{name}": value for name, value in measured.items()},
        **control_figures(model, data, split, config, ranked),
        **cold_figures(ranked, counts, split, cutoffs),
        **tail_figures(ranked, counts, split, cutoffs),
        **(reward_figures(ranked, data, split, config) if asks_for_rewards(model, config) else {}),
        **(rating_figures(model, data, split, config) if model.gives_ratings and data.ratings is not None else {}),
        "test/cases": len(split.test),
        "test/skipped_cases": ranked.cases_without_targets,
        "cost/test_seconds": seconds,
        **listed,
    }


def chosen_metrics(
    ranked: Evaluation, counts: np.ndarray, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, Any]]:
    """What ``evaluation.metrics`` asks for: (name@k -> [C], name@k -> the run's figure, what is said of it in metrics.json)."""
    cutoffs, names = config.evaluation.cutoffs, config.evaluation.metrics
    added = added_metrics.per_case(names, ranked.ranked_lists(counts), cutoffs)
    means = {name: float(values.mean()) for name, values in added.items()}
    if processes.here().leads:
        stored_lists(ranked, config, folder)
    found, listed = list_figures(ranked, counts, data, split, config)
    return {**added, **found.per_case}, {**means, **found.figures()}, listed


def control_figures(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, plain: Evaluation
) -> dict[str, float]:
    """Test figures of a model's ``controls``, as in ``test/popularity_order_ndcg@10``; of a reranker also how many targets are among its K.

    plain: the test of the model's own order, which is also that of a control that is asked by ``model.score``.
    """
    figures: dict[str, float] = {}
    device, ranks = device_of(config.hardware), processes.here()
    rewarded = asks_for_rewards(model, config)
    for name, (score, of_candidates) in model.controls().items():
        ranked = plain
        if score != model.score:
            own = evaluate(
                score,
                data,
                split.test,
                split,
                config.training.max_length,
                score_candidates=of_candidates,
                top_k=min(max(config.evaluation.cutoffs), data.n_items) if rewarded else 0,
                device=device,
                part=ranks.rank,
                parts=ranks.world,
            )
            ranked = of_all(own)
        for metric, value in ranked.metrics(config.evaluation.cutoffs).items():
            figures[f"test/{split.metric_prefix}{name}_{metric}"] = value
        if rewarded:
            figures |= reward_figures(ranked, data, split, config, f"{name}_")
        if name == "retriever_order":
            figures[f"test/{split.metric_prefix}candidate_recall"] = float((ranked.rank <= config.model.k).mean())
    return figures


def cold_figures(ranked: Evaluation, counts: np.ndarray, split: Split, cutoffs: Sequence[int]) -> dict[str, float]:
    """The slice of targets whose item has no training event, each target for itself, beside that of the others: ``cold/targets``, ``cold/ndcg@10``,
    ``warm/ndcg@10`` ...; none where there is no such target. counts [n_items + 1]: training events."""
    is_cold = counts[ranked.target] == 0
    if not is_cold.any():
        return {}
    found: dict[str, float] = {"cold/targets": int(is_cold.sum())}
    names = [*(f"{name}@{k}" for k in cutoffs for name in ("hr", "ndcg", "mrr")), "mrr"]
    for part, chosen in (("cold", is_cold), ("warm", ~is_cold)):
        rank = ranked.rank[chosen]
        for name in names if len(rank) else ():
            values = per_case(name, rank, np.arange(len(rank)), ranked.n_ranked)
            found[f"{part}/{split.metric_prefix}{name}"] = float(values.mean())
    return found


#: A target whose item has at most so many training events, and one at least, belongs to the tail.
TAIL_EVENTS = 5


def tail_figures(ranked: Evaluation, counts: np.ndarray, split: Split, cutoffs: Sequence[int]) -> dict[str, float]:
    """The slice of targets whose item has 1 to TAIL_EVENTS training events: ``tail/targets``, ``tail/ndcg@10`` ...; none where there is no such
    target. counts [n_items + 1]: training events."""
    held = counts[ranked.target]
    chosen = (held > 0) & (held <= TAIL_EVENTS)
    if not chosen.any():
        return {}
    rank, prefix = ranked.rank[chosen], f"tail/{split.metric_prefix}"
    names = [f"{name}@{k}" for k in cutoffs for name in ("hr", "ndcg")]
    values = {name: per_case(name, rank, np.arange(len(rank)), ranked.n_ranked).mean() for name in names}
    return {"tail/targets": int(chosen.sum()), **{prefix + name: float(value) for name, value in values.items()}}


def add_metrics(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """The test figures of ``evaluation.metrics`` for stored weights; their values for each case join those in ``ranks.parquet``."""
    import polars as pl

    cutoffs = config.evaluation.cutoffs
    ranked = rank_cases(model, data, split, split.test, config, top_k=min(max(cutoffs), data.n_items))
    counts = TrainingData.of_real_users(data, split).item_counts()
    added, means, listed = chosen_metrics(ranked, counts, data, split, config, folder)
    _, row = np.unique(ranked.case, return_inverse=True)
    stored = pl.read_parquet(folder.ranks)
    with replacing(folder.ranks) as temporary:
        columns = [pl.Series(name, values[row]) for name, values in added.items()]
        stored.with_columns(columns).write_parquet(temporary)
    return {**{f"test/{split.metric_prefix}{name}": value for name, value in means.items()}, **listed}


def report(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """What stands in place of ``test`` for a model that ranks nothing."""
    return model.report(TrainingData.of(data, split))


def write_ranks(ranked: Evaluation, added: Mapping[str, np.ndarray], folder: RunFolder) -> None:
    """One row a target: case, user, target, rank, n_equal, truncated, history_length, and for each added metric the value of its case."""
    import polars as pl

    _, row = np.unique(ranked.case, return_inverse=True)
    columns = {name: values[row] for name, values in added.items()}
    with replacing(folder.ranks) as temporary:
        pl.DataFrame({**ranked.table(), **columns}).write_parquet(temporary)
