"""The loss of scoring all items alike, against the losses themselves."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(loss="sampled_softmax", n_negatives=400),
        LossConfig(loss="sampled_softmax", n_negatives=64, negatives="per_position", logq=False),
        LossConfig(loss="sampled_softmax", n_negatives=400, sampling="popularity"),
        LossConfig(loss="bce", n_negatives=3),
        LossConfig(loss="gbce", n_negatives=20, gbce_t=0.6),
    ],
    ids=lambda config: f"{config.loss} {config.n_negatives} {config.sampling}",
)
def test_it_is_the_loss_of_a_model_without_an_opinion(config):
    torch.manual_seed(1)
    n = 500
    loss = CatalogueLoss(config, n, torch.arange(n + 1))
    targets = torch.randint(1, n + 1, (200,))
    value = float(loss(torch.zeros(200, 4), torch.zeros(n + 1, 4), targets))
    # Of drawn negatives the target is left out, and those of unequal weights vary.
    assert value == pytest.approx(loss.uniform(), rel=0.03)


def test_of_bpr_max_there_is_none():
    assert CatalogueLoss(LossConfig(loss="bpr_max", n_negatives=4), 9).uniform() is None
