"""Mamba4Rec: selective state-space layers over the history instead of attention [arXiv 2403.03900].

What is different about this model: the past reaches a position through Mamba's selective scan and a short convolution only, at a cost
that grows linearly with the length, and without positions.

    x = norm(drop(E[i]));  x = norm(drop(mamba(x)) [+ x]);  x = norm(x + drop(W2 drop(gelu(W1 x))));  score = x . E[j]

As published there is one layer, and a single layer has no residual around its Mamba; with more there is one around each.

Glossary (paper -> here): Delta, A, B, C, D -> ``step``, ``rate``, ``b``, ``c``, ``skip`` in ``nn.selective_scan``; SSM state expansion N ->
``state_size``; local convolution width -> ``conv_taps``; block expansion -> ``expand``; PFFN -> ``nn.feedforward``.

Where this deviates, and why:
- Trained at every position with the full softmax, where the released code makes a row of each prefix and has a loss at its end. The states
  are the same, because the layer is causal; an epoch is cheaper by the mean length of a history.
- Items have ids from 1; the pad is no class of the softmax.
What is kept although it looks like a slip: the released code starts all linear layers alike, so Mamba's own start of the step sizes
(biases for steps between 0.001 and 0.1) is lost and steps start at softplus(0) = 0.69. For histories of ten events that is the better start.

Shapes: B rows, L positions, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.recurrent.mamba_mixer import MambaMixer
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.feedforward import PostNormFeedForward

#: Of every norm in the released code.
EPS = 1e-12


@dataclass
class Mamba4RecConfig(SequenceConfig):
    """Sizes and dropout; the loss keys are those of every scoring model."""

    name: str = "mamba4rec"
    hidden_size: int = 64
    n_layers: int = 1
    state_size: int = 32
    conv_taps: int = 4
    expand: int = 2
    dropout: float = 0.2


class Mamba4RecLayer(nn.Module):
    """[B, L, D] -> [B, L, D]."""

    def __init__(self, config: Mamba4RecConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.residual = config.n_layers > 1
        self.mixer = MambaMixer(d, config.expand, config.state_size, config.conv_taps)
        self.norm = nn.LayerNorm(d, eps=EPS)
        self.dropout = Dropout(config.dropout)
        self.feedforward = PostNormFeedForward(d, 4 * d, config.dropout, F.gelu, EPS)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.dropout(self.mixer(x))
        return self.feedforward(self.norm(mixed + x if self.residual else mixed))


@register("mamba4rec", Mamba4RecConfig)
class Mamba4Rec(SequenceModel):
    """See the head of this file."""

    def __init__(self, config: Mamba4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "state_size", "conv_taps", "expand")
        self.item_embedding = nn.Embedding(context.n_items + 1, config.hidden_size, padding_idx=0)
        self.input_norm = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Mamba4RecLayer(config) for _ in range(config.n_layers))
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = config.hidden_size
        self.apply(_initialise)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = [self.input_norm(self.dropout(self.item_embedding(batch.items)))]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    def item_vectors(self) -> Tensor:
        """[V, D]: what hidden states are compared with."""
        return self.item_embedding.weight


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Embedding):
            with torch.no_grad():
                module.weight[0] = 0.0
        elif module.bias is not None:
            nn.init.zeros_(module.bias)
