"""dt4rec: SASRec that is told what is still to come, and asked for histories after which much is: a decision transformer for recommendation.

One model for two papers, DT4IER [AAAI 2024] and TADT-CSA [2025], after the idea of the Decision Transformer [Chen et al., NeurIPS 2021]. What is
different about this model: each event carries a token for the return that follows it, and a list is made for a return that is wished for.

    r_l      reward of event l, by its behaviour (``data.rewards``)
    G_l      sum over k >= 1 of discount^(k-1) r_{l+k}: later training events of the user alone
    A_l      G_l - G_{l-1} = (1 - discount) G_l - r_l                     ``advantage: true``
    b_l      quantile bucket of G_l among training events with as many events left (else G would tell the length)
    h_l      SASRec( E[x_l] + P[l] + R[b_l] )                             one token an event
    asked    R[bucket of ``quantile``] at all events of the history

``returns`` says which future counts: ``immediate`` (r_{l+1} alone), ``long`` (G), or ``both``, a table each. Whatever is asked, no reward of a
history or of what comes after it is read: the quantile is chosen. Figures of other quantiles (``curve``) stand beside the run's own, as in
``test/q10_ndcg@10``.

Controls, ``token``:
    return        the model
    permuted      the rewards are dealt anew within each user: the curve must be flat
    constant      one token for all
    last_reward   the reward of the event itself: what happened, not what will
    none          SASRec, bit for bit
Two more that a practitioner would try first: ``model=sasrec training.selection=reward``, with and without ``training.selection_keys.base=0``.

Deviations: one token an event in place of (return, state, action), so a history is a third as long. Neither paper's code was followed: the attention
of DT4IER's released one sees the future, its decoder starts from the list to be predicted, and its contrastive term is never added; TADT-CSA's code
shifts an advantage and reads the unshifted one, which holds the future. ``contrast`` is the idea of DT4IER's term: the target must score higher under
the event's own bucket than under a drawn one. DT4IER's network of weights for each user and TADT-CSA's code book of states are left out. No published
number is this model's to reach.

Shapes: B rows, L positions, D hidden size, T tables of tokens, Q buckets, N events of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.cases import flat_ranges
from recbench.data.rewards import (
    MOST_BEHAVIOURS,
    event_rewards,
    events_left,
    merged_groups,
    quantile_buckets,
    returns,
    rewards_of,
)
from recbench.data.training import TrainingData
from recbench.models.base import Control, ModelContext
from recbench.models.checks import check_choices, check_number
from recbench.models.registry import register
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.losses.means import mean_of

CHOICES = {
    "token": ("return", "permuted", "constant", "last_reward", "none"),
    "returns": ("immediate", "long", "both"),
}
#: Events that a group of like many events left has at least, for each bucket.
EVENTS_A_BUCKET = 10


@dataclass
class DT4RecConfig(SASRecConfig):
    """SASRec's keys, and what is said of the future; see the head of the file."""

    name: str = "dt4rec"
    token: str = "return"
    returns: str = "long"
    advantage: bool = False
    discount: float = 0.9
    n_buckets: int = 10
    quantile: float = 0.9
    curve: list[float] = field(default_factory=lambda: [0.1, 0.5, 0.9])
    contrast: float = 0.0


