"""The latent structures of the synthetic data, and the distribution of the next item that they define.

Given a user's history, the next item comes from one of four causes, each with a share set in the config:

    first order   a successor of the last item in a sparse graph; which list of successors applies depends, to the degree
                  ``gap_dependence``, on whether the last event came after a short or a long pause
    second order  a successor of the last item but one, in a graph of its own: no model of the last item alone can know it
    cluster       an item of the last item's semantic cluster, by popularity
    noise         any item, by popularity (Zipf with exponent ``popularity_skew``)

All successors of an item in a graph lie in one cluster, the partner of its own cluster in that graph, so a model that has learned the
clusters, from the sequences or from the text, already knows half of the graph. A history too short for a cause gives that cause's
share to noise. Without repeats, items of the history are taken out and the rest is renormalised. Everything that decides the next
item stands in the history, so its exact distribution can be written down.

Shapes: B histories, V = n_items, S = n_successors, K clusters. Items are 0-based here; -1 means "there is no such event".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recbench.data.sources.synthetic_config import SyntheticConfig

#: Streams of random numbers of one seed, so that, say, another text leaves the events as they are.
WORLD, TEXT, EVENTS, VECTORS, KNOWLEDGE, USERS, IMPRESSIONS = range(7)
FIRST_ORDER, SECOND_ORDER, CLUSTER, NOISE = range(4)
#: Rows of ``first_order``: the successors that always apply, those after a short pause, those after a long one.
ALWAYS, AFTER_SHORT, AFTER_LONG = range(3)
#: Attempts to replace a successor that an item has twice, or that is the item itself. What is left after them stays; it is
#: still described exactly, as a successor of twice the weight.
REDRAWS = 20


@dataclass(frozen=True)
class Stretches:
    """Draws by popularity from runs of items that stand side by side: order [V] items · cumulative [V + 1] their running popularity."""

    order: np.ndarray
    cumulative: np.ndarray

    def draw(self, start: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[B] one item each from places start[b] to end[b] - 1 of the order."""
        low, high = self.cumulative[start], self.cumulative[end]
        place = np.searchsorted(self.cumulative, low + rng.random(len(start)) * (high - low), side="right") - 1
        return self.order[np.clip(place, start, end - 1)]


@dataclass(frozen=True)
class World:
    """What a seed fixes before any user acts.

    shares [4]: the four causes · popularity [V], sums to 1 · cluster [V] · stretches: items sorted by cluster, with
    cluster_start [K + 1] the bounds of each cluster there · first_order [3, V, S] and second_order [V, S]: successors ·
    successor_weights [S], sum to 1 · gap_dependence in 0..1.
    """

    shares: np.ndarray
    popularity: np.ndarray
    cluster: np.ndarray
    cluster_start: np.ndarray
    stretches: Stretches
    first_order: np.ndarray
    second_order: np.ndarray
    successor_weights: np.ndarray
    gap_dependence: float

    @property
    def n_items(self) -> int:
        return len(self.popularity)


def world_of(config: SyntheticConfig) -> World:
    """The world that the events of a config are drawn in."""
    return build_world(config, np.random.default_rng([config.seed, WORLD]))


def build_world(config: SyntheticConfig, rng: np.random.Generator) -> World:
    """Draw the latent structures."""
    v, s = config.n_items, config.n_successors
    popularity = (rng.permutation(v) + 1.0) ** -config.popularity_skew
    popularity /= popularity.sum()
    cluster = rng.permutation(v) % config.n_clusters
    by_cluster = np.argsort(cluster, kind="stable")
    stretches = Stretches(by_cluster, np.append(0.0, np.cumsum(popularity[by_cluster])))
    cluster_start = np.searchsorted(cluster[by_cluster], np.arange(config.n_clusters + 1))
    graphs = []
    for _ in range(4):
        partner = rng.permutation(config.n_clusters)[cluster]
        graphs.append(_successors(stretches, cluster_start[partner], cluster_start[partner + 1], s, rng))
    causes = np.array([config.transition, config.second_order, config.cluster])
    weights = 0.5 ** np.arange(s)
    return World(
        shares=np.append(causes, max(0.0, 1.0 - causes.sum())),
        popularity=popularity,
        cluster=cluster,
        cluster_start=cluster_start,
        stretches=stretches,
        first_order=np.stack(graphs[:3]),
        second_order=graphs[3],
        successor_weights=weights / weights.sum(),
        gap_dependence=config.gap_dependence,
    )


