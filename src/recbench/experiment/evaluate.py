"""Validation during training and the test at its end, both through the one ranking kernel."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recbench.config.run import RunConfig
from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, replacing
from recbench.data.batches import Batch, WindowDataset, training_windows
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.data.training import TrainingData
from recbench.evaluation import added_metrics
from recbench.evaluation.cost.efficiency import WARM_UP, Answer, batches_of, measure_efficiency, spread
from recbench.evaluation.cost.meters import peaks, reset_peaks
from recbench.evaluation.evaluate import Evaluation, ScoreFunction, evaluate, evaluate_lists, is_wide, merge
from recbench.evaluation.metrics import per_case
from recbench.models.base import Recommender, SequenceModel
from recbench.nn.losses.buffers import workspace
from recbench.training.processes import ranks as processes

logger = logging.getLogger(__name__)


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
    length = read_length(model, split, config)
    share = {"part": ranks.rank, "parts": ranks.world}
    if gives_lists(model):
        wanted = list_length(split, config)
        own = evaluate_lists(model.recommend, data, cases, split, length, wanted, top_k=top_k, device=device, **share)
    else:
        asked = model.score_candidates if model.scores_candidates else None
        score = score_function(model, device)
        own = evaluate(score, data, cases, split, length, score_candidates=asked, top_k=top_k, device=device, **share)
    return of_all(own)


def of_all(own: Evaluation) -> Evaluation:
    """What all processes found, from this one's share."""
    return own if processes.here().world == 1 else merge(processes.gather(own))


def read_length(model: Recommender, split: Split, config: RunConfig) -> int:
    """How many events of a history a model is shown: ``training.max_length``, or all where a history is a set and the model takes it whole."""
    if not (split.whole_histories and model.reads_whole_history):
        return config.training.max_length
    return max(int((cases.end - cases.start).max()) for cases in (split.validation, split.test))


def score_function(model: Recommender, device: torch.device) -> ScoreFunction:
    """How a model is asked for the scores of a block. Those over a wide catalogue go into one buffer, which the next block overwrites: on a CPU
    a fresh one for each would be paid for in page faults, which take as long as the product."""
    if not (
        device.type == "cpu"
        and isinstance(model, SequenceModel)
        and type(model).score is SequenceModel.score
        and is_wide(model.n_items)
    ):
        return model.score
    width = model.n_items + 1

    def score(batch: Batch) -> torch.Tensor:
        buffer = workspace(len(batch) * width, model.item_vectors().dtype, device, "scores")
        return model.score_into(buffer[: len(batch) * width].view(len(batch), width), batch)

    return score


def gives_lists(model: Recommender) -> bool:
    """Whether a model is asked for lists, not for scores."""
    return model.gives_lists


def list_length(split: Split, config: RunConfig) -> int:
    """How long the lists must be, so that enough is left when the seen items are taken out."""
    return 2 * max(config.evaluation.cutoffs) + (config.training.max_length if split.seen_items == "mask" else 0)


