"""Cases of ``user_folds``. Shapes: U users, C cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.cases import Cases, SplitParts
from recbench.data.temporal import set_cases
from recbench.data.user_folds_protocol import UserFoldsConfig

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData


def fold_of_users(n_users: int, config: UserFoldsConfig) -> np.ndarray:
    """[U] the fold of each user, the same for every ``fold`` that is asked.

    >>> np.bincount(fold_of_users(11, UserFoldsConfig(folds=5))).tolist()
    [3, 2, 2, 2, 2]
    """
    fold = np.empty(n_users, np.int64)
    fold[np.random.default_rng(config.seed).permutation(n_users)] = np.arange(n_users) % config.folds
    return fold


def user_fold_cases(data: PreparedData, config: UserFoldsConfig) -> SplitParts:
    """The split of ``UserFoldsConfig``. Users of the asked folds with a single event are neither trained on nor asked."""
    if data.n_users < config.folds:
        raise UserError(f"{data.n_users} users cannot be dealt into protocol.folds={config.folds}")
    start, end = np.asarray(data.offsets[:-1]), np.asarray(data.offsets[1:])
    fold = fold_of_users(data.n_users, config)
    tested, validated = fold == config.fold, fold == (config.fold + 1) % config.folds
    known = start + np.clip(np.rint(config.known * (end - start)).astype(np.int64), 1, np.maximum(end - start - 1, 1))

    def asked(chosen: np.ndarray) -> Cases:
        user = np.flatnonzero(chosen & (end - start >= 2))
        if config.target == "last":
            return Cases.single(data.items, user, start[user], end[user] - 1)
        return set_cases(data, user, start[user], known[user], known[user], end[user])

    counts = {
        "users_not_trained_on": int((tested | validated).sum()),
        "asked_users_with_a_single_event": int(((tested | validated) & (end - start < 2)).sum()),
    }
    train_end = np.where(tested | validated, start, end)
    return SplitParts(start.copy(), train_end, asked(validated), asked(tested), counts)
