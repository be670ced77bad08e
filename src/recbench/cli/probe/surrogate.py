"""A copy of a model, learned from its lists: what ``recbench probe extraction`` trains.

    loss = the copy's own loss where the next event is known
         + the ranking distillation (``objectives/distillation/ranking.py``) where a list was asked for

The epoch is chosen on histories kept back of what the attacker has; nobody's test is seen.

Shapes: N events of all histories, K items of a list.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch, WindowDataset, Windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.data.prepared import PreparedData
from recbench.models.sequence_model import SequenceModel
from recbench.nn.optimizers import uncompiled
from recbench.objectives.distillation.configs import RankingDistillation
from recbench.objectives.distillation.offline import flat_positions
from recbench.objectives.distillation.ranking import RankingObjective
from recbench.posthoc.probes.sequences import Sequences

#: Share of the histories that the epoch is chosen on.
KEPT_BACK = 0.1


@dataclass(frozen=True)
class Lessons:
    """Histories and the lists [N, K] that were asked for after each event, 0 where none was. hides_history: no list holds what is in the history."""

    sequences: Sequences
    answers: np.ndarray
    hides_history: bool = True

    def kept_back(self) -> np.ndarray:
        """[S] bool: every tenth history, from the first."""
        return np.arange(len(self.sequences.lengths)) % round(1 / KEPT_BACK) == 0


@dataclass(frozen=True)
class Training:
    """How the copy is trained: batch_size counts events."""

    epochs: int
    lr: float
    batch_size: int
    seed: int


def teach(
    model: SequenceModel,
    data: PreparedData,
    lessons: Lessons,
    how: Training,
    objective: RankingObjective,
    judge: Callable[[SequenceModel], float],
) -> float:
    """Train the model in place and leave it with its best epoch's weights; returns what ``judge``, the higher the better, said of it."""
    sequences, device = lessons.sequences, next(model.parameters()).device
    chosen = np.flatnonzero(~lessons.kept_back())
    windows = Windows(chosen, sequences.offsets[chosen], sequences.lengths[chosen])
    dataset, sampler = WindowDataset(data, windows), EpochSampler(windows, how.batch_size, how.seed)
    optimizer = uncompiled(torch.optim.AdamW)([p for p in model.parameters() if p.requires_grad], lr=how.lr)
    torch.manual_seed(how.seed)
    best, state = -1.0, copy.deepcopy(model.state_dict())
    for epoch in range(how.epochs):
        model.train()
        model.start_epoch(epoch, torch.Generator().manual_seed(how.seed * 1_000_003 + epoch))
        for rows in sampler.plan(epoch):
            place = torch.from_numpy(flat_positions(windows.start, windows.length, rows))
            batch = dataset[rows].to(device)
            loss = loss_of(model, batch, place, lessons, objective)
            if loss is None:
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = judge(model.eval())
        if found > best:
            best, state = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    model.eval()
    return best


def loss_of(
    model: SequenceModel, batch: Batch, place: Tensor, lessons: Lessons, objective: RankingObjective
) -> Tensor | None:
    """Of a batch whose real positions are the events ``place`` [n]; None where nothing is known of any."""
    device = batch.items.device
    real = torch.from_numpy(lessons.sequences.real[place]).to(device)
    best = torch.from_numpy(lessons.answers[place].astype(np.int64)).to(device)
    asked = best[:, 0] > 0
    states = model.hidden_states(batch)
    terms: list[Tensor] = []
    if real.any():
        batch.target_weights = torch.zeros(batch.items.shape, device=device)
        batch.target_weights[batch.mask] = real.float()
        terms.append(model.loss_from_states(states, batch))
    if asked.any():
        row, last = (part[asked] for part in batch.mask.nonzero(as_tuple=True))
        known = torch.arange(batch.items.shape[1], device=device) <= last[:, None]
        barred = batch.items[row] * known if lessons.hides_history else None
        queries = model.queries(states[-1][row, last])
        terms += objective.of_queries(queries, model.item_vectors(), best[asked], barred).values()
    return torch.stack(terms).sum() if terms else None


def objective_for(model: SequenceModel, k: int, repair: float) -> RankingObjective:
    """The distillation of lists of ``k`` items."""
    config = RankingDistillation(top_k=k, repair=repair)
    config.check()
    return RankingObjective(config, model, model)
