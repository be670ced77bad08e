"""From prepared data and a protocol to arrays: what is training, which cases are asked, and the audit of both.

Nothing is copied: a split is ranges over the flat arrays of the data. Only the protocols ``sessions``, which takes items
out of sequences, and ``holdout``, which orders them anew, look at arrays of their own: ``protocol_view`` makes them once
and finds them again. Shapes: U users, C cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recbench.core.errors import UserError
from recbench.data.candidates import sampled_candidates
from recbench.data.cases import Cases
from recbench.data.given_parts import given_cases
from recbench.data.holdout import holdout_cases, holdout_view
from recbench.data.last_events import fixed_date_cases, leave_k_out_cases
from recbench.data.protocol import (
    FixedDateConfig,
    GivenConfig,
    HoldoutConfig,
    LeaveKOutConfig,
    ProtocolConfig,
    SampledConfig,
    SessionsConfig,
    TemporalConfig,
    UserFoldsConfig,
)
from recbench.data.session_protocol import published_of
from recbench.data.session_view import session_cases, session_view
from recbench.data.split_audit import audit
from recbench.data.temporal import temporal_cases
from recbench.data.training import TrainingData
from recbench.data.user_folds import user_fold_cases

if TYPE_CHECKING:
    from recbench.data.store import PreparedData

__all__ = ["Cases", "Split", "make_split", "protocol_view"]

#: Those of ``SplitParts``, in its order.
Parts = tuple[np.ndarray, np.ndarray, Cases, Cases, dict[str, int]]
#: What cuts the data of a protocol; ``parts`` of its config does for one of another package.
CASES: tuple[tuple[type[ProtocolConfig], Callable[[PreparedData, Any], Parts]], ...] = (
    (TemporalConfig, temporal_cases),
    (GivenConfig, given_cases),
    (SessionsConfig, session_cases),
    (HoldoutConfig, holdout_cases),
    (LeaveKOutConfig, leave_k_out_cases),
    (FixedDateConfig, fixed_date_cases),
    (UserFoldsConfig, user_fold_cases),
)


@dataclass(frozen=True)
class Split:
    """A protocol applied to one data set.

    train_start, train_end [U] int64: the training events of user u are the flat positions
    ``train_start[u]:train_end[u]``. seen_items: ``mask`` or ``keep``, resolved. audit: see
    ``recbench.data.split_audit``. split_hash: over every array, so that two runs can prove that they were asked the
    same.
    """

    protocol_id: str
    seen_items: str
    metric_prefix: str
    train_start: np.ndarray
    train_end: np.ndarray
    validation: Cases
    test: Cases
    audit: dict[str, float | int]
    split_hash: str
    #: Validation is part of training: no epoch can be chosen on it.
    validation_in_training: bool = False
    #: A history is a set of items rather than the way to the next one: a model that can take all of it does (``reads_whole_history``).
    whole_histories: bool = False
    #: [n_items + 1] bool, the items that are ranked, without the pad; None: all of them.
    ranked: np.ndarray | None = None
    #: Of impressions alone (``recbench.data.clicks``).
    fields: ClassVar[None] = None

    def training(self, data: PreparedData) -> TrainingData:
        """What a model may learn from."""
        return TrainingData.of(data, self)


def protocol_view(data: PreparedData, config: ProtocolConfig) -> PreparedData:
    """The data as the protocol sees them, for ``make_split``: themselves, but for ``sessions`` and ``holdout``.

    Raises UserError if the config is wrong or the data lack what the protocol needs.
    """
    config.validate()
    if data.parts is not None and not config.takes_given_parts:
        raise UserError(
            f"these data come in parts that others made (data.parts), which protocol={config.name} would mix; use protocol=given"
        )
    if isinstance(config, SessionsConfig):
        return session_view(data, config)
    if isinstance(config, HoldoutConfig):
        return holdout_view(data, config)
    fraction = published_of(data).get("train_fraction", "1")
    if fraction != "1":
        raise UserError(
            f"data.fraction={fraction} is a share of training sessions, which protocol={config.name} does not know; "
            f"use protocol=sessions or data.fraction=1"
        )
    return data


def make_split(data: PreparedData, config: ProtocolConfig, cache: Path | None) -> Split:
    """Build the split that the protocol describes.

    data: as ``protocol_view`` gives them. cache: folder where sampled candidates are kept and found again; None draws them
    in memory. Raises UserError if the config is wrong, the data lacks what the protocol needs, or nothing is left to
    validate or test on.
    """
    config.validate()
    train_start, train_end, validation, test, counts = _parts(data, config)
    by_view = isinstance(config, SessionsConfig)
    if config.fit_on_validation and not by_view:
        train_end = with_validation(train_start, train_end, validation, test)
        counts = counts | {"validation_in_training": 1}
    ranked = None
    if config.cold_items == "drop" and not by_view:
        ranked, validation, test, dropped = without_cold(data, train_start, train_end, validation, test)
        counts = counts | dropped
    seen_items = config.resolve_seen_items(data.has_repeats)
    protocol_id = config.with_users(config.identity_for(data, seen_items))
    _refuse_empty(data, protocol_id, int((train_end - train_start).sum()), validation, test, counts)
    if isinstance(config, SampledConfig):
        validation, test = (
            replace(cases, candidates=sampled_candidates(data, cases, config, part, cache, ranked))
            for part, cases in (("validation", validation), ("test", test))
        )
    if config.users is not None:
        validation, test = some_users(validation, test, config.users, config.users_seed)
    return Split(
        protocol_id=protocol_id,
        seen_items=seen_items,
        metric_prefix=config.metric_prefix,
        train_start=train_start,
        train_end=train_end,
        validation=validation,
        test=test,
        audit=audit(data, train_start, train_end, validation, test) | counts,
        split_hash=_hash_arrays(train_start, train_end, *validation.arrays(), *test.arrays()),
        validation_in_training=config.fit_on_validation,
        whole_histories=isinstance(config, HoldoutConfig)
        or (isinstance(config, GivenConfig) and config.target == "all"),
        ranked=ranked,
    )


def _parts(data: PreparedData, config: ProtocolConfig) -> Parts:
    """Training, validation and test as the protocol cuts them; all of ours that are not named above are leave-one-out."""
    if type(config).parts is not ProtocolConfig.parts:  # a protocol of another package
        return config.parts(data)
    cut = next((cases for kind, cases in CASES if isinstance(config, kind)), None)
    return leave_one_out_cases(data) if cut is None else cut(data, config)


def with_validation(train_start: np.ndarray, train_end: np.ndarray, validation: Cases, test: Cases) -> np.ndarray:
    """[U] where training ends that holds each user's validation targets and what lies before them, but no test target."""
    end = train_end.astype(np.int64).copy()
    case = np.repeat(np.arange(len(validation)), validation.n_targets)
    np.maximum.at(end, validation.user[case], validation.target_positions + 1)
    first = np.full(len(end), np.iinfo(np.int64).max)
    np.minimum.at(first, np.repeat(test.user, test.n_targets), test.target_positions)
    return np.maximum(np.minimum(end, first), train_end)


