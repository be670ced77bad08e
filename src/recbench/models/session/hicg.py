"""HICG: current and long-term interest, crossed over the kinds of behaviour of a session [ACM TWEB 2022, arXiv 2210.12940], and HICG-CL.

After the abstract; equations ours. The text of the paper was not to be had, nor any code: that it reads sessions with several behaviours as a
heterogeneous graph, takes current and long-term interest from it by crossing what the behaviours say, and adds contrastive learning of
items that occur together, is theirs. How it does so here is not, so no published number is this model's to reach.

What is different about this model: an edge between two events has a type, the behaviours at its ends (``nn.behaviour_graph``), and the session
is summed up once for every kind of behaviour b before these are crossed:

    h    = E[items] after ``n_steps`` relation-wise gated steps
    c    = h_last + k_{b_last}                                       current interest
    g_b  = sum_p softmax_p(w . sigmoid(A h_p + B c)) h_p             long-term preference, over the events p with behaviour b
    beta = softmax_b(q . tanh(U [c ; g_b]))
    s    = W [c ; sum_b beta_b g_b ; sum_{b<b'} g_b * g_b']          score of j = s . E[j]

``crossing: false`` leaves the mean of the g_b in place of the last two, and is the paper's claim taken out. ``behaviours: one`` treats all events
alike. Then, as in data with one behaviour, there is nothing to type, skip or cross, and what is left is SR-GNN's kind of model: a mean over
predecessors, one over successors, s = W [c ; g]. ``contrast_weight`` above 0 is HICG-CL (``conf/model/hicg_cl.yaml``): see
``nn.item_cooccurrence``.

A state at a position is that of a row of its own that ends there (``nn.prefix_rows``): the graph of a history has edges that lead back.
An event whose behaviour is unknown, or never occurs in training, counts as one of the kind that is commonest there.

Shapes: B rows, L positions, N real positions of a batch, M nodes, K kinds of behaviour, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_number, check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig
from recbench.models.session.session_graph import SessionGraphModel
from recbench.nn.graph.behaviour_graph import RelationStep, behaviour_graph
from recbench.nn.graph.item_cooccurrence import CooccurrenceContrast, cooccurrence_table
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.dropout import Dropout

BEHAVIOURS = ("all", "one")


@dataclass
class HICGConfig(SequenceConfig):
    """Sizes, the ablations, and the contrastive term; the loss keys are those of every scoring model."""

    name: str = "hicg"
    hidden_size: int = 64
    n_steps: int = 1
    dropout: float = 0.2
    behaviours: str = "all"  # all | one
    crossing: bool = True
    contrast_weight: float = 0.0  # above 0: HICG-CL
    contrast_temperature: float = 0.15
    contrast_neighbours: int = 10
    contrast_window: int = 3
    contrast_min_sessions: int = 2


class Crossing(nn.Module):
    """(current interest [N, D], long-term preference of each kind [N, K, D], which kinds are there [N, K]) -> session [N, D]."""

    def __init__(self, width: int, crossed: bool) -> None:
        super().__init__()
        self.crossed = crossed
        if crossed:
            self.compare = nn.Linear(2 * width, width)
            self.weigh = nn.Linear(width, 1, bias=False)
        self.merge = nn.Linear((3 if crossed else 2) * width, width, bias=False)

    def forward(self, current: Tensor, preference: Tensor, present: Tensor) -> Tensor:
        if not self.crossed:
            mean = preference.sum(1) / present.sum(1, keepdim=True)
            return self.merge(torch.cat([current, mean], -1))
        beside = current[:, None].expand_as(preference)
        share = self.weigh(self.compare(torch.cat([beside, preference], -1)).tanh())
        share = share.masked_fill(~present[..., None], -torch.inf).softmax(1)
        # The sum over all pairs, out of two sums over kinds.
        products = (preference.sum(1).square() - preference.square().sum(1)) / 2
        return self.merge(torch.cat([current, (share * preference).sum(1), products], -1))


@register("hicg", HICGConfig)
class HICG(SessionGraphModel):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"behaviours"})
    #: [number of behaviours + 1] int64: the kind 0..K-1 of each behaviour, of an unknown one first.
    kind_of: Tensor

    def __init__(self, config: HICGConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        d = self.width = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.dropout = Dropout(config.dropout)
        self.attend_node = nn.Linear(d, d)
        self.attend_current = nn.Linear(d, d, bias=False)
        self.attend = nn.Linear(d, 1, bias=False)
        self.contrast: CooccurrenceContrast | None = None
        if config.contrast_weight and context.train is not None:
            table = cooccurrence_table(
                context.train, config.contrast_window, config.contrast_neighbours, config.contrast_min_sessions
            )
            self.contrast = CooccurrenceContrast(table, config.contrast_temperature)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        # A stored run that is built without its data takes the behaviours from its weights.
        self.register_buffer("kind_of", torch.empty(0, dtype=torch.int64))
        if context.train is not None:
            self._build_kinds(kinds_of_behaviours(context.train, config.behaviours))
        _initialise(self)

    def needs_whole_batch(self) -> str:
        contrast = (
            "" if self.contrast is None else "model.contrast_weight compares the items of a batch with each other"
        )
        return contrast or super().needs_whole_batch()

    def _build_kinds(self, kind_of: Tensor) -> None:
        """Whatever has as many parts as there are kinds of behaviour."""
        self.kind_of = kind_of
        d, self.n_kinds = self.width, int(kind_of.max()) + 1
        self.steps = nn.ModuleList(RelationStep(d, self.n_kinds) for _ in range(self.config.n_steps))
        self.kind_embedding = nn.Embedding(self.n_kinds, d) if self.n_kinds > 1 else None
        self.crossing = Crossing(d, self.config.crossing and self.n_kinds > 1)

    def last_states(self, batch: Batch) -> list[Tensor]:
        """The last node before the first and after each step, and the session, [B, D] each."""
        kinds, mask = self._kinds(batch), batch.mask
        graph = behaviour_graph(batch.items, kinds, mask, self.n_kinds)
        last = (batch.lengths - 1)[:, None]
        last_node = graph.alias.gather(1, last)[:, 0]
        states = self.dropout(self.item_embedding(graph.item))
        of_last = [states[last_node]]
        for step in self.steps:
            states = step(states, graph)
            of_last.append(states[last_node])
        current = of_last[-1]
        if self.kind_embedding is not None:
            current = current + self.kind_embedding(kinds.gather(1, last)[:, 0])
        is_kind = (kinds[..., None] == torch.arange(self.n_kinds, device=kinds.device)) & mask[..., None]
        preference = self._preference(states, graph.alias, current, is_kind)
        return [*of_last, self.crossing(current, preference, is_kind.any(1))]

    def _kinds(self, batch: Batch) -> Tensor:
        """[B, L] in 0..K-1."""
        if self.n_kinds == 1:
            return torch.zeros_like(batch.items)
        if batch.behaviours is None:
            raise UserError(
                f"the model '{self.config.name}' was given events without behaviours; it needs data that have them"
            )
        # What the training data do not know by number has a name that they do not know.
        return self.kind_of[torch.where(batch.behaviours < len(self.kind_of), batch.behaviours, 0)]

    def _preference(self, states: Tensor, alias: Tensor, current: Tensor, is_kind: Tensor) -> Tensor:
        """states [M, D], alias [B, L], current [B, D], is_kind [B, L, K] -> g [B, K, D], 0 for a kind that a row does not have."""
        compared = self.attend_node(states)[alias] + self.attend_current(current)[:, None]
        logits = self.attend(compared.sigmoid()).masked_fill(~is_kind, torch.finfo(states.dtype).min)
        weights = logits.softmax(1) * is_kind
        return torch.einsum("blk,bld->bkd", weights, states[alias])

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        loss = super().loss_from_states(states, batch)
        if self.contrast is not None:
            loss = loss + self.config.contrast_weight * self.contrast(batch.items, self.item_vectors())
        return loss

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        kind_of = state["kind_of"]
        if not len(self.kind_of) or int(kind_of.max()) != int(self.kind_of.max()):
            self._build_kinds(kind_of.clone())
        self.kind_of = kind_of.clone()
        super().load_stored_state(state)


def kinds_of_behaviours(train: TrainingData, behaviours: str) -> Tensor:
    """[number of behaviours + 1] int64: the kind 0..K-1 of each behaviour; those that occur in training have one each unless ``one``.

    Unknown behaviours (0) and those that never occur in training are of the commonest kind. Raises UserError if the data have none at all.
    """
    if train.data.behaviours is None:
        raise UserError("the model 'hicg' needs behaviours, which these data do not have")
    length = train.end - train.start
    position = np.repeat(train.start - np.cumsum(length) + length, length) + np.arange(length.sum())
    counts = np.bincount(train.data.behaviours[position], minlength=int(train.data.behaviours.max(initial=0)) + 1)
    counts[0] = 0
    if behaviours == "one" or not counts.any():
        return torch.zeros(len(counts), dtype=torch.int64)
    occur = counts > 0
    kind_of = np.cumsum(occur) - 1
    kind_of[~occur] = kind_of[counts.argmax()]
    return torch.from_numpy(kind_of.astype(np.int64))


def _check(config: HICGConfig) -> None:
    check_sizes(config, "hidden_size", "n_steps", "contrast_neighbours", "contrast_window", "contrast_min_sessions")
    check_choices(config, {"behaviours": BEHAVIOURS})
    check_number("model.contrast_weight", config.contrast_weight, least=0.0)
    check_number("model.contrast_temperature", config.contrast_temperature, above=0.0)


def _initialise(model: HICG) -> None:
    """Everything uniform within 1 / sqrt(D), as the session graph models since SR-GNN do."""
    bound = 1 / math.sqrt(model.width)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    with torch.no_grad():
        model.item_embedding.weight[0] = 0.0
