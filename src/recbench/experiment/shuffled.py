"""A finished model asked once more with its test histories changed: their events in random order.

What is shuffled are the events that the model sees, the most recent ``max_length`` or all of them (``read_length``): items and behaviours change
places, the times stay, so that they still rise. Training, targets and the rule on seen items are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recbench.config.run import RunConfig
from recbench.core.splitmix import STEP, splitmix64
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
#: Which of the random orders it is, where nothing else is said.
SEED = 0


def shuffled(batch: Batch, seed: int = SEED) -> Batch:
    """The batch with the real events of each row in random order, by their items and behaviours; pads and times stay where they are.

    The order is a matter of the user and of the seed alone, not of what stands in the same batch: models that read as many events are asked with
    the same histories, so that two of them can be compared user by user.
    """
    real = batch.mask.cpu().numpy()
    place = batch.user.cpu().numpy().astype(np.uint64)[:, None] * np.uint64(1 << 32) + np.arange(
        real.shape[1], dtype=np.uint64
    )
    drawn = splitmix64(splitmix64(place * STEP) + np.uint64(seed))
    # Pads come last, in their order.
    places = np.where(real, drawn, np.iinfo(np.uint64).max).argsort(axis=1, kind="stable")
    order = torch.from_numpy(places).to(batch.items.device)
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
    found = rank_changed(model, data, split, config, shuffled)
    return {
        f"test/{split.metric_prefix}{PREFIX}{name}": value
        for name, value in found.metrics(config.evaluation.cutoffs).items()
    }