def _successors(
    stretches: Stretches, start: np.ndarray, end: np.ndarray, n_successors: int, rng: np.random.Generator
) -> np.ndarray:
    """[V, S] a few successors for each item from the stretch [start, end) of its partner cluster, by popularity, to keep the skew."""
    v = len(start)
    chosen = np.stack([stretches.draw(start, end, rng) for _ in range(n_successors)], axis=1)
    for _ in range(REDRAWS):
        bad = chosen == np.arange(v)[:, None]
        for slot in range(1, n_successors):
            bad[:, slot] |= (chosen[:, :slot] == chosen[:, slot, None]).any(axis=1)
        if not bad.any():
            break
        row = np.nonzero(bad)[0]
        chosen[bad] = stretches.draw(start[row], end[row], rng)
    return chosen


def draw_next(
    world: World, last: np.ndarray, before: np.ndarray, after_long: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One next item for each history, before items already seen are taken out.

    last, before [B]: the last item and the one before it; after_long [B] bool: whether the last event came after a long pause.
    Returns (item [B], cause [B]).
    """
    n = len(last)
    cause = np.minimum(np.searchsorted(np.cumsum(world.shares), rng.random(n), side="right"), NOISE)
    cause[(last < 0) | ((before < 0) & (cause == SECOND_ORDER))] = NOISE
    slot_bounds = np.cumsum(world.successor_weights)
    slot = np.minimum(np.searchsorted(slot_bounds, rng.random(n), side="right"), len(slot_bounds) - 1)
    by_gap = rng.random(n) < world.gap_dependence
    graph = np.where(by_gap, np.where(after_long, AFTER_LONG, AFTER_SHORT), ALWAYS)

    # By popularity: from the whole catalogue for noise, from one cluster's stretch of it for the cluster.
    in_cluster = cause == CLUSTER
    start = np.where(in_cluster, world.cluster_start[world.cluster[last]], 0)
    end = np.where(in_cluster, world.cluster_start[world.cluster[last] + 1], world.n_items)
    item = world.stretches.draw(start, end, rng)
    item = np.where(cause == FIRST_ORDER, world.first_order[graph, last, slot], item)
    item = np.where(cause == SECOND_ORDER, world.second_order[before, slot], item)
    return item, cause


def next_probabilities(
    world: World, last: np.ndarray, before: np.ndarray, long_chance: np.ndarray, seen: np.ndarray | None = None
) -> np.ndarray:
    """[B, V] the exact distribution of the next item, the one that ``draw_next`` and the removal of seen items sample from.

    long_chance [B]: how likely the last event came after a long pause: 0 or 1 to who sees the timestamps, the overall share of
    long pauses to who does not. seen [B, L]: items that cannot come again, -1 where there is none; None where repeats are allowed.
    """
    n, v = len(last), world.n_items
    started, two_back = last >= 0, before >= 0
    first, second, cluster, noise = world.shares
    noise_share = noise + (~two_back) * second + (~started) * (first + cluster)
    p = noise_share[:, None] * world.popularity
    same = world.cluster == world.cluster[last][:, None]
    mass = np.bincount(world.cluster, weights=world.popularity)[world.cluster[last]]
    p += (started * cluster / mass)[:, None] * np.where(same, world.popularity, 0.0)

    gap = world.gap_dependence
    list_weights = (1 - gap, gap * (1 - long_chance), gap * long_chance)
    rows = np.arange(n)[:, None]
    for graph, weight in zip(world.first_order, list_weights, strict=True):
        np.add.at(p, (rows, graph[last]), (started * first * weight)[:, None] * world.successor_weights)
    np.add.at(p, (rows, world.second_order[before]), (two_back * second)[:, None] * world.successor_weights)

    if seen is not None:
        unseen = np.ones((n, v + 1), dtype=bool)
        unseen[rows, seen] = False  # -1 falls into the spare last column
        unseen = unseen[:, :v]
        p *= unseen
        # Every possible item was seen: the draw falls back to popularity among the unseen.
        p = np.where(p.sum(axis=1, keepdims=True) > 0, p, unseen * world.popularity)
    return p / p.sum(axis=1, keepdims=True)
