"""How much the order of a history matters: a fitted model is asked once more, with the test histories shuffled.

After Klenitskiy, Volodkevich, Pembek and Vasilev (RecSys 2024), who found that on several popular data sets hardly anything is lost. What
is shuffled are the events that the model sees, the most recent ``max_length``: items and behaviours change places, the times stay, so that
they still rise. Training, targets and the rule on seen items are as they were.
"""

from __future__ import annotations

from typing import Any

from recbench.evaluation.statistics.bootstrap import bootstrap
from recbench.evaluation.statistics.per_user import user_values
from recbench.experiment.build import load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.device import device_of, prepare_device
from recbench.experiment.shuffled import rank_changed, shuffled

#: The figure that is compared, and the resamples of its interval.
METRIC = "ndcg@10"
RESAMPLES = 1000


def order_probe(probe: Run, stage: RunContext, seed: int = 0) -> dict[str, Any]:
    """NDCG@10 of a run's model on the test, as it is and with shuffled histories, and what is lost, as a share with its 95 % interval.

    relative, low, high: paired bootstrap over users; None where the model never hits. unchanged: share of targets whose rank stayed; 1 says
    that the model reads no order.
    """
    prepare_device(probe.config.hardware, probe.config.seed)
    model = load_model(probe, stage).to(device_of(probe.config.hardware))
    straight = rank_changed(model, stage.data, stage.split, probe.config, lambda batch: batch)
    mixed = rank_changed(model, stage.data, stage.split, probe.config, lambda batch: shuffled(batch, seed))
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
