"""LRURec: linear recurrent units, a recurrence that can be computed for all positions at once and updated one event at a time [WSDM 2024].

What is different about this model: the past reaches a position through a complex diagonal linear recurrence only, with no attention, no
convolution, no positions and no gate that depends on the data. All that is non-linear happens within a position, in a feed-forward layer.
Each item has a bias.

    x = norm(drop(E[i]));  x = norm(x + drop(Re(W_out scan(gamma W_in x))));  x = norm(x + drop(W2 drop(gelu(W1 x))));  score = x . E[j] + b[j]

Glossary (paper -> here): lambda -> ``LinearRecurrence.decay``; nu, theta, gamma -> its ``log_nu``, ``log_theta``, ``log_gamma``; B, C -> ``enter``,
``leave``; the recursive parallel algorithm -> ``doubling_scan``; b -> ``item_bias``.

Deviations:
- Pads stand on the right. The code pads on the left, and must keep pads from reaching the events behind them.
- Weights start at N(0, 0.02). The code cuts that normal at two standard deviations.
- Biases, those of items too, start at 0. The code starts them as it starts weights.
- The pad is no class of the softmax; in the code it is one.
- Training is that of every model here: no gradient clipping and no weight decay unless they are asked for. The code clips gradients to a norm
  of 5 and decays weights by 0.01, but not biases and norms: ``training.gradient_clip=5 training.weight_decay=0.01`` comes close.

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
from recbench.nn.recurrent.linear_recurrence import LinearRecurrence
from recbench.nn.transformer.dropout import Dropout


@dataclass
class LRURecConfig(SequenceConfig):
    """Sizes and dropout; the loss keys are those of every scoring model."""

    name: str = "lrurec"
    hidden_size: int = 64
    n_layers: int = 2
    feedforward_size: int = 256
    dropout: float = 0.5


class LRULayer(nn.Module):
    """Recurrence and feed-forward, each with a residual and a norm behind it. [B, L, D] -> [B, L, D]."""

    def __init__(self, hidden_size: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.recurrence = LinearRecurrence(hidden_size)
        self.recurrence_norm = nn.LayerNorm(hidden_size)
        self.expand = nn.Linear(hidden_size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, hidden_size)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.recurrence_norm(x + self.dropout(self.recurrence(x)))
        inner = self.dropout(F.gelu(self.expand(x)))
        return self.feedforward_norm(x + self.dropout(self.contract(inner)))


@register("lrurec", LRURecConfig)
class LRURec(SequenceModel):
    """See the head of this file."""

    def __init__(self, config: LRURecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "feedforward_size")
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.item_bias = nn.Parameter(torch.zeros(context.n_items + 1))
        self.input_norm = nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            LRULayer(d, config.feedforward_size, config.dropout) for _ in range(config.n_layers)
        )
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        self.apply(_initialise)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = [self.input_norm(self.dropout(self.item_embedding(batch.items)))]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    def queries(self, states: Tensor) -> Tensor:
        """States [..., D] -> [..., D + 1]: a one behind each, which meets the item's bias."""
        return F.pad(states, (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        """[V, D + 1]: the item's vector and, last, its bias."""
        return torch.cat([self.item_embedding.weight, self.item_bias[:, None]], dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Embedding):
            with torch.no_grad():
                module.weight[0] = 0.0
        else:
            nn.init.zeros_(module.bias)
