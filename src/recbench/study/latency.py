"""How fast the finished runs of a study score, one after the other: one process, a stated number of threads, no job of ours beside it.

What a run's own metrics say of latency was measured beside other jobs; these figures may stand in one column.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from recbench.core import run_folder
from recbench.core.run_folder import LATENCY_FILE
from recbench.evaluation.cost.efficiency import Answer, batches_of, measure_efficiency
from recbench.experiment.asking import gives_lists, list_length
from recbench.experiment.device import device_of, prepare_device
from recbench.study.definition import Latency
from recbench.study.further_metrics import stored_model
from recbench.study.jobs import Job, Planner

logger = logging.getLogger(__name__)

#: Users timed one by one, and seconds for them, and again for the batches.
N_USERS, BUDGET_SECONDS = 200, 5.0


def measure_latency(job: Job, planner: Planner, settings: Latency) -> None:
    """Time the scoring of a finished run, unless that was done before with the same settings."""
    asked = {"alone_batch_users": settings.batch_size, "alone_threads": settings.threads}
    with run_folder.locked(job.folder):
        before = job.folder.read(LATENCY_FILE)
        if all(before.get(key) == value for key, value in asked.items()):
            return
        figures = time_model(job, planner, settings)
        job.folder.write(LATENCY_FILE, {**asked, **figures})
    logger.info(
        "timed   %s: %.1f ms, %.0f users/s", job, figures["alone_latency_p50_ms"], figures["alone_users_per_second"]
    )


def time_model(job: Job, planner: Planner, settings: Latency) -> dict[str, Any]:
    """Median and 95th percentile for one user (milliseconds), users a second in a batch, and how many a batch then held."""
    stage = planner.stage(job.config)
    prepare_device(job.config.hardware, job.config.seed)
    device = device_of(job.config.hardware)
    model = stored_model(job, stage).to(device).eval()
    answer: Answer = model.score
    if gives_lists(model):
        length = list_length(stage.split, job.config)

        def answer(batch: Any) -> Any:
            return model.recommend(batch, length)

    cases, threads = stage.split.test, torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        found = measure_efficiency(
            answer,
            batches_of(stage.data, cases, job.config.training.max_length, device),
            len(cases),
            n_users=N_USERS,
            batch_users=settings.batch_size,
            budget=BUDGET_SECONDS,
            device=device,
        )
    finally:
        torch.set_num_threads(threads)
    return {
        "alone_latency_p50_ms": 1000 * found.latency_p50,
        "alone_latency_p95_ms": 1000 * found.latency_p95,
        "alone_users_per_second": found.users_per_second,
        "alone_users_per_batch": found.batch_users,
        "alone_device": str(device),
    }
