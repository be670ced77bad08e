"""MultiVAE against its formula, and what its anneal and its input leave alone."""

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.training_rows import training_rows
from recbench.models.base import ModelContext
from recbench.models.collaborative.multivae import MultiVAE, MultiVAEConfig

SEQUENCES = [[1, 2, 3], [2, 3, 2], [4], [6, 5, 1]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    keys = {"hidden_size": 6, "latent_size": 3, "dropout": 0.0, "noise": 0.0}
    return MultiVAE(MultiVAEConfig(**keys), ModelContext(7, 4, 50))


def test_the_loss_is_that_of_the_formula(model, training_of):
    train = training_of(SEQUENCES, n_items=7)
    batch = training_rows(train, "users", 2)[np.arange(4)]
    model.start_epoch(25, torch.Generator())
    x = torch.zeros(4, 8)
    for row, items in enumerate(SEQUENCES):
        x[row, items] = 1
    h = torch.tanh(x / x.sum(1, keepdim=True).sqrt() @ model.input.weight + model.input_bias)
    mean, log_variance = model.encoder(h).chunk(2, dim=1)
    logits = model.output(torch.tanh(model.decoder(mean)))[:, 1:]
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
    expected = (-(x[:, 1:] * logits.log_softmax(1)).sum(1) + 0.2 * 0.5 * kl).mean()
    torch.testing.assert_close(model.train().training_loss(batch), expected)
    torch.testing.assert_close(model.eval().score(batch)[:, 1:], logits)


def test_dropout_leaves_out_items_and_not_parts_of_them(model, training_of):
    batch = training_rows(training_of([[1, 2, 3, 4, 5, 6]] * 200, n_items=7), "users", 2)[np.arange(200)]
    model.config.dropout = 0.5
    model.train()
    torch.manual_seed(1)
    means = model.encode(batch.items, batch.mask)[0]
    assert len(means.round(decimals=4).unique(dim=0)) > 20
    assert len(means.round(decimals=4).unique(dim=0)) <= 2**6


def test_values_that_make_no_sense_are_refused():
    for keys, told in (
        ({"latent_size": 0}, r"model\.latent_size=0"),
        ({"dropout": 1.0}, r"model\.dropout must be"),
        ({"kl_weight": -1.0}, r"model\.kl_weight must be"),
    ):
        with pytest.raises(UserError, match=told):
            MultiVAE(MultiVAEConfig(**keys), ModelContext(5, 3, 10))
