"""What is known of synthetic items and users beside events and texts: vectors, triples, attributes.

Each kind is made when somebody asks for it, from a stream of random numbers of its own, so the events, their fingerprint and all keys are the
same with and without it. How far it tells what it could tell is a key: 1 all of it, 0 nothing.

    vectors     ``image`` [V, 32]: noise around a centre of the item's cluster; ``audio`` [V, 16]: around one that two clusters share
    triples     item made_by maker (three a cluster), item about topic (one a cluster), item priced level (of all items alike);
                topic part_of domain (of six clusters), topic leads_to topic (the cluster that the second-order graph leads to)
    attributes  ``group`` a | b: half of the clusters are liked by a, the others by b, and a user's first events were drawn from them;
                ``age`` three bands, tied to the group; ``region`` five, tied to nothing: what an honest probe cannot find
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbench.data.schema import RawKnowledge
from recbench.data.sources.synthetic_world import KNOWLEDGE, USERS, VECTORS, world_of

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.sources.synthetic_config import SyntheticConfig

#: Name of a kind of vectors -> (its width, how many clusters share a centre).
KINDS = {"image": (32, 1), "audio": (16, 2)}
MAKERS_PER_CLUSTER, PRICE_LEVELS, CLUSTERS_PER_DOMAIN = 3, 5, 6
AGES, REGIONS = ("under_25", "25_to_44", "45_and_up"), ("north", "east", "south", "west", "centre")
#: Chance of each age band, by group.
AGE_BY_GROUP = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
#: How steeply the group follows the share of its clusters among a user's events.
STEEPNESS = 4.0


def raw_ids(letter: str, numbers: np.ndarray, total: int) -> pl.Series:
    """Raw ids of equal width: "u0007"."""
    import polars as pl

    return letter + pl.Series(numbers).cast(pl.String).str.zfill(len(str(total - 1)))


def item_features(config: SyntheticConfig) -> dict[str, tuple[list[str], np.ndarray]]:
    """Kind -> (raw item ids [V], vectors [V, D] float32)."""
    cluster = world_of(config).cluster
    rng = np.random.default_rng([config.seed, VECTORS])
    ids = raw_ids("i", np.arange(config.n_items), config.n_items).to_list()
    signal, found = config.feature_signal, {}
    for kind, (width, shared) in KINDS.items():
        centre = rng.standard_normal((config.n_clusters, width))[cluster // shared]
        noise = rng.standard_normal((config.n_items, width))
        found[kind] = ids, (signal * centre + np.sqrt(1 - signal**2) * noise).astype(np.float32)
    return found


def knowledge(config: SyntheticConfig) -> RawKnowledge:
    """The triples, and the entity of each item. A triple of an item names what is true of its cluster with chance ``knowledge_signal``."""
    import polars as pl

    world, rng = world_of(config), np.random.default_rng([config.seed, KNOWLEDGE])
    clusters, v = config.n_clusters, config.n_items
    entity = raw_ids("e", np.arange(v), v)
    told = np.where(rng.random((2, v)) < config.knowledge_signal, world.cluster, rng.integers(clusters, size=(2, v)))
    maker = told[0] * MAKERS_PER_CLUSTER + rng.integers(MAKERS_PER_CLUSTER, size=v)
    # The cluster that lies behind an item's second-order successors is the same for all items of its cluster.
    leads = np.zeros(clusters, dtype=np.int64)
    leads[world.cluster] = world.cluster[world.second_order[:, 0]]
    topics = np.arange(clusters)
    domains = topics[rng.permutation(clusters)] // CLUSTERS_PER_DOMAIN
    parts = (
        (entity, "made_by", _named("maker", maker)),
        (entity, "about", _named("topic", told[1])),
        (entity, "priced", _named("price", rng.integers(PRICE_LEVELS, size=v))),
        (_named("topic", topics), "part_of", _named("domain", domains)),
        (_named("topic", topics), "leads_to", _named("topic", leads)),
    )
    triples = pl.concat(
        [
            pl.DataFrame({"head": head, "tail": tail}).select("head", pl.lit(relation).alias("relation"), "tail")
            for head, relation, tail in parts
        ]
    )
    items = raw_ids("i", np.arange(v), v)
    return RawKnowledge(triples, pl.DataFrame({"item": items, "entity": entity}))


def user_table(config: SyntheticConfig) -> pl.DataFrame:
    """Columns user (raw id), group, age, region; one row a user.

    The group is drawn from all events of a user but the last two, so it tells no target of leave_one_out.
    """
    import polars as pl

    from recbench.data.sources.synthetic_events import blocks

    world, rng = world_of(config), np.random.default_rng([config.seed, USERS])
    liked_by_a = rng.permutation(config.n_clusters) % 2 == 0
    frames = []
    for first, block in blocks(world, config):
        n = len(block.lengths)
        known = np.arange(block.items.shape[1]) < block.lengths[:, None] - 2
        share = (liked_by_a[world.cluster[block.items]] & known).sum(axis=1) / known.sum(axis=1)
        informed = rng.random(n) < config.attribute_signal
        chance = np.where(informed, 1 / (1 + np.exp(-2 * STEEPNESS * (share - 0.5))), 0.5)
        group = (rng.random(n) >= chance).astype(int)
        age = (rng.random(n)[:, None] >= np.cumsum(AGE_BY_GROUP, axis=1)[group][:, :-1]).sum(axis=1)
        columns = {"group": (("a", "b"), group), "age": (AGES, age), "region": (REGIONS, rng.integers(5, size=n))}
        frames.append(
            pl.DataFrame(
                {"user": raw_ids("u", first + np.arange(n), config.n_users)}
                | {name: pl.Series(list(words)).gather(chosen) for name, (words, chosen) in columns.items()}
            )
        )
    return pl.concat(frames)


def _named(word: str, numbers: np.ndarray) -> pl.Series:
    import polars as pl

    return f"{word}_" + pl.Series(numbers).cast(pl.String)
