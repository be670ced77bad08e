"""MultiVAE: a user is the set of its items, read and written again through a narrow random layer [Liang et al., WWW 2018].

What is different: no vector of a user is learned; an encoder makes a normal distribution of the set, a decoder the chances of all items, and the
loss is that of a multinomial. So new users are like known ones.

    x = set / sqrt(|set|) with dropout;  h = tanh(W1 x);  (mu, log var) = W2 h;  z = mu + eps * exp(log var / 2);  logits = W4 tanh(W3 z)
    L = mean over users of  -sum over items of the set of log softmax(logits)  +  beta * KL,   beta rising to ``kl_weight`` over ``anneal_epochs``

Glossary: x_u -> ``batch.items``; beta -> ``kl_weight``; hidden, latent -> ``hidden_size``, ``latent_size``. W1 x is a sum of the rows of a table, so
no [B, V] input exists.

Deviations: the anneal is counted in epochs, not steps (RecBole's 200,000 steps end long after most trainings). eps has deviation 1, as in the paper;
RecBole draws it with .01, which makes it almost a plain autoencoder: ``noise=0.01``.

Shapes: B users, L items, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_number
from recbench.models.registry import register
from recbench.nn.item_sets import distinct_items, sets_by_length


@dataclass
class MultiVAEConfig(ModelConfig):
    """Sizes, dropout of the input, and how the second part of the loss comes in."""

    name: str = "multivae"
    hidden_size: int = 600
    latent_size: int = 200
    dropout: float = 0.5
    kl_weight: float = 0.2
    anneal_epochs: int = 50
    noise: float = 1.0  # deviation of eps
    version: int = (
        2  # of a step: so many users; 1 had so many events, so that users of few items shared a step with thousands
    )


@register("multivae", MultiVAEConfig)
class MultiVAE(Recommender):
    """See the head of this file."""

    trains_on = "users"
    reads_whole_history = True
    is_causal = False

    def __init__(self, config: MultiVAEConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        for name in ("hidden_size", "latent_size", "anneal_epochs"):
            if getattr(config, name) < 1:
                raise UserError(f"model.{name}={getattr(config, name)} must be at least 1")
        check_number("model.dropout", config.dropout, least=0.0, below=1.0)
        for name in ("kl_weight", "noise"):
            check_number(f"model.{name}", getattr(config, name), least=0.0)
        check_number("model.version", config.version, least=2, below=3)
        hidden, latent, width = config.hidden_size, config.latent_size, context.n_items + 1
        self.input = nn.Embedding(width, hidden, padding_idx=0)
        self.input_bias = nn.Parameter(torch.zeros(hidden))
        self.encoder = nn.Linear(hidden, 2 * latent)
        self.decoder = nn.Linear(latent, hidden)
        self.output = nn.Linear(hidden, width)
        for weight in (self.input.weight, self.encoder.weight, self.decoder.weight, self.output.weight):
            nn.init.xavier_normal_(weight)
        with torch.no_grad():
            self.input.weight[0] = 0
        #: Of ``kl_weight``, in this epoch.
        self.share = 1.0

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        self.share = min(1.0, epoch / self.config.anneal_epochs)

    def needs_whole_batch(self) -> str:
        return "the loss of 'multivae' is a mean over users, who have unequal numbers of events"

    def encode(self, items: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """(mu, log var) [B, latent] of sets: items [B, L], of which those count where first [B, L] is True."""
        weight = first * first.sum(1, keepdim=True).clamp(min=1).rsqrt()
        weight = F.dropout(weight, self.config.dropout, self.training)
        read = F.embedding_bag(items, self.input.weight, mode="sum", per_sample_weights=weight)
        mean, log_variance = self.encoder(torch.tanh(read + self.input_bias)).chunk(2, dim=1)
        return mean, log_variance

    def logits(self, z: Tensor) -> Tensor:
        """[B, V], the pad's -inf."""
        found = self.output(torch.tanh(self.decoder(z)))
        return torch.cat([torch.full_like(found[:, :1], -torch.inf), found[:, 1:]], 1)

    def training_loss(self, batch: Batch) -> Tensor:
        """batch: the whole sets of its users, items [B, L]."""
        sets = sets_by_length(batch.items)
        mean, log_variance = (torch.cat(parts) for parts in zip(*(self.encode(*part) for part in sets), strict=True))
        z = mean + self.config.noise * torch.randn_like(mean) * (log_variance / 2).exp()
        chances = self.logits(z).log_softmax(1).split([len(items) for items, _ in sets])
        found = [
            own.gather(1, items).masked_fill(~there, 0.0).sum()
            for own, (items, there) in zip(chances, sets, strict=True)
        ]
        apart = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return self.config.kl_weight * self.share * apart - torch.stack(found).sum() / len(z)

    def score(self, batch: Batch) -> Tensor:
        mean, _ = self.encode(*distinct_items(batch.items))
        scores: Tensor = self.output(torch.tanh(self.decoder(mean)))
        return scores
