"""What FairRec is for, planted: a quarter of the events are of a set of items that one group of users has to itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from recbench.data.batches import WindowDataset, training_windows
from recbench.data.prepared import PreparedData
from recbench.models.auxiliary import FairRecConfig
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.objectives.contrastive.base import build_auxiliaries

USERS, LENGTH = 300, 8


@pytest.fixture
def planted(tmp_path):
    generator = np.random.default_rng(0)
    group = generator.integers(0, 2, USERS)
    chains = 1 + (generator.integers(0, 20, (USERS, 1)) + np.arange(LENGTH)) % 20
    own = 21 + 10 * group[:, None] + generator.integers(0, 10, chains.shape)
    items = np.where(generator.random(chains.shape) < 0.25, own, chains).ravel()
    data = PreparedData.from_arrays(tmp_path / "data", items, np.arange(USERS + 1) * LENGTH, n_items=40)
    return data, group


def test_a_fresh_classifier_tells_the_group_from_plain_states_and_not_from_these(planted):
    """Balanced accuracy of a logistic regression over ten folds of the users; .5 is chance."""
    data, group = planted
    dataset = WindowDataset(data, training_windows(data.offsets[:-1], data.offsets[1:], 20))
    everyone, found, losses = dataset[np.arange(USERS)], {}, {}
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        config = SASRecConfig(hidden_size=16, n_layers=1, feedforward_size=16, dropout=0.0, auxiliary=["fairrec"])
        config.fairrec = FairRecConfig(attribute="group", weight=weight)
        model = SASRec(config, ModelContext(data.n_items, USERS, 20))
        model.lent_user_attributes = {"group": ["ab"[value] for value in group]}
        auxiliary = build_auxiliaries(model, dataset)[0]
        optimizer, order = torch.optim.Adam(model.parameters(), lr=0.01, fused=True), np.random.default_rng(2)
        for _ in range(150):
            batch = dataset[order.permutation(USERS)[:60]]
            auxiliary.draw(batch)
            loss = model.training_loss(batch) + sum(auxiliary.terms(model).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            states = model.last_states(everyone)[-1].numpy()
            losses[weight] = float(model.training_loss(everyone))
        found[weight] = cross_val_score(
            LogisticRegression(max_iter=500), states, group, cv=10, scoring="balanced_accuracy"
        )
    # .662 and .486 when this was written, for 1.46 and 1.54 of loss.
    saved = found[0.0] - found[1.0]
    assert saved.mean() - 1.96 * saved.std(ddof=1) / 10**0.5 > 0.03, (saved.mean(), saved.std())
    assert losses[0.0] < losses[1.0] < 1.1 * losses[0.0]  # it costs something, and not much
