"""Impressions beside the events: what a row may know, and that nothing of them changes the data."""

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.impressions import history_ends, impressions
from recbench.data.prepared import PreparedData
from recbench.data.sources import synthetic_events, synthetic_side
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import prepare

SMALL = {"n_users": 80, "n_items": 50, "n_clusters": 5, "min_length": 4, "mean_length": 8, "max_length": 15}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    config = SyntheticConfig(**SMALL)
    data = prepare(config, tmp_path_factory.mktemp("cache"))
    return data, impressions(data, config), config


def test_a_click_is_the_users_next_event_and_no_history_holds_it(shown):
    data, rows, _ = shown
    clicked = np.flatnonzero(rows.label)
    assert 0.1 < rows.label.mean() < 0.4
    at = rows.history_end[clicked]
    assert np.array_equal(data.items[at], rows.item[clicked])
    assert np.array_equal(data.timestamps[at], rows.timestamp[clicked])
    assert (at < data.offsets[rows.user[clicked] + 1]).all()
    # Every event but a user's first is a click, unless its list had no other item left.
    assert 0.95 < len(clicked) / (data.n_interactions - data.n_users) <= 1


def test_no_event_at_or_after_a_rows_time_is_in_its_history(shown):
    data, rows, _ = shown
    assert (np.diff(rows.timestamp) >= 0).all()
    for row in range(0, len(rows), 37):
        events = slice(data.offsets[rows.user[row]], data.offsets[rows.user[row] + 1])
        assert rows.history_end[row] - events.start == (data.timestamps[events] < rows.timestamp[row]).sum()
        assert rows.item[row] not in data.items[events.start : rows.history_end[row]]


def test_history_ends_of_tied_times(tmp_path):
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 3, 1]), np.array([0, 3, 4]), np.array([5, 5, 9, 2]))
    user, time = np.array([0, 0, 0, 1, 1]), np.array([5, 6, 20, 1, 3])
    assert history_ends(data, user, time).tolist() == [0, 2, 3, 3, 4]


def test_requests_are_lists_of_distinct_items_with_one_click_or_none(shown):
    _, rows, config = shown
    frame = pl.DataFrame(
        {name: np.asarray(getattr(rows, name)) for name in ("request", "item", "label", "place", "user")}
    )
    by_request = frame.group_by("request").agg(
        pl.len(), pl.col("item").n_unique().alias("items"), pl.col("label").sum(), pl.col("user").n_unique()
    )
    assert (by_request["len"] == by_request["items"]).all()
    assert set(by_request["label"]) == {0, 1}
    assert (by_request["user"] == 1).all()
    assert frame["place"].max() == config.impressions_shown - 1
    # A click is likelier near the top.
    rate = frame.group_by("place").agg(pl.col("label").mean()).sort("place")["label"]
    assert rate[0] > 1.5 * rate[4]
    assert set(rows.context()["device"]) == {"phone", "tablet", "desktop"}
    assert rows.counts["impressions"] == len(rows)


def test_they_are_made_once_and_other_seeds_or_lengths_give_others(shown):
    data, rows, config = shown
    assert impressions(data, config).folder == rows.folder
    longer = impressions(data, SyntheticConfig(**SMALL, impressions_shown=8))
    assert longer.fingerprint != rows.fingerprint
    assert len(longer) > len(rows)


def test_data_without_impressions_say_so(shown):
    with pytest.raises(UserError, match="data=table has no impressions"):
        impressions(shown[0], TableConfig(path="events.csv"))


# What else stands beside synthetic events


def test_the_keys_of_what_stands_beside_change_neither_data_nor_folder(shown, tmp_path):
    data, _, _ = shown
    other = prepare(
        SyntheticConfig(**SMALL, feature_signal=0.1, knowledge_signal=0.1, attribute_signal=0.0, impressions_shown=3),
        tmp_path,
    )
    assert other.fingerprint == data.fingerprint
    assert other.folder.name == data.folder.name


def test_vectors_triples_and_attributes_carry_the_structure_as_far_as_their_keys_say(shown):
    config = SyntheticConfig(n_users=400, n_items=120, n_clusters=6)
    none = SyntheticConfig(
        n_users=400, n_items=120, n_clusters=6, feature_signal=0.0, knowledge_signal=0.0, attribute_signal=0.0
    )

    def neighbours_of_one_cluster(config):
        _, vectors = synthetic_side.item_features(config)["image"]
        near = (vectors @ vectors.T - 1e9 * np.eye(len(vectors))).argmax(1)
        cluster = synthetic_side.world_of(config).cluster
        return (cluster[near] == cluster).mean()

    assert neighbours_of_one_cluster(config) > 0.95
    assert neighbours_of_one_cluster(none) < 0.4

    def true_topics(config):
        cluster = synthetic_side.world_of(config).cluster
        triples = synthetic_side.knowledge(config).triples.filter(pl.col("relation") == "about")
        item = triples["head"].str.slice(1).cast(pl.Int64).to_numpy()
        return (triples["tail"].str.slice(6).cast(pl.Int64).to_numpy() == cluster[item]).mean()

    assert 0.75 < true_topics(config) < 0.95
    assert true_topics(none) < 0.35

    def tied(config):
        """How far the share of one half of the clusters differs between the groups, the halves as they fit best."""
        table = synthetic_side.user_table(config)
        assert table.columns == ["user", "group", "age", "region"]
        assert table["user"].n_unique() == 400
        world = synthetic_side.world_of(config)
        (_, block), *_ = synthetic_events.blocks(world, config)
        counts = np.stack(
            [np.bincount(world.cluster[row[row >= 0]], minlength=6) / (row >= 0).sum() for row in block.items]
        )
        is_a = (table["group"] == "a").to_numpy()
        assert 0.3 < is_a.mean() < 0.7
        return np.abs(counts[is_a].mean(0) - counts[~is_a].mean(0)).sum()

    assert tied(config) > 2 * tied(none)


def test_a_pair_has_one_rating_and_stars_are_spread(tmp_path):
    from recbench.data.sources.synthetic import read

    config = SyntheticConfig(**SMALL)
    frame = pl.read_parquet(read(config, tmp_path, tmp_path).interactions)
    assert set(frame["rating"].unique()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 3.4 < frame["rating"].mean() < 4.0
    assert prepare(SyntheticConfig(**SMALL, min_rating=4.0), tmp_path).n_interactions == (frame["rating"] >= 4).sum()
