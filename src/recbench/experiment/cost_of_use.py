"""What the use of a model costs: the time and the operations of an answer, its parameters, its memory."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import torch

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.data.training import TrainingData
from recbench.data.training_rows import training_rows
from recbench.evaluation.cost.efficiency import WARM_UP, Answer, batches_of, measure_efficiency, spread
from recbench.evaluation.cost.meters import peaks, reset_peaks
from recbench.experiment.asking import gives_lists, list_length, read_length
from recbench.experiment.device import device_name, device_of
from recbench.models.base import Recommender

logger = logging.getLogger(__name__)


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
    adds is not in it, nor the optimiser; where such terms are the whole loss there is no figure of it. Figures that cannot be had are left out,
    with a warning: a finished training is not lost for them.
    """
    from recbench.evaluation.cost.flops import NoGradientError, count_flops, count_training_flops
    from recbench.evaluation.cost.parameters import active_parameters, buffer_values

    device = device_of(config.hardware)
    model = model.to(device).eval()
    answer = answer_of(model, split, config)
    batch = batches_of(data, split.test, read_length(model, split, config), device)(spread(len(split.test), 1))
    flops: list[int] = []
    figures: dict[str, float] = {}
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            read = active_parameters(model, lambda: flops.append(count_flops(lambda: answer(batch))))
        figures |= {
            "cost/parameters_active": read.network,
            "cost/parameters_active_tables": read.tables,
            "cost/buffer_values": buffer_values(model),
            "cost/flops_per_user": flops[0],
        }
        if any(parameter.requires_grad for parameter in model.parameters()):
            rows = training_rows(TrainingData.of(data, split), model.trains_on, config.training.max_length)
            chosen = rows[spread(len(rows), FLOP_WINDOWS)].to(device)
            targets = int(chosen.lengths.sum())
            with contextlib.suppress(NoGradientError):
                counted = count_training_flops(model, lambda: model.training_loss(chosen))
                figures |= {
                    "cost/flops_per_training_target": counted / targets,
                    "cost/flops_training_targets": targets,
                }
    except Exception as error:
        logger.warning("the operations of %s cannot be counted: %s", config.model.name, str(error).splitlines()[:1])
    return figures


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
