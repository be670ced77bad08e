"""TAGNN: SR-GNN in which each candidate item attends to the session for itself [Yu et al., SIGIR 2020].

What is different about this model: a session has no one vector. Beside what SR-GNN makes of it, each candidate weighs the session's events by
its own bilinear match and is scored against the sum:

    beta_vp = softmax_p(e_v . W_t g_p);   y_v = (s + sum_p beta_vp g_p) . e_v

``nn.target_attention`` rewrites this exactly, so that nothing of size [B, V, D] is ever made. It still costs two products with the table for
each event of a prefix, where other models have one for the whole prefix: on sessions of five nodes ten times the work.

So it is no ``SequenceModel``: its scores are no product of a query with item vectors. It can be distilled *from* (by its scores), has no
contrastive auxiliaries, and its loss is the exact softmax only.

Glossary (paper -> here): v_i -> states of nodes; s_local, s_global -> the two inputs of ``SoftAttention.combine``; s_target ->
``nn.target_attention``; W_s -> ``to_key``; d -> ``hidden_size``.

Where this deviates from the authors' code: both softmaxes leave pads out, where theirs run over them, so that a score depends on how far its row
happens to be padded. Published training: as for ``srgnn``.

Shapes: B rows, L events, D hidden size, V = n_items + 1, R prefixes of a piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.nn.graph.gated_graph import GatedGraph, SoftAttention, check_edges, session_graphs, uniform_start
from recbench.nn.graph.target_attention import Sessions, target_scores, target_softmax
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from recbench.nn.prefix_rows import prefix_pieces, states_of_prefixes
from recbench.nn.transformer.dropout import Dropout


@dataclass
class TAGNNConfig(ModelConfig):
    """Sizes and edges."""

    name: str = "tagnn"
    hidden_size: int = 100
    n_steps: int = 1
    edges: str = "binary"  # binary | count
    dropout: float = 0.0  # of the item vectors; not in the paper


class TargetLoss(CatalogueLoss):
    """The exact softmax over target-aware scores; a CatalogueLoss, so that hardware decides its precision as it does for all others."""

    def of(self, sessions: Sessions, table: Tensor, targets: Tensor) -> Tensor:
        """targets [R] -> scalar mean loss."""
        return target_softmax(sessions, table, targets, self.bfloat16_logits)


@register("tagnn", TAGNNConfig)
class TAGNN(Recommender):
    """See the head of this file."""

    def __init__(self, config: TAGNNConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_steps")
        check_edges(config.edges)
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.dropout = Dropout(config.dropout)
        self.graph = GatedGraph(d, config.n_steps)
        self.readout = SoftAttention(d, normalised=True)
        self.to_key = nn.Linear(d, d, bias=False)
        self.loss = TargetLoss(LossConfig(), context.n_items)
        uniform_start(self, d)

    def _read(self, batch: Batch) -> tuple[list[Tensor], Sessions]:
        """States at the last event of each row, [B, D] each, and what candidates meet."""
        graphs = session_graphs(batch, self.n_items, self.config.edges)
        states = self.graph(self.dropout(self.item_embedding(graphs.item)), graphs)
        last = [graphs.at_last(state, batch.lengths) for state in states]
        events = graphs.at_events(states[-1])
        vector = self.readout(events, last[-1], batch.mask)
        return [*last, vector], Sessions(vector, self.to_key(events), events, batch.mask.float().log())

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """The last event's node before and after each gated step, and SR-GNN's part of the session; [B, L, D] each."""
        return states_of_prefixes(lambda rows: self._read(rows)[0], batch)

    def training_loss(self, batch: Batch) -> Tensor:
        assert batch.targets is not None
        targets = batch.targets[batch.mask]
        # Rows of a piece are alike in length: none attends to many more events than its prefix has.
        losses = [
            self.loss.of(self._read(rows)[1], self.item_embedding.weight, targets[chosen]) * len(chosen)
            for chosen, rows in prefix_pieces(batch)
        ]
        return torch.stack(losses).sum() / len(targets)

    def score(self, batch: Batch) -> Tensor:
        return target_scores(self._read(batch)[1], self.item_embedding.weight)
