"""RQ-VAE: item codes by residual quantisation of what an autoencoder makes of the item vectors [Rajput et al., TIGER, NeurIPS 2023, section
3.1].

What is different about this tokenizer: an encoder carries the vectors into a narrow latent space in which they are quantised, a decoder
carries the sum of the chosen codes back, and all of it learns together:

    L = ||x - x^||^2 + sum over levels of ( ||sg[r_l] - e||^2 + beta ||r_l - sg[e]||^2 )

Glossary: x item vector; z latent; r_l residual; e_lk -> ``LearnedCodebooks.books``; beta -> ``config.beta``; sg -> ``detach``.

Where this deviates from the paper, and why:
- Codes start at k-means centres of a few rounds over all items, not of the first batch.
- Codes that no item chose for ``revive_every`` epochs are put on a residual drawn at random.
- AdamW at 1e-3 for some hundred epochs instead of Adagrad at 0.4 for 20,000.
- x is centred and scaled to unit variance, so that one learning rate suits every encoder.
- Squared errors are means over the width, where the paper's are sums. A mean over the narrow latent divides by less than one over the wide
  vectors, so beside the reconstruction the terms of the levels weigh (width of x) / ``latent_size`` times more than in the paper: 12 times for
  text vectors of 384 and a latent of 32, 24 times for 768.
- A ``reconstruction_weight`` of that size gives the scale of the paper.
- LC-Rec takes the mean of the levels' terms where the paper and this file take their sum.
``uniform_last: sinkhorn`` maps the last level uniformly, in training and in the end [Zheng et al., LC-Rec, ICDE 2024, section 3.2]; LC-Rec
does so in the end for colliding items alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import (
    ItemTokenizer,
    LearnedTokenizerConfig,
    check_learning,
    item_vectors_of,
    revival,
    standardised,
)
from recbench.nn.codes.learned_codebooks import LearnedCodebooks, train_codes
from recbench.nn.codes.quantization import relative_error
from recbench.nn.optimizers import uncompiled


@dataclass
class RQVAEConfig(LearnedTokenizerConfig):
    """The autoencoder around the codebooks. hidden_sizes: widths of the encoder's inner layers; the decoder mirrors them."""

    name: str = "rqvae"
    epochs: int = 100
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 1e-4
    revive_every: int = 10
    beta: float = 0.25
    latent_size: int = 32
    hidden_sizes: list[int] = field(default_factory=lambda: [512, 256, 128])
    reconstruction_weight: float = field(default=1.0, metadata=LATER)  # beside the terms of the codes


class Autoencoder(nn.Module):
    """x [B, D] -> z [B, latent] -> x^ [B, D], with codebooks between."""

    def __init__(self, width: int, config: RQVAEConfig) -> None:
        super().__init__()
        widths = [width, *config.hidden_sizes, config.latent_size]
        self.encoder, self.decoder = mlp(widths), mlp(widths[::-1])
        self.reconstruction_weight = config.reconstruction_weight
        self.codebooks = LearnedCodebooks(
            config.levels,
            config.codebook_size,
            config.latent_size,
            config.beta,
            config.normalize_residuals,
            config.uniform_last == "sinkhorn",
        )

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        coded = self.codebooks(self.encoder(x))
        return self.reconstruction_weight * F.mse_loss(self.decoder(coded.vectors), x) + coded.loss

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        return torch.cat([self.encoder(part) for part in x.split(8192)])


def mlp(widths: list[int]) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@register("rqvae", RQVAEConfig)
class RQVAE(ItemTokenizer):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text_vectors"})

    def __init__(self, config: RQVAEConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_learning(config)
        if config.beta < 0 or config.weight_decay < 0:
            raise UserError(
                f"model.beta={config.beta:g} and model.weight_decay={config.weight_decay:g} must not be negative"
            )
        if not config.reconstruction_weight > 0:
            raise UserError(f"model.reconstruction_weight={config.reconstruction_weight:g} must be positive")
        if config.latent_size < 1 or any(size < 1 for size in config.hidden_sizes):
            raise UserError(
                f"model.latent_size={config.latent_size} and model.hidden_sizes={config.hidden_sizes} must be at least 1"
            )

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        config = self.config
        x = torch.from_numpy(standardised(item_vectors_of(self.vectors)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Autoencoder(x.shape[1], config)
        network.codebooks.seed_on(network.latents(x), self.seed)
        optimizer = uncompiled(torch.optim.AdamW)(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)

        def step(rows: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = network(rows)
            loss.backward()
            optimizer.step()
            return loss

        after = revival(config, network.codebooks, lambda: network.latents(x))
        train_codes("rqvae", x, config.epochs, config.batch, self.seed, step, after)
        codes, latents = network.codebooks.assign(network.latents(x))
        with torch.no_grad():
            found = network.decoder(latents).numpy()
        self.fit_figures["reconstruction_error"] = relative_error(x.numpy(), found)
        return codes, [config.codebook_size] * config.levels
