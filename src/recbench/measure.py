"""Validation during training and the test at its end, both through the one ranking kernel."""

from __future__ import annotations

import time
from typing import Any

import torch

from recbench.config import HardwareConfig, RunConfig
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.errors import UserError
from recbench.evaluation.efficiency import Answer, batches_of, measure_efficiency
from recbench.evaluation.evaluate import Evaluation, evaluate, evaluate_lists, merge
from recbench.models.base import Recommender, TrainingData
from recbench.processes import ranks as processes
from recbench.runs import RunFolder, replacing


def prepare_device(hardware: HardwareConfig, seed: int) -> None:
    """Threads and random numbers of this process, before a model is built. Raises UserError for a GPU that is not there."""
    if hardware.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            f"hardware.accelerator=gpu, but torch {torch.__version__} finds no CUDA device here; use hardware=cpu"
        )
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    torch.manual_seed(seed)


def device_of(hardware: HardwareConfig) -> torch.device:
    """Where evaluation computes in this process."""
    return processes.device_of(hardware, processes.here().local)


def rank_cases(
    model: Recommender, data: PreparedData, split: Split, cases: Cases, config: RunConfig, top_k: int = 0
) -> Evaluation:
    """Rank the targets of the cases with a model, in evaluation mode and on the device of the config.

    Where several processes work together each ranks its share of the cases, and all get what they found together.
    """
    device, ranks = device_of(config.hardware), processes.here()
    model = model.to(device).eval()
    length = config.training.max_length
    share = {"part": ranks.rank, "parts": ranks.world}
    if gives_lists(model):
        wanted = list_length(split, config)
        own = evaluate_lists(model.recommend, data, cases, split, length, wanted, top_k=top_k, device=device, **share)
    else:
        own = evaluate(model.score, data, cases, split, length, top_k=top_k, device=device, **share)
    return own if ranks.world == 1 else merge(processes.gather(own))


def gives_lists(model: Recommender) -> bool:
    """Whether a model is asked for lists, not for scores."""
    return model.gives_lists


def list_length(split: Split, config: RunConfig) -> int:
    """How long the lists must be, so that enough is left when the seen items are taken out."""
    return 2 * max(config.evaluation.cutoffs) + (config.training.max_length if split.seen_items == "mask" else 0)


def validate(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Validation metrics by plain name with the protocol's prefix; no lists are made, so it is cheap."""
    found = rank_cases(model, data, split, split.validation, config).metrics(config.evaluation.cutoffs)
    return {split.metric_prefix + name: value for name, value in found.items()}


def test(model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Final figures of a run, by name as in ``test/ndcg@10``; the ranks of every case go to ``ranks.parquet``."""
    cutoffs = config.evaluation.cutoffs
    started = time.perf_counter()
    ranked = rank_cases(model, data, split, split.test, config, top_k=min(max(cutoffs), data.n_items))
    seconds = time.perf_counter() - started
    leads = processes.here().leads
    if leads:
        write_ranks(ranked, folder)
    lists = ranked.beyond_accuracy(TrainingData.of(data, split).item_counts(), cutoffs)
    measured = {**ranked.metrics(cutoffs), **lists}
    figures: dict[str, Any] = {f"test/{split.metric_prefix}{name}": value for name, value in measured.items()}
    for name, value in validate(model, data, split, config).items():
        figures[f"validation/{name}"] = value
    return {
        **figures,
        "test/cases": len(split.test),
        "test/skipped_cases": ranked.cases_without_targets,
        "cost/test_seconds": seconds,
        "cost/processes": processes.here().world,
        # What one answer costs is a matter of one process, undisturbed by the others.
        **(efficiency(model, data, split, config) if leads else {}),
    }


def report(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """What stands in place of ``test`` for a model that ranks nothing."""
    return model.report(TrainingData.of(data, split))


def efficiency(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """What an answer costs: scores over the catalogue, or for a model without scores a list as long as in the test."""
    device = device_of(config.hardware)
    model = model.to(device).eval()
    answer: Answer = model.score
    if gives_lists(model):
        wanted = list_length(split, config)
        answer = lambda batch: model.recommend(batch, wanted)  # noqa: E731
    take = batches_of(data, split.test, config.training.max_length, device)
    found = measure_efficiency(answer, take, len(split.test), device=device)
    return {
        "cost/latency_p50_ms": 1000 * found.latency_p50,
        "cost/latency_p95_ms": 1000 * found.latency_p95,
        "cost/latency_users": found.timed_users,
        "cost/latency_threads": found.threads,
        "cost/users_per_second": found.users_per_second,
        "cost/users_per_batch": found.batch_users,
    }


def sizes(model: Recommender, folder: RunFolder) -> dict[str, int]:
    """Bytes of the stored weights, and of all parameters and buffers: a frozen pretrained part is in the second only."""
    held = [*model.parameters(), *model.buffers()]
    return {
        "cost/bytes_on_disk": folder.weights.stat().st_size,
        "cost/bytes_in_memory": sum(tensor.nbytes for tensor in held),
    }


def write_ranks(ranked: Evaluation, folder: RunFolder) -> None:
    """One row a target: case, user, target, rank, n_equal, truncated, history_length."""
    import polars as pl

    with replacing(folder.ranks) as temporary:
        pl.DataFrame(ranked.table()).write_parquet(temporary)
