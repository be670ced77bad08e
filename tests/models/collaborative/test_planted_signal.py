"""A planted signal is found: where vectors and triples tell what goes together, a model that reads them leads the same model that reads those of
other items. The difference in Recall@20, a mean over seeds, has a 95 % interval over users (bootstrap)."""

import numpy as np
import polars as pl
import pytest

from recbench.experiment.run import run

#: Few events a user, nearly all within a cluster of 15 items: too few to learn the clusters from.
DATA = (
    "data=synthetic", "data.n_users=300", "data.n_items=150", "data.n_clusters=10", "data.transition=0", "data.second_order=0", "data.cluster=0.9",
    "data.min_length=5", "data.mean_length=6", "data.max_length=12", "data.popularity_skew=0.2", "protocol=holdout", "evaluation.cutoffs=[10,20]",
)  # fmt: skip
SHUFFLED, REWIRED = "data.features.shuffle=1", "data.knowledge.rewire=1"


def trained(batch_size, lr, epochs):
    words = (f"training.batch_size={batch_size}", f"training.lr={lr}", f"training.max_epochs={epochs}")
    return ("tuned=off", "model.hidden_size=16", *words, f"training.validate_every={epochs}")


@pytest.mark.parametrize(
    ("model", "control", "seeds", "least"),
    [
        # Measured: .265, from .212 to .320.
        (("model=freedom", "model.deviation=0.3", *trained(512, 0.01, 20)), SHUFFLED, 1, 0.15),
        # .168, from .123 to .218; with two other seeds .192 and .163. After 60 epochs it has learned the clusters without vectors, and leads by .010.
        (
            ("model=dgvae", "model.text_weight=0", "model.anneal_steps=100", *trained(512, 0.01, 20)),
            SHUFFLED,
            1,
            0.05,
        ),
        # As its authors start it: .068, from .032 to .108; with two other seeds .043 and .053. With our start and rate there is no lead.
        (("model=bm3", "model.deviation=0.015", *trained(128, 0.001, 60)), SHUFFLED, 1, 0.0),
        # .070, from .022 to .120.
        (("model=diffkg", "model.denoiser_size=16", *trained(512, 0.01, 20)), REWIRED, 1, 0.0),
        # .082, .023 and .067. At a rate of .01 there is none.
        pytest.param(("model=kgat", *trained(512, 0.003, 30)), REWIRED, 3, 0.0, marks=pytest.mark.slow),
    ],
)
def test_what_the_items_are_told_of_leads_what_others_are_told_of(model, control, seeds, least, tmp_path, run_config):
    lead = np.zeros(1)
    for seed in range(1, seeds + 1):
        for sign, words in ((1, ()), (-1, (control,))):
            made = run(run_config(tmp_path, *DATA, *model, *words, f"seed={seed}"))
            ranks = pl.read_parquet(made.folder.ranks)
            recall = ranks.group_by("case").agg((pl.col("rank") <= 20).mean()).sort("case")["rank"].to_numpy()
            lead = lead + sign * recall / seeds
    draw = np.random.default_rng(0)
    means = [lead[draw.integers(len(lead), size=len(lead))].mean() for _ in range(1000)]
    assert np.quantile(means, 0.025) > least
