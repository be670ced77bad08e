"""OnePiece: items laid beside the history as anchors, and steps of latent reasoning behind it [OnePiece, arXiv 2509.18091].

What is different about this model: beside the history the network reads what an engineer would lay there, and before it answers it goes over its own
last states again. Each part has its switch, and with all of them off it is SASRec, bit for bit.

    [ x_1 .. x_n | anchors of x_n | pause, hour ]      one sequence; events see the anchors, and each other if ``bidirectional``
    block 0    states of the last M events
    block k    (block k-1) + v_k  through the same layers, which see everything before and block k itself
    score      last state of block K . E

Anchors are the items that most often followed the last one in training, as ``markov`` counts them. Those counts hold the very pair that is being
learned, so a training target is an anchor more often than one of the test. ``folds`` takes that away: users are dealt to so many folds, and while
training a history's anchors are counted from the users of the others. On planted data it costs more than it mends: there the model learns what an
anchor is from targets that are one. (To take the one pair out of the counts is no mend: what is then missing is the target.)

Each step has a task: the next item at a temperature that falls to 1 (``tasks: temperature``), or all events first and then those that are worth more
(``behaviours``; ``data.rewards``), as impression, click and order in the paper; ``last`` trains the last step alone.

Controls: ``anchor_source`` popular and random; anchors without steps; ``steps: 0`` with as many more ``n_layers``; ``tasks: last``. Steps without
anchors are ReaRec's idea. The paper's own ablation says that the anchors are worth more than the steps.

Deviations: the paper's anchors are items clicked for a query, which these data do not have. Its steps go on from unnormalised outputs, ours from
normed ones. One history a target: a training window gives its whole and ``prefixes`` drawn beginnings, so fewer targets an epoch than SASRec. No code
was published and its data are private: no number is this model's to reach. A history shorter than M events repeats its first.

Shapes: N histories, L events, G tokens beside them, T = L + G, M states of a step, K steps, A anchors, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, prefixes_at
from recbench.data.rewards import MOST_BEHAVIOURS, rewards_of
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_number
from recbench.models.registry import register
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.anchors import anchor_table
from recbench.nn.transformer.attention import TransformerLayer, at_position

CHOICES = {
    "anchor_source": ("followers", "popular", "random"),
    "tasks": ("temperature", "behaviours", "last"),
}
#: Pauses are told apart by their power of two in seconds; 0: there was no event before.
PAUSES = 32
#: Histories that are read at once where the state at every event is asked for.
ROWS_AT_ONCE = 1024


@dataclass
class OnePieceConfig(SASRecConfig):
    """SASRec's keys, and what is laid beside and behind a history; see the head of the file."""

    name: str = "onepiece"
    anchors: int = 10
    anchor_source: str = "followers"
    folds: int = 0
    situation: bool = True
    steps: int = 2
    step_states: int = 2
    tasks: str = "temperature"
    first_temperature: float = 2.0
    bidirectional: bool = True
    prefixes: int = 3

    @property
    def is_plain(self) -> bool:
        """Whether everything is off, so that it is SASRec."""
        return not (self.anchors or self.situation or self.steps or self.bidirectional)


