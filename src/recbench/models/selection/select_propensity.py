"""Targets weighted by how seldom their item is seen: the fine-grained bias-variance weights for data missing not at random [NeurIPS 2024].

    p_i = (n_i / max n)^power                               from training counts n
    f   increasing, f(0) = 0, f(1) = 1, f(p) >= p:          p | sin p / sin 1 | ln(1 + p) / ln 2 | tanh p / tanh 1
    w(p) = clip( w1 / (2 w2 (1 - p)), 1, 1 / f(p) )         ``dynamic``

The paper writes 1 / f(p)^alpha(p) with alpha = clip( ln(2 (w2 / w1) (1 - p)) / ln f(p), 0, 1 ). With t = 1 / f^alpha its objective
w1 (1 - p t) + w2 p (1 - p) t^2 is a parabola in t with its minimum at w1 / (2 w2 (1 - p)), so the two are equal; this form needs no logarithms.
So it is inverse propensity with a cap of about w1 / (2 w2), 5 at the published w1 = 1, w2 = 0.1. ``clipped_ips`` with ``cap: 5`` stands beside
it and decides whether anything more is in it than the cap.

Weights are scaled to a mean of 1 over the targets when they are used, so the learning rate keeps its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection

WEIGHTS = ("uniform", "ips", "clipped_ips", "dynamic")
BENDS = {
    "identity": lambda p: p,
    "sine": lambda p: np.sin(p) / np.sin(1.0),
    "log": lambda p: np.log1p(p) / np.log(2.0),
    "tanh": lambda p: np.tanh(p) / np.tanh(1.0),
}


@dataclass
class SelectPropensityConfig(ModelConfig):
    """How a target is weighted; see the head of the file."""

    name: str = "select_propensity"
    weights: str = "dynamic"
    power: float = 0.5
    bend: str = "log"
    bias_weight: float = 1.0  # w1
    variance_weight: float = 0.1  # w2
    cap: float = 5.0  # of clipped_ips
    most: float = 20.0  # no weight is larger, whatever the rule
    shuffle: bool = False  # the control: the same weights, dealt anew over the items


@register("select_propensity", SelectPropensityConfig)
class SelectPropensity(EventSelection):
    """See the head of this file."""

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        for key, known in (("weights", WEIGHTS), ("bend", tuple(BENDS))):
            if (value := getattr(config, key)) not in known:
                raise UserError(f"unknown training.selection_keys.{key} '{value}'; {nearest(value, known)}")
        for key in ("power", "bias_weight", "variance_weight", "cap", "most"):
            if not getattr(config, key) > 0:
                raise UserError(f"training.selection_keys.{key} must be positive, not {getattr(config, key):g}")
        counts = train.item_counts().astype(np.float64)
        p = np.maximum(counts[1:], 1.0) / max(counts.max(), 1.0)
        of_item = np.minimum(target_weights(p**config.power, config), config.most)
        if config.shuffle:
            of_item = np.random.default_rng(self.seed).permutation(of_item)
        _, item, _ = train.flat()
        return np.ones(len(item), dtype=bool), of_item[item - 1]


def target_weights(p: np.ndarray, config: SelectPropensityConfig) -> np.ndarray:
    """The weight of a target whose item has propensity p, in (0, 1]."""
    if config.weights == "uniform":
        return np.ones_like(p)
    if config.weights == "ips":
        return 1.0 / p
    if config.weights == "clipped_ips":
        return np.minimum(1.0 / p, config.cap)
    best = config.bias_weight / (2.0 * config.variance_weight * np.maximum(1.0 - p, 1e-12))
    return np.clip(best, 1.0, 1.0 / BENDS[config.bend](p))
