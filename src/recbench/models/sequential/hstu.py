"""HSTU: attention whose weights are a pointwise SiLU instead of a softmax, with biases for distance and elapsed time [arXiv 2402.17152, ICML 2024].

What is different about this model: an attention weight does not compete with the others, so the *number* of related events counts, not
only their mix; every layer knows how long ago an event was; the attended value is gated by the query's own u, and there is no
feed-forward layer. States and items are compared by cosine.

    [u v q k] = silu(norm(x) W);   a_ij = silu(q_i . k_j + p(i - j) + b(gap_ij)) / n for j <= i;   x = x + Wo drop(u * norm(sum_j a_ij v_j))

Glossary (paper -> here): n -> ``training.max_length``, a constant; rab^p -> ``PositionBias``; rab^t -> ``TimeBias``, over floor(ln(seconds) / 0.301);
d_qk = d_v -> ``head_size``; temperature tau -> ``temperature``; f_1, f_2 -> ``project``, ``output`` of a layer.

``time_of_target`` is off, and that is a deviation: in the released code the query at position i carries the time t_{i+1} of the event that is to
be predicted, so at test the model reads *when* the target will happen. That is fair only where the time of the request is known and every rival is
given it too. Here query i carries its own time t_i. ``time_of_target: true`` restores the released form, to compare with its published figures.

Other deviations:
- n is max_length where the code has max_length + 11.
- Only distances i - j >= 0 have a bias, because the causal mask hides the others.
- The model does not filter scores for items in the input window; the protocol does, for all models alike.
- AdamW has betas of 0.9 and 0.999, as for every model here; the code has 0.9 and 0.98.
- Item and position vectors start at a normal that is cut at -2 and 2. That is far out (100 standard deviations of an item vector) and cuts
  nothing. The code cuts at two standard deviations.

Shapes: B rows, L positions, D hidden size, H heads, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.recurrent.time_gaps import warn_of_equal_gaps
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.relative_bias import PositionBias, TimeBias, time_buckets


@dataclass
class HSTUConfig(SequenceConfig):
    """Sizes, dropout, temperature and the handling of time; the loss keys are those of every scoring model."""

    name: str = "hstu"
    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    head_size: int = 32
    dropout: float = 0.5
    temperature: float = 0.05
    n_time_buckets: int = 128
    time_of_target: bool = False
    loss: str = "sampled_softmax"
    n_negatives: int = 128
    negatives: str = "per_position"
    logq: bool = False


class HSTULayer(nn.Module):
    """One sequential transduction unit. [B, L, D] -> [B, L, D]; see the head of this file."""

    def __init__(self, config: HSTUConfig, max_length: int) -> None:
        super().__init__()
        inner = config.n_heads * config.head_size
        self.n_heads, self.max_length = config.n_heads, max_length
        self.project = nn.Linear(config.hidden_size, 4 * inner, bias=False)
        self.output = nn.Linear(inner, config.hidden_size)
        self.position_bias = PositionBias(max_length)
        self.time_bias = TimeBias(config.n_time_buckets)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, buckets: Tensor) -> Tensor:
        """buckets [B, L, L]: of the gap between query and key."""
        b, length, _ = x.shape
        gate, *parts = F.silu(self.project(_norm(x))).chunk(4, dim=-1)
        value, query, key = (part.view(b, length, self.n_heads, -1).transpose(1, 2) for part in parts)
        bias = self.position_bias(length) + self.time_bias(buckets)
        weight = F.silu(query @ key.transpose(2, 3) + bias[:, None]).tril() / self.max_length
        mixed = (weight @ value).transpose(1, 2).reshape(b, length, -1)
        return x + self.output(self.dropout(gate * _norm(mixed)))


@register("hstu", HSTUConfig)
class HSTU(SequenceModel):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"timestamps"})

    def __init__(self, config: HSTUConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "n_heads", "head_size", "n_time_buckets")
        if not config.temperature > 0:
            raise UserError(f"model.temperature must be positive, not {config.temperature:g}")
        if context.train is not None:
            warn_of_equal_gaps(config.name, context.train)
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.position_embedding = nn.Embedding(context.max_length, d)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(HSTULayer(config, context.max_length) for _ in range(config.n_layers))
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        nn.init.trunc_normal_(self.item_embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.position_embedding.weight, std=d**-0.5)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0.0

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        positions = self.position_embedding.weight[: batch.items.shape[1]]
        states = [self.dropout(self.item_embedding(batch.items) * self.width**0.5 + positions)]
        buckets = time_buckets(self._query_times(batch), batch.timestamps, self.config.n_time_buckets)
        for layer in self.layers:
            states.append(layer(states[-1], buckets))
        return states

    def _query_times(self, batch: Batch) -> Tensor:
        """[B, L] int64: the time at which each position asks."""
        if not self.config.time_of_target:
            return batch.timestamps
        if batch.next_timestamps is None:
            raise UserError(
                "model.time_of_target=true reads the time of the target, which is not known here; it is for offline evaluation only"
            )
        return batch.next_timestamps

    def queries(self, states: Tensor) -> Tensor:
        """States [..., D] -> unit vectors over the temperature [..., D]."""
        return F.normalize(states, dim=-1) / self.config.temperature

    def item_vectors(self) -> Tensor:
        """[V, D]: unit vectors; the pad's is zero."""
        return F.normalize(self.item_embedding.weight, dim=-1)


def _norm(x: Tensor) -> Tensor:
    """Layer norm without weights, as the released code has it."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
