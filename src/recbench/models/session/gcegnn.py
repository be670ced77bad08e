"""GCE-GNN: a session's own graph beside the graph of all training sessions [Wang et al., SIGIR 2020].

What is different about this model: each item of a session is heard twice, by its neighbours in this session, whose edges have types, and by
those it has in all training sessions, weighed by how they suit this one. Positions count from the end of the session.

    local   e_ij = leaky_relu(a_type(ij) . (h_i * h_j));  hL_i = sum_j softmax(e)_ij h_j       types: itself, after, before, both
    global  hG: see ``nn.global_graph``;   h = drop(hL) + drop(hG)
    session z_p = tanh(W3 [pos_p ; h_p]);  b_p = q . sigmoid(W4 z_p + W5 mean(h) + c);  S = sum_p b_p h_p;   score of j = S . E[j]

Glossary (paper -> here): r_ij, a_r -> ``edge_types``, ``TypedAttention.weights``; N_eps -> ``GlobalGraph.neighbours``; w_ij ->
``GlobalGraph.weights``; eps -> ``window``; k hops -> ``hops``; s -> ``wishes``; p_{l-i+1} -> ``position_embedding``; d -> ``hidden_size``.

Where this deviates from the authors' code, and why:
- The global graph holds training events only. (So did theirs, but with its validation cut out of shuffled prefixes, validation was in it.)
- Items with fewer than ``n_neighbours`` neighbours have empty, masked places; the code draws neighbours again until the places are full.
- What an item hears in the global graph is computed once a session, so dropout on the way is drawn once for all places that hear of the item.
- Rows are as long as the longest prefix of a piece, not of the data; parameters that nothing reads do not exist.
What holds in the code holds here too: in training the transition to the target is in the global graph already, in evaluation it is not.
Published settings: Diginetica as the defaults; Tmall hops 1, inner_dropout 0.6, local_dropout 0.5; Nowplaying hops 1, inner_dropout 0. Training
as for ``srgnn``.

Shapes: B rows, L events or slots, D hidden size, M nodes, V = n_items + 1.
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
from recbench.nn.graph.gated_graph import uniform_start
from recbench.nn.graph.global_graph import GlobalGraph
from recbench.nn.graph.session_graph import N_EDGE_TYPES, NO_EDGE, DenseGraphs, dense_graphs
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.dropout import Dropout


@dataclass
class GCEGNNConfig(SequenceConfig):
    """Sizes, the global graph and dropout; the loss keys are those of every scoring model."""

    name: str = "gcegnn"
    hidden_size: int = 100
    hops: int = 2
    n_neighbours: int = 12
    window: int = 3
    dropout: float = 0.5  # of what the global graph gives
    local_dropout: float = 0.0
    inner_dropout: float = 0.2  # inside a layer of the global graph


class TypedAttention(nn.Module):
    """Attention of each node over its neighbours and itself, with a weight vector for each type of edge. [B, L, D] -> [B, L, D], 0 at empty
    slots."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(N_EDGE_TYPES - 1, hidden_size))

    def forward(self, states: Tensor, graphs: DenseGraphs) -> Tensor:
        types = graphs.edge_types()
        weighed = states[:, None] * self.weights[:, None]  # [B, types, L, D]
        products = weighed @ states[:, None].transpose(2, 3)  # [B, types, L, L]
        own_type = (types.long() - 1).clamp_min(0)[:, None]
        e = F.leaky_relu(products.gather(1, own_type)[:, 0], 0.2)
        alpha = e.masked_fill(types == NO_EDGE, -1e9).softmax(dim=2) * graphs.is_node[:, :, None]
        return torch.bmm(alpha, states)


class PositionAttention(nn.Module):
    """A session's vector from its events, their mean and their distance from the end. [B, L, D] by event, real [B, L], lengths [B] -> [B, D]."""

    def __init__(self, hidden_size: int, max_length: int) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.from_position = nn.Linear(hidden_size, hidden_size, bias=False)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False)
        self.from_both = nn.Linear(hidden_size, hidden_size)
        self.from_mean = nn.Linear(hidden_size, hidden_size, bias=False)
        self.weight = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, states: Tensor, real: Tensor, lengths: Tensor) -> Tensor:
        states = states * real[:, :, None]
        mean = states.sum(1) / lengths[:, None]
        distance = (lengths[:, None] - 1 - torch.arange(states.shape[1], device=states.device)).clamp_min(0)
        # Of W3 [pos ; h] the first half is the same for all rows: one product a position, not one an event.
        positions = F.embedding(distance, self.from_position(self.position_embedding.weight[: states.shape[1]]))
        z = torch.tanh(positions + self.from_state(states))
        b = self.weight(torch.sigmoid(self.from_both(z) + self.from_mean(mean)[:, None]))
        return (b * states).sum(1)


@register("gcegnn", GCEGNNConfig)
class GCEGNN(SessionGraphModel):
    """See the head of this file."""

    def __init__(self, config: GCEGNNConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "hops", "n_neighbours", "window")
        for key in ("local_dropout", "inner_dropout"):
            if not 0 <= getattr(config, key) < 1:
                raise UserError(f"model.{key} must lie between 0 and 1, not {getattr(config, key):g}")
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.local_graph = TypedAttention(d)
        self.global_graph = GlobalGraph(
            context.n_items, d, config.hops, config.n_neighbours, config.window, config.inner_dropout, context.train
        )
        self.local_dropout, self.dropout = Dropout(config.local_dropout), Dropout(config.dropout)
        self.readout = PositionAttention(d, context.max_length)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        uniform_start(self, d)

    def last_states(self, batch: Batch) -> list[Tensor]:
        """The last event's vector, its node's state from both graphs, and the session's vector. [B, D] each."""
        graphs = dense_graphs(batch.items, batch.lengths)
        items = batch.items * graphs.is_node
        vectors = self.item_embedding(items)
        wishes = torch.bmm(graphs.visits[:, None], vectors)[:, 0] / batch.lengths[:, None]
        node = graphs.is_node
        heard = self.global_graph(items[node], node.nonzero()[:, 0], wishes, self.item_embedding)
        heard = torch.zeros_like(vectors).masked_scatter(node[:, :, None], self.dropout(heard))
        states = self.local_dropout(self.local_graph(vectors, graphs)) + heard
        session = self.readout(graphs.at_events(states), batch.mask, batch.lengths)
        return [graphs.at_last(vectors, batch.lengths), graphs.at_last(states, batch.lengths), session]
