"""Events that do not fit their neighbours are no targets: the form of LLM4DSR [2024] with a small denoiser in place of the language model.

The denoiser counts which item follows which in training, and asks of an event how well it fits the one before and the one after:

    score(l) = - log p(x_l | x_(l-1)) - log p(x_(l+1) | x_l)      p mixed with popularity; the event's own transitions are not counted

An event is called noise if its score is above the ``1 - share`` quantile *of its popularity bucket*: -log p of a rare item is large because the
item is rare, and a quantile over all items would call the rare ones noise. ``buckets: 1`` is that control.

Deviations from the paper: no language model, so nothing that saw the titles; only targets of training are dropped (or count half), and the
histories that are ranked from stay as they are, where the paper edits the test inputs too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError, nearest
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection, is_target
from recbench.models.selection.select_random import within_group_order


@dataclass
class SelectDenoiseConfig(ModelConfig):
    """How much is called noise, by what, and what becomes of it."""

    name: str = "select_denoise"
    noise: float = 0.1  # share of the targets that is called noise
    buckets: int = 10  # of popularity, each with its own quantile
    backoff: float = 0.2  # weight of popularity in p
    action: str = "drop"  # drop | weight (those called noise count half)


@register("select_denoise", SelectDenoiseConfig)
class SelectDenoise(EventSelection):
    """See the head of this file."""

    uses_seed = False

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        if not 0 <= config.noise < 1:
            raise UserError(f"training.selection_keys.noise={config.noise:g} must be at least 0 and below 1")
        if config.buckets < 1 or not 0 < config.backoff < 1:
            raise UserError(
                f"training.selection_keys.buckets={config.buckets} must be at least 1, and backoff={config.backoff:g} between 0 and 1"
            )
        if config.action not in ("drop", "weight"):
            raise UserError(
                f"unknown training.selection_keys.action '{config.action}'; {nearest(config.action, ('drop', 'weight'))}"
            )
        user, item, _ = train.flat()
        target = is_target(user)
        score = misfit(user, item, train.item_counts(), config.backoff)
        counts = train.item_counts()[item[target]]
        edges = np.unique(np.quantile(counts, np.arange(1, config.buckets) / config.buckets))
        place = within_group_order(score[target], np.searchsorted(edges, counts))
        noise = np.zeros(len(user), dtype=bool)
        noise[np.flatnonzero(target)[place > 1.0 - config.noise]] = True
        self.made_figures["share_called_noise"] = float(noise.sum() / target.sum())
        if config.action == "drop":
            return ~noise, np.ones(len(user))
        return np.ones(len(user), dtype=bool), np.where(noise, 0.5, 1.0)


def misfit(user: np.ndarray, item: np.ndarray, counts: np.ndarray, backoff: float) -> np.ndarray:
    """[M]: how badly each event fits the one before and the one after; higher is worse. counts [V]: training events of each item."""
    same = user[1:] == user[:-1]
    size = len(counts)
    pair = item[:-1].astype(np.int64) * size + item[1:]
    known, place, often = np.unique(pair[same], return_inverse=True, return_counts=True)
    assert len(known) == len(often)
    followed = np.bincount(item[:-1][same], minlength=size)  # how often something came after it
    popularity = counts / counts.sum()
    own = np.zeros(len(pair))
    own[same] = often[place.reshape(-1)] - 1.0  # without this very transition
    total = np.maximum(followed[item[:-1]] - 1.0, 0.0)
    seen = np.divide(own, total, out=np.zeros(len(pair)), where=total > 0)
    # Popularity keeps a pair that nobody else has from being impossible.
    fit = np.log((1.0 - backoff) * seen + backoff * popularity[item[1:]]) - np.log(popularity[item[1:]])
    fit = np.where(same, fit, 0.0)
    # The lift over popularity, of both neighbours: an event at an end has one.
    before, after = np.concatenate([[0.0], fit]), np.concatenate([fit, [0.0]])
    return -(before + after)
