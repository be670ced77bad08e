"""SR-GNN: a session as a graph of its items, read by gated steps along its edges [Wu et al., AAAI 2019].

What is different about this model: an item that comes twice in a session is one node, and what is known of it flows along the transitions in
both directions before the session is summed up by its last event and a soft attention over all events.

    m = [A_in (W_in h + c_in) ; A_out (W_out h + c_out)] + b;  h <- GRU(m, h);  a_p = q . sigmoid(W1 l + W2 g_p + b');  s = W3 [sum_p a_p g_p ; l]
    score of j = s . E[j]

A state depends on the whole graph of its prefix, so each prefix is a row, made from the batch (``nn.prefix_rows``); every event is a target once
an epoch, as with every model here.

Glossary (paper -> here): v_i, h_i -> states of nodes; A_s -> ``SparseGraphs``; H -> ``GatedGraphStep.neighbours``; s_1, the local embedding
-> ``last``; alpha, s_g, s_h -> ``SoftAttention``; z-hat -> ``score``; T steps -> ``n_steps``; d -> ``hidden_size``.

Where this deviates from the authors' code, and why:
- The pad is no node. In the code it is an isolated one, which changes nothing but costs time.
- ``edges: binary`` follows the code; ``count`` the text, where an edge walked twice weighs twice.
- The published training (lr 0.001 times 0.1 every 3 epochs, L2 of 1e-5 in the gradient, batches of 100 prefixes) stands in training keys:
  ``training.schedule=step training.l2=1e-5 training.batch_size=100``. The code moves its schedule at the start of an epoch, which drops the rate
  one epoch early.

Shapes: B rows, L events, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig
from recbench.models.session.session_graph import SessionGraphModel
from recbench.nn.graph.gated_graph import GatedGraph, SoftAttention, check_edges, session_graphs, uniform_start
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.dropout import Dropout


@dataclass
class SRGNNConfig(SequenceConfig):
    """Sizes and edges; the loss keys are those of every scoring model."""

    name: str = "srgnn"
    hidden_size: int = 100
    n_steps: int = 1
    edges: str = "binary"  # binary | count
    dropout: float = 0.0  # of the item vectors; not in the paper


@register("srgnn", SRGNNConfig)
class SRGNN(SessionGraphModel):
    """See the head of this file."""

    def __init__(self, config: SRGNNConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_steps")
        check_edges(config.edges)
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.dropout = Dropout(config.dropout)
        self.graph = GatedGraph(d, config.n_steps)
        self.readout = SoftAttention(d)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        uniform_start(self, d)

    def last_states(self, batch: Batch) -> list[Tensor]:
        """The last event's node before and after each gated step, and the session's vector. [B, D] each."""
        graphs = session_graphs(batch, self.n_items, self.config.edges)
        states = self.graph(self.dropout(self.item_embedding(graphs.item)), graphs)
        last = [graphs.at_last(state, batch.lengths) for state in states]
        return [*last, self.readout(graphs.at_events(states[-1]), last[-1], batch.mask)]