@register("onepiece", OnePieceConfig)
class OnePiece(SASRec):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"timestamps"})
    looks_up_events: ClassVar[bool] = False
    #: [V, A] int64: anchors of each last item, the most frequent first, 0 where there are fewer.
    anchor_items: Tensor
    #: [F, V, A] int64: those that are counted without the users of a fold; no part of the model's state.
    anchors_without: Tensor
    #: [MOST_BEHAVIOURS] int64: the deepest step that is trained on targets of a behaviour.
    depth_of_behaviour: Tensor

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        behaviours = config.steps > 0 and config.tasks == "behaviours"
        return frozenset({*(["timestamps"] if config.situation else []), *(["behaviours"] if behaviours else [])})

    def __init__(self, config: OnePieceConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        d, v = config.hidden_size, context.n_items + 1
        self.register_buffer("anchor_items", torch.zeros(v, config.anchors, dtype=torch.int64))
        self.register_buffer("anchors_without", torch.zeros(0, v, config.anchors, dtype=torch.int64), persistent=False)
        self.register_buffer("depth_of_behaviour", torch.zeros(MOST_BEHAVIOURS, dtype=torch.int64))
        if config.anchors:
            self.anchor_group = nn.Parameter(torch.randn(d) * 0.02)
        if config.situation:
            self.pause_embedding, self.hour_embedding = nn.Embedding(PAUSES, d), nn.Embedding(24, d)
            for table in (self.pause_embedding, self.hour_embedding):
                nn.init.normal_(table.weight, std=0.02)
        if config.steps:
            self.step_vectors = nn.Parameter(torch.randn(config.steps, d) * 0.02)
        if context.train is not None:
            if config.anchors:
                self._count_anchors(context.train, context.seed)
            if "behaviours" in self.needs(config):
                worth = rewards_of(context.train.data, context.rewards)[:MOST_BEHAVIOURS]
                self.depth_of_behaviour[: len(worth)] = torch.from_numpy(depths(worth, config.steps))

    def _count_anchors(self, train: TrainingData, seed: int) -> None:
        config = self.config
        self.anchor_items = torch.from_numpy(anchor_table(train, config.anchors, config.anchor_source, seed))
        if config.folds and config.anchor_source == "followers":
            parts = [
                anchor_table(train, config.anchors, config.anchor_source, seed, (fold, config.folds))
                for fold in range(config.folds)
            ]
            self.anchors_without = torch.from_numpy(np.stack(parts))

    def anchors_of(self, last: Tensor, user: Tensor) -> Tensor:
        """last items [N], users [N] -> anchors [N, A], 0 where there are fewer; while training, without what the user's own fold did."""
        if self.training and len(self.anchors_without):
            return self.anchors_without[user % self.config.folds, last]
        return self.anchor_items[last]

    def beside(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(vectors [N, G, D], which are there [N, G]) of the tokens beside each history."""
        config, last = self.config, batch.lengths - 1
        found, there = [], []
        if config.anchors:
            items = self.anchors_of(at_position(batch.items[..., None], last)[:, 0], batch.user)
            scale = config.hidden_size**0.5 if config.scale_embedding else 1.0
            found.append(self.dropout(self.item_embedding(items) * scale + self.anchor_group))
            there.append(items > 0)
        if config.situation:
            now, before = (at_position(batch.timestamps[..., None], at.clamp(min=0))[:, 0] for at in (last, last - 1))
            power = ((now - before).clamp(min=0).float() + 1).log2().long().clamp(max=PAUSES - 2) + 1
            pause = torch.where(last > 0, power, 0)
            hour = now.div(3600, rounding_mode="floor") % 24
            found.append(self.dropout(torch.stack([self.pause_embedding(pause), self.hour_embedding(hour)], 1)))
            there.append(torch.ones(now.shape[0], 2, dtype=torch.bool, device=now.device))
        if not found:
            return self.item_embedding.weight.new_zeros(batch.items.shape[0], 0, config.hidden_size), batch.mask[:, :0]
        return torch.cat(found, 1), torch.cat(there, 1)

    def read(self, batch: Batch) -> list[Tensor]:
        """The states at the end of each history, [N, D] each: of the input, after each layer, after each step.

        The last layer works at the M last events alone, which is all that is read of it.
        """
        tokens, there = self.beside(batch)
        x, real = torch.cat([self.inputs(batch), tokens], 1), torch.cat([batch.mask, there], 1)
        last, block = batch.lengths - 1, max(self.config.step_states if self.config.steps else 1, 1)
        back = torch.arange(block - 1, -1, -1, device=x.device)
        ends = (last[:, None] - back).clamp(min=0)
        states, past = [at_position(x, last)], []
        for number, layer in enumerate(self.layers, 1):
            at = ends if number == len(self.layers) else None
            x, kept = cast(TransformerLayer, layer).extend(x, None, self._sees(batch, real, at), at)
            states.append(x[:, -1] if at is not None else at_position(x, last))
            past.append(kept)
        states[-1] = self.final_norm(states[-1])
        if self.config.steps:
            states += [made[:, -1] for made in self.reason(self.final_norm(x), past, real)]
        return states

    def _sees(self, batch: Batch, real: Tensor, at: Tensor | None) -> Tensor:
        """[N, 1, 1 or T or A, T] bool: what each position sees of the T, those ``at`` [N, A] alone if it is given. real [N, T]"""
        if self.config.bidirectional:
            return real[:, None, None, :]
        length, total = batch.items.shape[1], real.shape[1]
        earlier = torch.ones(total, total, dtype=torch.bool, device=real.device)
        earlier[:length, :length] = earlier[:length, :length].tril()
        sees = earlier[None] if at is None else earlier[at]
        return (sees & real[:, None, :])[:, None]

    def reason(self, block: Tensor, past: list[tuple[Tensor, Tensor]], real: Tensor) -> list[Tensor]:
        """Block 0 [N, M, D], what each layer keeps of the T tokens, which of them are real [N, T] -> blocks 1 .. K."""
        found, seen = [], real
        for vector in self.step_vectors:
            seen = torch.cat([seen, seen.new_ones(block.shape[:2])], 1)
            block = block + vector
            for number, layer in enumerate(self.layers):
                block, past[number] = cast(TransformerLayer, layer).extend(block, past[number], seen[:, None, None, :])
            block = self.final_norm(block)
            found.append(block)
        return found

    def last_states(self, batch: Batch) -> list[Tensor]:
        return super().last_states(batch) if self.config.is_plain else self.read(batch)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """At every event, those of the history that ends there, as a row of its own."""
        if self.config.is_plain:
            return super().hidden_states(batch)
        row, last = batch.mask.nonzero(as_tuple=True)
        pieces = []
        for chosen in torch.arange(len(row), device=row.device).split(ROWS_AT_ONCE):
            pieces.append(self.read(prefixes_at(batch, row[chosen], last[chosen])))
        shape = (*batch.items.shape, self.width)
        found = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        return [states.new_zeros(shape).index_put((row, last), states) for states in found]

    def training_loss(self, batch: Batch) -> Tensor:
        if self.config.is_plain:
            return super().training_loss(batch)
        assert batch.targets is not None
        row, last = trained_places(batch, self.config.prefixes)
        targets = batch.targets[row, last]
        states = self.read(prefixes_at(batch, row, last))
        return self._loss(states, targets, None if batch.next_behaviours is None else batch.next_behaviours[row, last])

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        if self.config.is_plain:
            return super().loss_from_states(states, batch)
        assert batch.targets is not None
        real, done = batch.mask, batch.next_behaviours
        return self._loss([part[real] for part in states], batch.targets[real], None if done is None else done[real])

    def _loss(self, states: list[Tensor], targets: Tensor, behaviours: Tensor | None) -> Tensor:
        """states [N, D] each, targets [N], behaviours of the targets [N] -> the mean over the steps of their tasks' losses."""
        steps, config = states[-config_steps(self.config) :], self.config
        if config.tasks == "last" or not config.steps:
            return self.catalogue_loss(self.queries(states[-1]), targets)
        if config.tasks == "temperature":
            heat = torch.linspace(config.first_temperature, 1.0, config.steps).tolist() if config.steps > 1 else [1.0]
            losses = [self.catalogue_loss(self.queries(part) / t, targets) for part, t in zip(steps, heat, strict=True)]
            return torch.stack(losses).mean()
        assert behaviours is not None
        depth = self.depth_of_behaviour[behaviours.clamp(max=MOST_BEHAVIOURS - 1)]
        losses = []
        for number, part in enumerate(steps):
            rows = depth >= number
            some = bool(rows.any())
            losses.append(self.catalogue_loss(self.queries(part[rows]), targets[rows]) if some else part.sum() * 0)
        return torch.stack(losses).mean()


def config_steps(config: OnePieceConfig) -> int:
    """States at the end of a list of them that have a task: one without steps."""
    return max(config.steps, 1)


def trained_places(batch: Batch, prefixes: int) -> tuple[Tensor, Tensor]:
    """(row [N], position [N]): of each window its last position, and so many drawn ones besides, as far as there are any."""
    noise = torch.rand(batch.items.shape, device=batch.items.device).masked_fill(~batch.mask, -1.0)
    noise = noise.scatter(1, (batch.lengths - 1)[:, None], 2.0)
    best, position = noise.topk(min(prefixes + 1, noise.shape[1]), dim=1)
    row = torch.arange(len(batch), device=noise.device)[:, None].expand_as(position)
    return row[best >= 0], position[best >= 0]


def depths(worth: np.ndarray, steps: int) -> np.ndarray:
    """[B + 1] int64: the last step, from 0, that learns from targets of each behaviour: step 0 from all, the last step from what is worth most.

    >>> depths(np.array([0.0, 0.0, 1.0, 3.0]), 2), depths(np.array([0.0, 0.0, 1.0, 3.0]), 3)
    (array([0, 0, 0, 1]), array([0, 0, 1, 2]))
    """
    level = np.searchsorted(np.unique(worth), worth)
    return level * (steps - 1) // max(int(level.max()), 1)


def _check(config: OnePieceConfig) -> None:
    check_choices(config, CHOICES)
    for key in ("anchors", "steps", "prefixes", "folds"):
        if getattr(config, key) < 0:
            raise UserError(f"model.{key}={getattr(config, key)} must be 0 or more")
    if config.folds == 1:
        raise UserError("model.folds=1 leaves no other users to count anchors from; use 2 or more, or 0 for all users")
    if config.step_states < 1:
        raise UserError(f"model.step_states={config.step_states} must be at least 1")
    check_number("model.first_temperature", config.first_temperature, above=0.0)
    if config.block != "pre_norm" and not config.is_plain:
        raise UserError(
            f"anchors and steps are laid over the usual block, and model.block={config.block} is another; use model.block=pre_norm"
        )
    if config.tasks == "behaviours" and config.steps < 2:
        raise UserError("model.tasks=behaviours gives each step its own targets; set model.steps to 2 or more")
