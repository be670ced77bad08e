"""GC-SAN: SR-GNN's gated step, then self-attention over the events of the prefix [Xu et al., IJCAI 2019].

What is different about this model: the states that the graph gives to a session's events go through a stack of attention blocks, and the session is
``attention_weight`` parts of what stands at its last event behind them and the rest of what stood there before.

    F = softmax(Q K^T / sqrt d) V;   E = relu(F W1 + b1) W2 + b2 + F;   s = w E_last + (1 - w) h_last;   score of j = s . E[j]

Glossary (paper -> here): G = SR-GNN's node states by event -> ``at_events``; W^Q, W^K, W^V -> ``AttentionBlock.query``, ``key_value``; E^(k) ->
``blocks``; omega -> ``attention_weight``; k -> ``n_layers``; d -> ``hidden_size``.

Where this deviates, and why:
- Pads are masked as keys. The public port masks none, so that a score depends on how far its row happens to be padded.
- Each block has weights of its own, where the port uses one block k times. As in the paper, there is one head and no layer norm.
- No causal mask: the row is the prefix alone, and its target is not in it.
The authors' own code was not to be had; the hyper-parameters are the paper's as far as known: d 120, four blocks, weight 0.6, dropout 0.2 of the
port. Published training: as for ``srgnn``, in batches of 50 prefixes.

Shapes: B rows, L events, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig
from recbench.models.session.session_graph import SessionGraphModel
from recbench.nn.graph.gated_graph import GatedGraph, check_edges, session_graphs, uniform_start
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.dropout import Dropout


@dataclass
class GCSANConfig(SequenceConfig):
    """Sizes, edges, dropout and the share of attention; the loss keys are those of every scoring model."""

    name: str = "gcsan"
    hidden_size: int = 120
    n_steps: int = 1
    n_layers: int = 4
    attention_weight: float = 0.6
    dropout: float = 0.2
    edges: str = "binary"  # binary | count


class AttentionBlock(nn.Module):
    """One head without output projection, then a feed-forward layer with the residual around it. x [B, L, D], real [B, L] -> [B, L, D]."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.expand = nn.Linear(hidden_size, hidden_size)
        self.contract = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        key, value = self.key_value(x).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(self.query(x), key, value, attn_mask=real[:, None, :])
        return mixed + self.dropout(self.contract(torch.relu(self.expand(mixed))))


@register("gcsan", GCSANConfig)
class GCSAN(SessionGraphModel):
    """See the head of this file."""

    def __init__(self, config: GCSANConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_steps", "n_layers")
        check_edges(config.edges)
        if not 0 < config.attention_weight <= 1:
            raise UserError(f"model.attention_weight must lie above 0 and not above 1, not {config.attention_weight:g}")
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.graph = GatedGraph(d, config.n_steps)
        self.blocks = nn.ModuleList(AttentionBlock(d, config.dropout) for _ in range(config.n_layers))
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        uniform_start(self, d)

    def last_states(self, batch: Batch) -> list[Tensor]:
        """The last event's node before and after the graph, its state after each block but the last, and the session's vector. [B, D] each."""
        graphs = session_graphs(batch, self.n_items, self.config.edges)
        nodes = self.graph(self.item_embedding(graphs.item), graphs)
        rows, end = torch.arange(batch.items.shape[0], device=batch.items.device), batch.lengths - 1
        found = [graphs.at_last(nodes[0], batch.lengths)]
        states = [graphs.at_events(nodes[-1])]
        for block in self.blocks:
            states.append(block(states[-1], batch.mask))
        found += [state[rows, end] for state in states]
        w = self.config.attention_weight
        return [*found[:-1], w * found[-1] + (1.0 - w) * found[1]]
