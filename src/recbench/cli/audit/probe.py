"""How much the order of a history matters: a fitted model is asked once more, with the test histories shuffled.

After Klenitskiy, Volodkevich, Pembek and Vasilev (RecSys 2024), who found that on several popular data sets hardly anything is lost. What
is shuffled are the events that the model sees, the most recent ``max_length``: items and behaviours change places, the times stay, so that
they still rise. Training, targets and the rule on seen items are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.evaluation.evaluate import Evaluation, evaluate, evaluate_lists
from recbench.evaluation.statistics.bootstrap import bootstrap
from recbench.evaluation.statistics.per_user import user_values
from recbench.experiment import evaluate as measure
from recbench.experiment.build import load_model
from recbench.experiment.context import Run, RunContext
from recbench.models.base import Recommender

#: The figure that is compared, and the resamples of its interval.
METRIC = "ndcg@10"
RESAMPLES = 1000


def shuffled(batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with the real events of each row in random order, by their items and behaviours; pads and times stay where they are."""
    real = batch.mask.cpu()
    # Random numbers in (0, 1) at events and 2 at pads: sorting them shuffles the events and leaves the pads at the end.
    order = torch.rand(real.shape, generator=generator).masked_fill(~real, 2.0).argsort(dim=1, stable=True)
    order = order.to(batch.items.device)
    behaviours = None if batch.behaviours is None else batch.behaviours.gather(1, order)
    return replace(batch, items=batch.items.gather(1, order), behaviours=behaviours)


def order_probe(probe: Run, stage: RunContext, seed: int = 0) -> dict[str, Any]:
    """NDCG@10 of a run's model on the test, as it is and with shuffled histories, and what is lost, as a share with its 95 % interval.

    relative, low, high: paired bootstrap over users; None where the model never hits. unchanged: share of targets whose rank stayed; 1 says
    that the model reads no order.
    """
    measure.prepare_device(probe.config.hardware, probe.config.seed)
    model = load_model(probe, stage).to(measure.device_of(probe.config.hardware))
    generator = torch.Generator().manual_seed(seed)
    straight = _ranked(model, probe, stage, lambda batch: batch)
    mixed = _ranked(model, probe, stage, lambda batch: shuffled(batch, generator))
    before, after = (user_values(METRIC, found.rank, found.case, found.user) for found in (straight, mixed))
    cases = before.cases.sum()
    lost = bootstrap(after.totals, before.totals, RESAMPLES) if before.totals.any() else None
    return {
        "model": probe.config.model.name,
        "run": probe.folder.key,
        "metric": stage.split.metric_prefix + METRIC,
        "in_order": float(before.totals.sum() / cases),
        "shuffled": float(after.totals.sum() / cases),
        "relative": lost.relative if lost else None,
        "low": lost.low if lost else None,
        "high": lost.high if lost else None,
        "unchanged": float((straight.rank == mixed.rank).mean()),
    }


def _ranked(model: Recommender, probe: Run, stage: RunContext, change: Callable[[Batch], Batch]) -> Evaluation:
    """The test's ranks, with every batch changed on its way to the model."""
    config, split = probe.config, stage.split
    length, device = config.training.max_length, measure.device_of(config.hardware)

    def score(batch: Batch) -> Tensor:
        return model.score(change(batch))

    def recommend(batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        return model.recommend(change(batch), k)

    if measure.gives_lists(model):
        wanted = measure.list_length(split, config)
        return evaluate_lists(recommend, stage.data, split.test, split, length, wanted, device=device)
    return evaluate(score, stage.data, split.test, split, length, device=device)
