"""Fake users in the training data, who promote a few items; evaluation stays on the real users.

    random      a target among fillers that are drawn evenly from the catalogue
    bandwagon   a target among popular fillers
    sequence    popular filler, target, popular filler, target ...: targets come right after popular items, for models that read order

A fake user has as many events, at the same times, as the training part of a real user drawn for each. The split is that of the clean data: fake
users are laid behind the real ones and have training events alone. Counts shown to evaluation are of real users.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import flat_ranges
from recbench.data.prepared import PreparedData
from recbench.data.split import Split
from recbench.data.training import TrainingData

ATTACKS = ("none", "random", "bandwagon", "sequence")

#: The share of items, least or most popular, that targets or popular fillers are drawn from.
TENTH = 0.1


@dataclass
class AttackConfig:
    """No attack. With ``n_targets`` the places of so many rare items are measured all the same."""

    name: str = "none"
    share: float = 0.0
    n_targets: int = 0
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for numbers that make no sense."""
        if not 0 <= self.share <= 1:
            raise UserError(f"attack.share={self.share:g} must lie between 0 and 1, a share of the real users")
        if self.name == "none" and self.share:
            raise UserError(f"attack.share={self.share:g} needs an attack: choose attack=random, bandwagon or sequence")
        if self.n_targets < (self.name != "none") or self.seed < 0:
            raise UserError(
                f"attack.n_targets={self.n_targets} must be at least 1 and attack.seed={self.seed} not negative"
            )


@dataclass
class FakeUsersConfig(AttackConfig):
    """Fake users."""

    name: str = "random"
    share: float = 0.01
    n_targets: int = 5


class AttackedData(PreparedData):
    """Prepared data with fake users behind the real ones, in memory; ``n_real_users`` are real."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("attacked data are made anew in each process, from the config")


def attack_class(name: str) -> type[AttackConfig]:
    """The keys of an attack. Raises UserError for an unknown one."""
    from recbench.core.errors import nearest

    if name not in ATTACKS:
        raise UserError(f"unknown attack '{name}'; {nearest(name, ATTACKS)}")
    return AttackConfig if name == "none" else FakeUsersConfig


def attack_targets(data: PreparedData, split: Split, config: AttackConfig) -> np.ndarray:
    """[n_targets] int64, sorted: items drawn by the seed from the tenth of the items that real training holds least often, but holds.

    Raises UserError where there are fewer."""
    counts = TrainingData.of_real_users(data, split).item_counts()
    known = np.flatnonzero(counts > 0)
    known = known[np.argsort(counts[known], kind="stable")]
    rare = known[: max(config.n_targets, int(TENTH * len(known)))]
    if len(rare) < config.n_targets:
        raise UserError(f"attack.n_targets={config.n_targets} is more than the {len(known)} items of training")
    return np.sort(np.random.default_rng((config.seed, 1)).choice(rare, config.n_targets, replace=False))


def attacked(data: PreparedData, split: Split, config: AttackConfig) -> tuple[PreparedData, Split]:
    """Data and split with the fake users; both as they were without any."""
    n_fakes = round(config.share * data.n_users)
    if config.name == "none" or not n_fakes:
        return data, split
    generator = np.random.default_rng((config.seed, 2))
    train = TrainingData.of(data, split)
    long_enough = np.flatnonzero(train.end - train.start >= 4)
    if not len(long_enough):
        raise UserError("no real user has four training events, so there is nobody that a fake user could look like")
    like = generator.choice(long_enough, n_fakes)
    start, end = train.start[like], train.end[like]
    user, place = flat_ranges(start, end)
    items = fake_items(config, end - start, attack_targets(data, split, config), train.item_counts(), generator)
    first = len(data.items)
    offsets = first + np.concatenate([[0], np.cumsum(end - start)]).astype(np.int64)
    made = copy.copy(data)
    made.__class__ = AttackedData
    made.items = np.concatenate([data.items, items.astype(np.int32)])
    made.take_events(data, np.concatenate([np.arange(first), place]))
    made.offsets = np.concatenate([data.offsets, offsets[1:]])
    made.n_users, made.n_real_users = data.n_users + n_fakes, data.n_users
    made.n_interactions = len(made.items)
    said = json.dumps({"clean": data.fingerprint, "split": split.split_hash, **asdict(config)}, sort_keys=True)
    made.fingerprint = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    assert len(user) == len(items)
    return made, replace(
        split,
        train_start=np.concatenate([split.train_start, offsets[:-1]]),
        train_end=np.concatenate([split.train_end, offsets[1:]]),
    )


def fake_items(
    config: AttackConfig, lengths: np.ndarray, targets: np.ndarray, counts: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The events of all fake users, one after another; no user has an item twice. lengths [F], counts [V]."""
    known = np.setdiff1d(np.flatnonzero(counts > 0), targets)
    popular = known[np.argsort(-counts[known], kind="stable")]
    popular = popular[: max(int(TENTH * len(popular)), int(lengths.max()))]
    fillers = known if config.name == "random" else popular
    made = []
    for number, length in enumerate(lengths.tolist()):
        row = generator.choice(fillers, min(length, len(fillers)), replace=False)
        if config.name == "sequence":
            promoted = generator.permutation(targets)[: max(1, len(row) // 2)]
            row[1 : 2 * len(promoted) : 2] = promoted
        else:
            row[generator.integers(len(row))] = targets[number % len(targets)]
        made.append(np.resize(row, length))
    return np.concatenate(made)
