"""How well an attribute of users can be told from what is seen of them, by classifiers that are asked about users whom they never met.

Shapes: U users, F features, C values of the attribute.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from recbench.core.errors import UserError

#: Columns that the network reads of wide features: their leading singular directions.
NETWORK_WIDTH = 64


def dealt(label: np.ndarray, seed: int) -> np.ndarray:
    """The labels [U] anew over the users: what nobody can tell."""
    return label[np.random.default_rng(seed).permutation(len(label))]


def telling(features: Any, label: np.ndarray, folds: int, seed: int) -> dict[str, float]:
    """``logistic`` and ``network``: balanced accuracy on users kept back, and half the width of their 95 % intervals over the folds.

    features [U, F], dense or sparse; label [U]. Raises UserError where a value has fewer users than there are folds.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold

    values, counts = np.unique(label, return_counts=True)
    if len(values) < 2 or counts.min() < folds:
        raise UserError(
            f"a value of the attribute has fewer than {folds} users; lower folds, or choose another attribute"
        )
    scores: dict[str, list[float]] = {"logistic": [], "network": []}
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(label)), label):
        even = train[evenly(label[train], np.random.default_rng(seed))]
        for name, model in classifiers(features, seed).items():
            rows = even if name == "network" else train  # logistic regression weighs the values by itself
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the network is given so many epochs and no more
                said = model.fit(features[rows], label[rows]).predict(features[test])
            scores[name].append(balanced_accuracy_score(label[test], said))
    found = {name: float(np.mean(part)) for name, part in scores.items()}
    return found | {
        f"{name}_half_width": float(1.96 * np.std(part, ddof=1) / np.sqrt(folds)) for name, part in scores.items()
    }


def evenly(label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Places of the labels, those of rarer values drawn again until all values have as many."""
    most = np.bincount(label).max()
    rows = [np.flatnonzero(label == value) for value in np.unique(label)]
    return np.concatenate([np.concatenate([own, generator.choice(own, most - len(own))]) for own in rows])


def classifiers(features: Any, seed: int) -> dict[str, Any]:
    """The two that are trained anew; both weigh the values alike."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wide = sparse.issparse(features)
    width = min(NETWORK_WIDTH, features.shape[1] - 1)
    first = [TruncatedSVD(width, random_state=seed), StandardScaler()] if wide else [StandardScaler()]
    scale = StandardScaler(with_mean=False) if wide else StandardScaler()
    network = MLPClassifier((32,), alpha=1e-2, learning_rate_init=5e-3, batch_size=64, max_iter=25, random_state=seed)
    return {
        "logistic": make_pipeline(scale, LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)),
        "network": make_pipeline(*first, network),
    }