def without_cold(
    data: PreparedData, train_start: np.ndarray, train_end: np.ndarray, validation: Cases, test: Cases
) -> tuple[np.ndarray, Cases, Cases, dict[str, int]]:
    """(items that training holds [n_items + 1] bool, validation and test with their targets among them, counts)."""
    known = TrainingData(data, train_start, train_end).item_counts() > 0
    kept = [cases.keep_targets(known[cases.targets]) for cases in (validation, test)]
    return known, kept[0], kept[1], {
        "cold_items_not_ranked": int((~known[1:]).sum()),
        "validation_targets_of_cold_items": len(validation.targets) - len(kept[0].targets),
        "test_targets_of_cold_items": len(test.targets) - len(kept[1].targets),
    }  # fmt: skip


def some_users(validation: Cases, test: Cases, n: int, seed: int) -> tuple[Cases, Cases]:
    """The cases of at most ``n`` users that are tested, drawn uniformly; all others leave both parts. Candidates stay as they were drawn."""
    tested = np.unique(test.user)
    chosen = np.random.default_rng(seed).choice(tested, min(n, len(tested)), replace=False)
    kept_validation, kept_test = (np.flatnonzero(np.isin(cases.user, chosen)) for cases in (validation, test))
    if not len(kept_validation):
        raise UserError(
            f"none of the protocol.users={n} drawn users is validated; raise it, or set another protocol.users_seed"
        )
    return validation.select(kept_validation), test.select(kept_test)


def leave_one_out_cases(data: PreparedData) -> Parts:
    """(train_start [U], train_end [U], validation, test, counts). Users with fewer than three events only train."""
    start, end = data.offsets[:-1], data.offsets[1:]
    enough = end - start >= 3
    user = np.flatnonzero(enough)
    validation = Cases.single(data.items, user, start[user], end[user] - 2)
    test = Cases.single(data.items, user, start[user], end[user] - 1)
    counts = {"users_with_fewer_than_3_events": int((~enough).sum())}
    return start.copy(), np.where(enough, end - 2, end), validation, test, counts


def _refuse_empty(
    data: PreparedData, protocol_id: str, training_events: int, validation: Cases, test: Cases, counts: dict[str, int]
) -> None:
    if training_events and len(validation) and len(test):
        return
    detail = ", ".join(f"{name} {value}" for name, value in counts.items())
    raise UserError(
        f"protocol {protocol_id} leaves {training_events} training events, {len(validation)} validation cases and "
        f"{len(test)} test cases of {data.n_interactions} events by {data.n_users} users ({detail}); move the cuts, "
        f"filter less or use more data"
    )


def _hash_arrays(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
