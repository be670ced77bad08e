"""RQ-VAE's loss, written out."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.tokenizers.rqvae import RQVAE, Autoencoder, RQVAEConfig

SMALL = {"levels": 2, "codebook_size": 4, "latent_size": 3, "hidden_sizes": [5]}


@pytest.mark.parametrize("weight", [1.0, 8.0])
def test_the_reconstruction_weighs_what_is_asked_for(weight):
    torch.manual_seed(0)
    network = Autoencoder(6, RQVAEConfig(**SMALL, reconstruction_weight=weight))
    x = torch.randn(7, 6)
    latent = network.encoder(x)
    total, codes = torch.zeros_like(latent), torch.tensor(0.0)
    for book in network.codebooks.books:
        residual = latent - total
        chosen = book[torch.cdist(residual, book).argmin(dim=1)]
        codes = codes + 1.25 * (residual - chosen).square().mean()
        total = total + chosen
    expected = weight * (network.decoder(total) - x).square().mean() + codes
    torch.testing.assert_close(network(x), expected)


def test_a_weight_must_be_positive():
    with pytest.raises(UserError, match="reconstruction_weight=0 must be positive"):
        RQVAE(RQVAEConfig(reconstruction_weight=0.0), ModelContext(5, 5, 5))