@register("dt4rec", DT4RecConfig)
class DT4Rec(SASRec):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"behaviours"})
    reads_target_weights: ClassVar[bool] = True
    reads_rewards: ClassVar[bool] = True
    #: [T, Q] bool: the buckets that occur in training. A quantile is asked by the nearest of them.
    filled: Tensor
    #: [MOST_BEHAVIOURS] int64: the bucket of an event's own reward, by its behaviour (``last_reward``).
    bucket_of_behaviour: Tensor
    #: [N, T] uint8: the buckets of the training events; no part of the model's state.
    bucket_of_event: Tensor

    def __init__(self, config: DT4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        count = len(_kinds(config))
        self.return_tokens = nn.ModuleList(nn.Embedding(config.n_buckets, config.hidden_size) for _ in range(count))
        for table in self.return_tokens:
            nn.init.normal_(cast(nn.Embedding, table).weight, std=0.02)
        self.register_buffer("filled", torch.zeros(count, config.n_buckets, dtype=torch.bool))
        self.register_buffer("bucket_of_behaviour", torch.zeros(MOST_BEHAVIOURS, dtype=torch.int64))
        self.register_buffer("bucket_of_event", torch.zeros(0, count, dtype=torch.uint8), persistent=False)
        self._asked = config.quantile
        self._nearest: dict[float, list[int]] = {}
        if context.train is not None and config.token != "none":
            self._learn_buckets(context.train, context)

    def _learn_buckets(self, train: TrainingData, context: ModelContext) -> None:
        """From training events alone."""
        config = self.config
        worth = rewards_of(train.data, context.rewards)
        n = min(len(worth), MOST_BEHAVIOURS)
        levels = np.searchsorted(np.unique(worth), worth)[:n]
        self.bucket_of_behaviour[:n] = torch.from_numpy(np.minimum(levels, config.n_buckets - 1))
        found = training_buckets(train, config, context.rewards, context.seed)
        _, place = flat_ranges(train.start, train.end - 1)
        for number in range(len(self.filled)):
            self.filled[number, torch.from_numpy(np.unique(found[place, number]).astype(np.int64))] = True
        self.bucket_of_event = torch.from_numpy(found)

    def inputs(self, batch: Batch) -> Tensor:
        return self._inputs(batch, self.buckets(batch)) if len(self.return_tokens) else super().inputs(batch)

    def _inputs(self, batch: Batch, buckets: Tensor) -> Tensor:
        tokens = [table(buckets[..., number]) for number, table in enumerate(self.return_tokens)]
        return self.embed(batch.items, torch.stack(tokens).sum(0))

    def buckets(self, batch: Batch) -> Tensor:
        """[B, L, T]: those of the training events while the model is trained on them; else the one that is asked for, at every event."""
        if self.config.token == "last_reward":
            if batch.behaviours is None:
                raise UserError(
                    "model.token=last_reward reads the behaviours of a history, and this one has none; use model.token=return"
                )
            return self.bucket_of_behaviour[batch.behaviours.clamp(max=MOST_BEHAVIOURS - 1)][..., None]
        if self.training and batch.starts is not None and len(self.bucket_of_event):
            place = batch.starts[:, None] + torch.arange(batch.items.shape[1], device=batch.items.device)
            return self.bucket_of_event[place.clamp(max=len(self.bucket_of_event) - 1)].long()
        asked = torch.tensor(self.asked_buckets(self._asked), dtype=torch.int64, device=batch.items.device)
        return asked.expand(*batch.items.shape, -1)

    def asked_buckets(self, quantile: float) -> list[int]:
        """T numbers: the bucket of a quantile in each table, or the nearest that occurs in training."""
        if quantile not in self._nearest:
            wished = min(int(quantile * self.config.n_buckets), self.config.n_buckets - 1)
            there = [row.nonzero()[:, 0].tolist() or [wished] for row in self.filled.cpu()]
            self._nearest[quantile] = [min(row, key=lambda bucket: abs(bucket - wished)) for row in there]
        return self._nearest[quantile]

    @contextmanager
    def asking(self, quantile: float) -> Iterator[None]:
        """For as long as it lasts, the model is asked for another quantile."""
        before, self._asked = self._asked, quantile
        try:
            yield
        finally:
            self._asked = before

    def controls(self) -> dict[str, Control]:
        """``q10``, ``q50`` ...: the same model asked for these quantiles."""
        if self.config.token not in ("return", "permuted"):
            return {}

        def at(quantile: float) -> Callable[[Batch], Tensor]:
            if quantile == self.config.quantile:
                return self.score

            def score(batch: Batch) -> Tensor:
                with self.asking(quantile):
                    return self.score(batch)

            return score

        return {f"q{round(100 * quantile)}": (at(quantile), None) for quantile in self.config.curve}

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        loss = super().loss_from_states(states, batch)
        if self.config.contrast and self.training and batch.starts is not None:
            loss = loss + self.config.contrast * self.contrast_of_buckets(states[-1], batch)
        return loss

    def contrast_of_buckets(self, states: Tensor, batch: Batch) -> Tensor:
        """Mean of softplus(score of the target under a drawn bucket - score under its own). states [B, L, D]."""
        assert batch.targets is not None
        drawn = [torch.multinomial(row.float(), batch.items.numel(), replacement=True) for row in self.filled]
        other = self._inputs(batch, torch.stack(drawn, -1).view(*batch.items.shape, -1))
        for layer in self.layers:
            other = layer(other)
        trained = batch.trained
        target = self.item_vectors()[batch.targets[trained]]
        gap = ((self.normed(other) - states)[trained] * target).sum(-1)
        return mean_of(F.softplus(gap), batch.weights_of(trained))

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_stored_state(state)
        self._nearest = {}


def training_buckets(train: TrainingData, config: DT4RecConfig, rewards: Mapping[str, float], seed: int) -> np.ndarray:
    """[N, T] uint8: the buckets of each training event that another one follows; 0 elsewhere. Raises UserError where no training event has a
    reward."""
    kinds, reward = _kinds(config), event_rewards(train.data, rewards)
    found = np.zeros((len(reward), len(kinds)), dtype=np.uint8)
    user, place = flat_ranges(train.start, train.end)
    if not reward[place].any():
        raise UserError("no training event has a reward, so there is no return to ask for; set data.rewards")
    if config.token in ("constant", "last_reward"):
        return found
    if config.token == "permuted":
        order = np.lexsort((np.random.default_rng(seed).random(len(place)), user))
        reward[place] = reward[place[order]]
    left = events_left(train.start, train.end, len(reward))
    at = np.flatnonzero(left > 0)
    group = merged_groups(left[at], EVENTS_A_BUCKET * config.n_buckets)
    whole = returns(reward, train.start, train.end, config.discount)
    values = {
        "immediate": lambda: reward[at + 1],
        "long": lambda: whole[at],
        "advantage": lambda: (1 - config.discount) * whole[at] - reward[at],
    }
    for number, kind in enumerate(kinds):
        found[at, number] = quantile_buckets(values[kind](), group, config.n_buckets)
    return found


def _kinds(config: DT4RecConfig) -> list[str]:
    """What the T tables are of."""
    if config.token == "none":
        return []
    if config.token in ("constant", "last_reward"):
        return ["one"]
    kinds = ["immediate", "long"] if config.returns == "both" else [config.returns]
    return [*kinds, *(["advantage"] if config.advantage else [])]


def _check(config: DT4RecConfig) -> None:
    check_choices(config, CHOICES)
    check_number("model.discount", config.discount, least=0.0, most=1.0)
    check_number("model.contrast", config.contrast, least=0.0)
    for key, values in (("quantile", [config.quantile]), ("curve", config.curve)):
        for value in values:
            check_number(f"model.{key}", value, least=0.0, most=1.0)
    if not 2 <= config.n_buckets <= 256:
        raise UserError(f"model.n_buckets={config.n_buckets} must lie between 2 and 256")
    if config.contrast and config.token not in ("return", "permuted"):
        raise UserError(
            f"model.contrast tells the buckets of returns apart, and model.token={config.token} has none; set model.contrast=0"
        )