def validate(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Validation metrics by plain name with the protocol's prefix; that of ``evaluation.monitor`` too; no lists are made, so it is cheap."""
    ranked = rank_cases(model, data, split, split.validation, config)
    found, monitor = ranked.metrics(config.evaluation.cutoffs), config.evaluation.monitor
    if monitor not in found:
        found[monitor] = float(per_case(monitor, ranked.rank, ranked.case, ranked.n_ranked).mean())
    return {split.metric_prefix + name: value for name, value in found.items()}


def test(model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Final figures of a run, by name as in ``test/ndcg@10``; the ranks of every case go to ``ranks.parquet``."""
    figures = test_without_validation(model, data, split, config, folder)
    validated = validate(model, data, split, config)
    return {**figures, **{f"validation/{name}": value for name, value in validated.items()}}


def test_without_validation(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """The same, but for the figures of validation: for a model that was trained on it."""
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
    counts = TrainingData.of(data, split).item_counts()
    added = added_metrics.per_case(config.evaluation.metrics, ranked.ranked_lists(counts), cutoffs)
    if processes.here().leads:
        write_ranks(ranked, added, folder)
    means = {name: float(values.mean()) for name, values in added.items()}
    measured = {**ranked.metrics(cutoffs), **ranked.beyond_accuracy(counts, cutoffs), **means}
    return {
        **{f"test/{split.metric_prefix}{name}": value for name, value in measured.items()},
        **control_figures(model, data, split, config),
        **cold_figures(ranked, counts, split, cutoffs),
        "test/cases": len(split.test),
        "test/skipped_cases": ranked.cases_without_targets,
        "cost/test_seconds": seconds,
    }


def control_figures(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Test figures of a model's ``controls``, as in ``test/popularity_order_ndcg@10``; of a reranker also how many targets are among its K."""
    figures, device, ranks = {}, device_of(config.hardware), processes.here()
    for name, (score, of_candidates) in model.controls().items():
        own = evaluate(
            score,
            data,
            split.test,
            split,
            config.training.max_length,
            score_candidates=of_candidates,
            device=device,
            part=ranks.rank,
            parts=ranks.world,
        )
        ranked = of_all(own)
        for metric, value in ranked.metrics(config.evaluation.cutoffs).items():
            figures[f"test/{split.metric_prefix}{name}_{metric}"] = value
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


def add_metrics(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, float]:
    """The test figures of ``evaluation.metrics`` for stored weights; their values for each case join those in ``ranks.parquet``."""
    import polars as pl

    cutoffs = config.evaluation.cutoffs
    ranked = rank_cases(model, data, split, split.test, config, top_k=min(max(cutoffs), data.n_items))
    lists = ranked.ranked_lists(TrainingData.of(data, split).item_counts())
    added = added_metrics.per_case(config.evaluation.metrics, lists, cutoffs)
    stored = pl.read_parquet(folder.ranks)
    with replacing(folder.ranks) as temporary:
        columns = [pl.Series(name, values[lists.case]) for name, values in added.items()]
        stored.with_columns(columns).write_parquet(temporary)
    return {f"test/{split.metric_prefix}{name}": float(values.mean()) for name, values in added.items()}


def report(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, folder: RunFolder
) -> dict[str, Any]:
    """What stands in place of ``test`` for a model that ranks nothing."""
    return model.report(TrainingData.of(data, split))


def cost_of_use(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, Any]:
    """What an answer and a training step cost, and how long it took to find out."""
    started = time.perf_counter()
    figures = {**efficiency(model, data, split, config), **complexity(model, data, split, config)}
    return {**figures, "cost/measuring_seconds": time.perf_counter() - started}


def answer_of(model: Recommender, split: Split, config: RunConfig) -> Answer:
    """What is timed: scores over the catalogue, or for a model without scores a list as long as in the test."""
    if not gives_lists(model):
        return model.score
    wanted = list_length(split, config)
    return lambda batch: model.recommend(batch, wanted)


def efficiency(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, Any]:
    """How long answers take, one user at a time and in a batch; see ``recbench.evaluation.cost.efficiency``."""
    device = device_of(config.hardware)
    model = model.to(device).eval()
    take = batches_of(data, split.test, read_length(model, split, config), device)
    found = measure_efficiency(answer_of(model, split, config), take, len(split.test), device=device)
    return {
        "cost/latency_p50_ms": 1000 * found.latency_p50,
        "cost/latency_p95_ms": 1000 * found.latency_p95,
        "cost/latency_p99_ms": 1000 * found.latency_p99,
        "cost/latency_users": found.timed_users,
        "cost/latency_threads": found.threads,
        "cost/latency_warm_up_calls": WARM_UP,
        "cost/users_per_second": found.users_per_second,
        "cost/users_per_batch": found.batch_users,
        "cost/batch_latency_p50_ms": 1000 * found.batch_p50,
        "cost/batch_latency_p95_ms": 1000 * found.batch_p95,
        "cost/batch_latency_p99_ms": 1000 * found.batch_p99,
        "cost/batch_latency_calls": found.timed_batches,
        "cost/device": device_name(device),
    }


#: Training windows in the step whose operations are counted: enough for the mean of their lengths, few enough to cost little.
FLOP_WINDOWS = 16


def complexity(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Parameters that an answer reads, and operations of an answer and of a training target (``recbench.evaluation.cost.parameters``, ``flops``).

    The training step is the model's own loss, forward and backward, on a few windows spread over the users: what a teacher or a contrastive term
    adds is not in it, nor the optimiser. Figures that cannot be had are left out, with a warning: a finished training is not lost for them.
    """
    from recbench.evaluation.cost.flops import count_flops, count_training_flops
    from recbench.evaluation.cost.parameters import active_parameters, buffer_values

    device = device_of(config.hardware)
    model = model.to(device).eval()
    answer = answer_of(model, split, config)
    batch = batches_of(data, split.test, read_length(model, split, config), device)(spread(len(split.test), 1))
    flops: list[int] = []
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            read = active_parameters(model, lambda: flops.append(count_flops(lambda: answer(batch))))
        figures: dict[str, float] = {
            "cost/parameters_active": read.network,
            "cost/parameters_active_tables": read.tables,
            "cost/buffer_values": buffer_values(model),
            "cost/flops_per_user": flops[0],
        }
        if any(parameter.requires_grad for parameter in model.parameters()):
            windows = training_windows(split.train_start, split.train_end, config.training.max_length)
            chosen = WindowDataset(data, windows)[spread(len(windows.length), FLOP_WINDOWS)].to(device)
            targets = int(chosen.lengths.sum())
            figures["cost/flops_per_training_target"] = (
                count_training_flops(model, lambda: model.training_loss(chosen)) / targets
            )
            figures["cost/flops_training_targets"] = targets
    except Exception as error:
        logger.warning("the operations of %s cannot be counted: %s", config.model.name, str(error).splitlines()[:1])
        return {}
    return figures


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU with its name; the processor's stands in provenance.json."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


class PeakMemory:
    """The largest memory of this process since this was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.of_run = reset_peaks(device)

    def figures(self) -> dict[str, int]:
        """``cost/peak_memory_bytes``, the resident set with the interpreter and its libraries (of the process since its start, under the name
        ``cost/peak_memory_of_process_bytes``, where that peak cannot be reset), and ``cost/peak_gpu_memory_bytes``, tensors on the GPU."""
        found = peaks(self.device)
        name = "cost/peak_memory_bytes" if self.of_run else "cost/peak_memory_of_process_bytes"
        return {name: found["memory"]} | (
            {"cost/peak_gpu_memory_bytes": found["gpu_memory"]} if "gpu_memory" in found else {}
        )


def sizes(model: Recommender, folder: RunFolder) -> dict[str, int]:
    """Bytes of the stored weights, and of all parameters and buffers: a frozen pretrained part is in the second only."""
    held = [*model.parameters(), *model.buffers()]
    return {
        "cost/bytes_on_disk": folder.weights.stat().st_size,
        "cost/bytes_in_memory": sum(tensor.nbytes for tensor in held),
    }


def write_ranks(ranked: Evaluation, added: Mapping[str, np.ndarray], folder: RunFolder) -> None:
    """One row a target: case, user, target, rank, n_equal, truncated, history_length, and for each added metric the value of its case."""
    import polars as pl

    _, row = np.unique(ranked.case, return_inverse=True)
    columns = {name: values[row] for name, values in added.items()}
    with replacing(folder.ranks) as temporary:
        pl.DataFrame({**ranked.table(), **columns}).write_parquet(temporary)
