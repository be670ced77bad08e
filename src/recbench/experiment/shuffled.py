"""A finished model asked once more with its test histories changed: their events in random order.

What is shuffled are the events that the model sees, the most recent ``max_length`` or all of them (``read_length``): items and behaviours change
places, the times stay, so that they still rise. Training, targets and the rule on seen items are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recbench.config.run import RunConfig
from recbench.data.batches import Batch
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.evaluate import evaluate, evaluate_lists
from recbench.evaluation.outcome import Evaluation
from recbench.experiment.asking import gives_lists, list_length, read_length
from recbench.experiment.device import device_of
from recbench.models.base import Recommender

#: What the figures of shuffled histories begin with.
PREFIX = "shuffled_"
#: The order is the same for every model, so that two of them can be compared user by user.
SEED = 0


def shuffled(batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with the real events of each row in random order, by their items and behaviours; pads and times stay where they are."""
    real = batch.mask.cpu()
    # Random numbers in (0, 1) at events and 2 at pads: sorting them shuffles the events and leaves the pads at the end.
    order = torch.rand(real.shape, generator=generator).masked_fill(~real, 2.0).argsort(dim=1, stable=True)
    order = order.to(batch.items.device)
    behaviours = None if batch.behaviours is None else batch.behaviours.gather(1, order)
    return replace(batch, items=batch.items.gather(1, order), behaviours=behaviours)


def rank_changed(
    model: Recommender, data: PreparedData, split: Split, config: RunConfig, change: Callable[[Batch], Batch]
) -> Evaluation:
    """The test's ranks, with every batch changed on its way to the model."""
    length, device = read_length(model, split, config), device_of(config.hardware)

    def score(batch: Batch) -> Tensor:
        return model.score(change(batch))

    def recommend(batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        return model.recommend(change(batch), k)

    model = model.to(device).eval()
    if gives_lists(model):
        wanted = list_length(split, config)
        return evaluate_lists(recommend, data, split.test, split, length, wanted, device=device)
    return evaluate(score, data, split.test, split, length, device=device)


def shuffled_figures(model: Recommender, data: PreparedData, split: Split, config: RunConfig) -> dict[str, float]:
    """Test metrics with shuffled histories, by name as in ``test/shuffled_ndcg@10``."""
    generator = torch.Generator().manual_seed(SEED)
    found = rank_changed(model, data, split, config, lambda batch: shuffled(batch, generator))
    return {
        f"test/{split.metric_prefix}{PREFIX}{name}": value
        for name, value in found.metrics(config.evaluation.cutoffs).items()
    }
