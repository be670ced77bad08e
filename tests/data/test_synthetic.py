"""The synthetic source: same bytes for the same seed, structures that can be turned on and off, and an oracle that is right."""

import hashlib
import math
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.data.schema import INTERACTION_COLUMNS, ITEM_COLUMNS
from recbench.data.sources import synthetic_events, synthetic_oracle, synthetic_world
from recbench.data.sources.synthetic import read
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.synthetic_events import draw_histories, extend
from recbench.data.sources.synthetic_oracle import expected_gains, largest, oracle_users, realised_gains
from recbench.data.sources.synthetic_text import item_table
from recbench.data.sources.synthetic_world import build_world, next_probabilities
from recbench.data.store import prepare

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"
SMALL = {"n_users": 60, "n_items": 40, "n_clusters": 5, "min_length": 4, "mean_length": 8, "max_length": 15}


def world_of(config):
    return build_world(config, np.random.default_rng([config.seed, synthetic_world.WORLD]))


def generate(folder, **keys):
    """(config, raw data, histories as a list of rows of the spool, one DataFrame)."""
    config = SyntheticConfig(**{**SMALL, **keys})
    folder.mkdir(exist_ok=True)
    raw = read(config, folder, folder)
    return config, raw, pl.read_parquet(raw.interactions)


def numbers(frame, column="item"):
    return frame[column].str.slice(1).cast(pl.Int64).to_numpy()


# The same bytes


def test_a_seed_fixes_every_byte_also_in_another_process(tmp_path):
    _, raw, _ = generate(tmp_path / "here")
    (tmp_path / "there").mkdir()
    code = (
        "from recbench.data.sources.synthetic import *; from pathlib import Path; "
        f"raw = read(SyntheticConfig(**{SMALL!r}), Path('there'), Path('.')); print(raw.extra, raw.items.rows())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{raw.extra} {raw.items.rows()}"
    there = (tmp_path / "there" / "interactions.parquet").read_bytes()
    assert hashlib.sha256(there).digest() == hashlib.sha256(raw.interactions.read_bytes()).digest()


def test_another_seed_gives_other_data(tmp_path):
    _, _, one = generate(tmp_path / "a", seed=1)
    _, _, two = generate(tmp_path / "b", seed=2)
    assert not one.equals(two)


def test_more_users_leave_the_first_blocks_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_events, "BLOCK_USERS", 25)
    _, _, few = generate(tmp_path / "few", n_users=50)
    _, raw, many = generate(tmp_path / "many", n_users=80)
    assert few["item"].equals(many["item"][: few.height])
    assert many["user"].n_unique() == 80
    assert raw.counts == {"rows_read": many.height}


# What is written


def test_rows_and_items_are_as_the_contract_says(tmp_path):
    config, raw, frame = generate(tmp_path)
    assert tuple(frame.columns) == INTERACTION_COLUMNS
    assert frame.dtypes == [pl.String, pl.String, pl.Int64, pl.Float32, pl.String, pl.String]
    assert frame.null_count().sum_horizontal().item() == 0
    lengths = frame.group_by("user").len()["len"]
    assert lengths.min() >= config.min_length
    assert lengths.max() <= config.max_length
    assert (frame.group_by("user", maintain_order=True).agg(pl.col("timestamp").diff().min())["timestamp"] > 0).all()
    assert set(frame["behaviour"]) == {"view", "cart", "buy"}
    assert set(raw.items.columns) == {"item", *ITEM_COLUMNS}
    assert raw.items["item"].n_unique() == raw.items.height == config.n_items
    assert set(frame["item"]) <= set(raw.items["item"])
    assert raw.items.null_count().sum_horizontal().item() == 0


def test_the_mean_length_is_the_one_asked_for():
    config = SyntheticConfig(mean_length=12.0, max_length=300)
    lengths = synthetic_events.draw_lengths(config, 50_000, np.random.default_rng(0))
    assert lengths.mean() == pytest.approx(12.0, abs=0.15)
    assert lengths.min() == config.min_length


def test_a_session_starts_after_each_long_pause_and_nowhere_else(tmp_path):
    _, _, frame = generate(tmp_path)
    same_user = frame["user"] == frame["user"].shift()
    new = (frame["session"] != frame["session"].shift()).filter(same_user)
    pause = frame["timestamp"].diff().filter(same_user)
    assert new.equals((pause >= synthetic_events.LONG_PAUSE[0]).alias("session"))
    assert (pause.filter(~new) <= synthetic_events.SHORT_PAUSE[1]).all()
    assert 0.3 < new.mean() < 0.5


def test_the_store_prepares_it_with_text_times_behaviours_and_the_oracle(tmp_path):
    data = prepare(SyntheticConfig(**SMALL), tmp_path)
    assert data.n_users == 60
    assert 30 < data.n_items <= 40  # an item that nobody met is not in the catalogue
    assert data.has_timestamps
    assert data.has_text
    assert data.has_behaviours
    assert not data.has_repeats
    assert 0.3 < data.manifest["extra"]["oracle"]["test/ndcg@10"] < 1


# The distribution of the next item


def slow_distribution(world, history, after_long):
    """The definition, item by item: what ``next_probabilities`` must give after ``history`` without repeats."""
    chance = dict.fromkeys(range(world.n_items), 0.0)
    first, second, cluster, noise = world.shares
    steps = [(noise, None)]
    if history:
        gap = world.gap_dependence
        by_pause = world.first_order[2 if after_long else 1]
        steps += [(first * (1 - gap), world.first_order[0][history[-1]]), (first * gap, by_pause[history[-1]])]
        mates = [i for i in chance if world.cluster[i] == world.cluster[history[-1]]]
        mass = sum(world.popularity[i] for i in mates)
        for i in mates:
            chance[i] += cluster * world.popularity[i] / mass
    else:
        steps += [(first, None), (cluster, None)]
    steps.append((second, world.second_order[history[-2]] if len(history) > 1 else None))
    for share, successors in steps:
        if successors is None:
            for i in chance:
                chance[i] += share * world.popularity[i]
        else:
            for i, weight in zip(successors, world.successor_weights, strict=True):
                chance[int(i)] += share * weight
    left = {i: p for i, p in chance.items() if i not in history}
    if sum(left.values()) == 0:
        left = {i: world.popularity[i] for i in left}
    total = sum(left.values())
    return np.array([left.get(i, 0.0) / total for i in chance])


# Shares of the three structures; the last three leave no noise, so a history can have seen all that is possible.
shares = st.sampled_from(
    [
        (0.2, 0.3, 0.1),
        (0.0, 0.3, 0.3),
        (0.5, 0.0, 0.2),
        (0.4, 0.4, 0.0),
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    shares,
    st.sampled_from([0.0, 0.4, 1.0]),
    st.integers(0, 5),
    st.lists(st.integers(0, 11), max_size=8, unique=True),
    st.booleans(),
)
def test_probabilities_equal_the_definition(strength, gap, seed, history, after_long):
    transition, second_order, cluster = strength
    strengths = {"transition": transition, "second_order": second_order, "cluster": cluster, "gap_dependence": gap}
    config = SyntheticConfig(n_items=12, n_clusters=3, seed=seed, **strengths)
    world = world_of(config)
    last, before = ([-1, -1, *history][-1], [-1, -1, *history][-2])
    seen = np.array([[*history, -1]])
    p = next_probabilities(world, np.array([last]), np.array([before]), np.array([float(after_long)]), seen)
    np.testing.assert_allclose(p[0], slow_distribution(world, history, after_long), atol=1e-12)


def test_who_sees_no_times_mixes_both_kinds_of_pause():
    world = world_of(SyntheticConfig(n_items=12, n_clusters=3))
    last, before = np.array([3]), np.array([5])
    short, long, blind = (next_probabilities(world, last, before, np.array([c])) for c in (0.0, 1.0, 0.4))
    np.testing.assert_allclose(blind, 0.6 * short + 0.4 * long)
    assert np.abs(short - long).sum() > 0.1


@pytest.mark.parametrize("attempts", [30, 0], ids=["drawn anew", "written out"])
@pytest.mark.parametrize("history", [[], [4], [4, 7], [1, 2, 3, 4, 5, 6, 7]])
def test_draws_follow_the_probabilities(monkeypatch, history, attempts):
    monkeypatch.setattr(synthetic_events, "ATTEMPTS", attempts)
    monkeypatch.setattr(synthetic_events, "CELLS", 12 * 7_000)  # several blocks of the slow way
    n, place = 40_000, len(history)
    world = world_of(SyntheticConfig(n_items=12, n_clusters=3))
    items = np.full((n, 9), -1)
    items[:, :place] = history
    draft = synthetic_events._Draft(items, np.zeros((n, 9), dtype=int), np.ones((n, 9), dtype=bool))
    extend(world, draft, np.arange(n), place, False, np.random.default_rng(1))
    expected = slow_distribution(world, history, True)
    found = np.bincount(items[:, place], minlength=12) / n
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_a_user_who_saw_every_possible_item_gets_one_by_popularity():
    config = SyntheticConfig(
        n_items=30, n_clusters=3, transition=1.0, second_order=0.0, cluster=0.0, n_successors=1, max_length=25
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        histories = draw_histories(world_of(config), config, 300, np.random.default_rng(0))
    real = histories.items >= 0
    assert (real.sum(axis=1) == histories.lengths).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in histories.items)


# The oracle


def test_the_oracle_equals_a_slow_one(tmp_path):
    config, raw, frame = generate(tmp_path)
    world = world_of(config)
    occurs = np.isin(np.arange(config.n_items), numbers(frame))
    found = {}
    for part, back in (("validation", 2), ("test", 1)):
        gains = []
        for user in frame.partition_by("user", maintain_order=True):
            items, times = numbers(user).tolist(), user["timestamp"].to_list()
            cut = len(items) - back
            pause = times[cut - 1] - times[cut - 2]
            p = slow_distribution(world, items[:cut], pause >= synthetic_events.LONG_PAUSE[0]) * occurs
            above = sum(x > p[items[cut]] for x in p)
            equal = sum(x == p[items[cut]] for x in p)
            rank = 1 + above + (equal - 1) / 2
            gains.append((1 / math.log2(rank + 1) if rank <= 10 else 0.0, float(rank <= 10), 1 / rank))
        found[part] = np.mean(gains, axis=0)
    for part, gains in found.items():
        names = ("ndcg@10", "hr@10", "mrr")
        assert [raw.extra["oracle"][f"{part}/{name}"] for name in names] == pytest.approx(gains.tolist(), abs=1e-9)


def test_the_expected_gain_is_the_mean_over_many_targets():
    p = np.random.default_rng(0).dirichlet(np.full(25, 0.3), size=1)
    targets = np.random.default_rng(1).choice(25, size=40_000, p=p[0])
    simulated = realised_gains(np.repeat(p, len(targets), axis=0), targets)[:2] / len(targets)
    assert expected_gains(p) == pytest.approx(simulated, abs=0.01)


def test_tied_items_share_the_middle_place():
    gains = realised_gains(np.full((1, 5), 0.2), np.array([4]))
    assert gains == pytest.approx([1 / math.log2(4), 1.0, 1 / 3])


@pytest.mark.parametrize("v", [1, 4, 10, 11, 120, 1000])
def test_largest_is_the_head_of_a_sort(v):
    p = np.random.default_rng(v).random((7, v)).round(2)  # rounded, so that some are equal
    assert largest(p, 10).tolist() == (-np.sort(-p, axis=1)[:, :10]).tolist()


def test_realised_and_expected_agree_on_many_users(tmp_path):
    _, raw, _ = generate(tmp_path, n_users=4000)
    best = raw.extra["oracle"]
    for part in ("test", "validation"):
        assert best[f"{part}/ndcg@10"] == pytest.approx(best[f"{part}/ndcg@10_expected"], abs=0.03)
        assert best[f"{part}/hr@10"] == pytest.approx(best[f"{part}/hr@10_expected"], abs=0.03)
        assert best[f"{part}/ndcg@10_time_blind"] < best[f"{part}/ndcg@10"]


def test_without_gap_dependence_times_are_worth_nothing(tmp_path):
    _, raw, _ = generate(tmp_path, gap_dependence=0.0)
    best = raw.extra["oracle"]
    assert best["test/ndcg@10_time_blind"] == best["test/ndcg@10"]


def test_noise_alone_leaves_little_to_predict(tmp_path):
    off = {"transition": 0.0, "second_order": 0.0, "cluster": 0.0, "popularity_skew": 0.0}
    _, raw, _ = generate(tmp_path, n_users=2000, n_items=200, **off)
    assert raw.extra["oracle"]["test/hr@10_expected"] == pytest.approx(10 / 190, abs=0.005)
    assert raw.extra["oracle"]["test/hr@10"] == pytest.approx(
        0.0, abs=1e-12
    )  # every unseen item is tied, in the middle


def test_a_large_catalogue_is_judged_on_a_stated_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_oracle, "CELLS_IN_ALL", 40 * 20)
    monkeypatch.setattr(synthetic_events, "BLOCK_USERS", 7)
    _, raw, _ = generate(tmp_path)
    assert raw.extra["oracle"]["n_users"] == 20
    assert "on 20 of 60 users" in raw.extra["oracle"]["note"]
    assert oracle_users(1000, 40, 3).tolist() == [0, 499, 999]


@pytest.mark.parametrize("keys", [{"k_core": 5}, {"allow_repeats": True, "repeats": "first"}])
def test_no_best_score_is_claimed_where_cleaning_changes_the_sequences(tmp_path, keys):
    _, raw, _ = generate(tmp_path, **keys)
    assert set(raw.extra["oracle"]) == {"note"}


# Each structure shows in the data, and is gone when it is turned off


MANY = {"n_users": 1500, "n_items": 120, "n_clusters": 8, "mean_length": 12, "max_length": 20, "popularity_skew": 0.3}
NONE = {"transition": 0.0, "second_order": 0.0, "cluster": 0.0}


def events(**keys):
    """(world, histories) of many users with the given structures and no others."""
    config = SyntheticConfig(**{**MANY, **NONE, **keys})
    world = world_of(config)
    return world, draw_histories(world, config, config.n_users, np.random.default_rng(0))


def triples(histories):
    """(before, last, next, whether the last event came after a long pause) of all events from the third on."""
    items = histories.items
    real = items[:, 2:] >= 0
    return items[:, :-2][real], items[:, 1:-1][real], items[:, 2:][real], histories.after_long[:, 1:-1][real]


def follows(successors, sources, items):
    return (successors[sources] == items[:, None]).any(axis=1)


def test_transition_makes_the_next_item_a_successor_of_the_last():
    shares = {}
    for strength in (0.0, 0.6):
        world, histories = events(transition=strength, gap_dependence=0.0)
        _, last, following, _ = triples(histories)
        shares[strength] = follows(world.first_order[0], last, following).mean()
    assert shares[0.0] < 0.08
    assert 0.45 < shares[0.6] < 0.65


def test_second_order_makes_it_a_successor_of_the_last_but_one():
    shares = {}
    for strength in (0.0, 0.6):
        world, histories = events(second_order=strength)
        before, _, following, _ = triples(histories)
        shares[strength] = follows(world.second_order, before, following).mean()
    assert shares[0.0] < 0.08
    assert 0.45 < shares[0.6] < 0.65


def test_gap_dependence_decides_which_successors_apply():
    def contrast(strength):
        world, histories = events(transition=0.6, gap_dependence=strength)
        _, last, following, long = triples(histories)
        after_long = follows(world.first_order[2], last, following)
        return after_long[long].mean() - after_long[~long].mean()

    assert abs(contrast(0.0)) < 0.02
    assert contrast(1.0) > 0.4


def test_cluster_keeps_the_next_item_in_the_cluster_of_the_last():
    def share(strength):
        world, histories = events(cluster=strength)
        _, last, following, _ = triples(histories)
        return (world.cluster[last] == world.cluster[following]).mean()

    assert share(0.0) == pytest.approx(1 / 8, abs=0.03)
    assert share(0.5) > 0.45


def test_popularity_skew_concentrates_the_events():
    def share_of_top_tenth(skew):
        _, histories = events(popularity_skew=skew)
        counts = np.sort(np.bincount(histories.items[histories.items >= 0], minlength=120))
        return counts[-12:].sum() / counts.sum()

    assert share_of_top_tenth(0.0) < 0.13
    assert share_of_top_tenth(1.0) > 0.3


def test_behaviours_tell_what_led_to_an_event():
    def buys(signal):
        world, histories = events(transition=0.5, gap_dependence=0.0, behaviour_signal=signal)
        real = histories.items[:, 1:] >= 0
        led = follows(world.first_order[0], histories.items[:, :-1][real], histories.items[:, 1:][real])
        bought = histories.behaviours[:, 1:][real] == 2
        return bought[led].mean() - bought[~led].mean()

    assert abs(buys(0.0)) < 0.02
    assert buys(1.0) > 0.2


def test_text_tells_the_cluster():
    def overlap(signal, same):
        config = SyntheticConfig(text_signal=signal)
        world = world_of(config)
        names = pl.Series(np.arange(config.n_items)).cast(pl.String)
        table = item_table(names, world.cluster, signal, np.random.default_rng(3))
        words = [
            set(f"{t} {d}".lower().strip(".").split())
            for t, d in zip(table["title"], table["description"], strict=True)
        ]
        pairs = [(i, j) for i in range(150) for j in range(i) if (world.cluster[i] == world.cluster[j]) == same]
        return np.mean([len(words[i] & words[j]) / len(words[i] | words[j]) for i, j in pairs])

    assert overlap(0.8, same=True) > 3 * overlap(0.8, same=False)
    assert overlap(0.0, same=True) == pytest.approx(overlap(0.0, same=False), abs=0.02)


@pytest.mark.parametrize("allowed", [False, True])
def test_repeats_appear_only_where_they_are_allowed(allowed):
    _, histories = events(transition=0.5, allow_repeats=allowed)
    repeats = sum((row >= 0).sum() - len(set(row[row >= 0])) for row in histories.items)
    assert (repeats > 0) == allowed


def test_where_repeats_are_allowed_the_oracle_counts_them(tmp_path):
    _, raw, _ = generate(tmp_path, allow_repeats=True, n_users=500)
    best = raw.extra["oracle"]
    assert "may come again" in best["note"]
    assert best["test/hr@10"] == pytest.approx(best["test/hr@10_expected"], abs=0.08)


# Settings


def test_the_yaml_says_every_key_that_matters_and_its_default():
    values = yaml.safe_load((CONF / "synthetic.yaml").read_text())
    defaults = {
        **asdict(SyntheticConfig()),
        **{part: {} for part in ("text", "features", "knowledge", "users")},
    }  # keys of their own
    assert values == {key: value for key, value in defaults.items() if key not in ("raw_dir", "version", "category")}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"transition": 0.7, "second_order": 0.5}, r"transition \+ second_order \+ cluster = 1\.3 exceeds 1"),
        ({"cluster": -0.1}, r"data\.cluster=-0\.1 must lie between 0 and 1"),
        ({"n_users": 0}, r"data\.n_users=0 must be at least 1"),
        ({"n_items": 3, "n_clusters": 1}, r"data\.n_successors=3 needs more than that many items"),
        ({"n_clusters": 50, "n_items": 40}, r"data\.n_clusters=50 exceeds data\.n_items=40"),
        ({"min_length": 2}, r"must rise from 3"),
        ({"mean_length": 100.0}, r"must rise from 3"),
        ({"max_length": 300}, r"data\.max_length=300 needs more than data\.n_items=300 items"),
        ({"popularity_skew": -1.0}, r"data\.popularity_skew=-1\.0 must not be negative"),
        ({"seed": -1}, r"data\.seed=-1 must not be negative"),
        ({"impressions_shown": 1}, r"data\.impressions_shown=1 must lie between 2 and"),
        ({"version": "2018"}, r"data\.version means nothing here"),
        ({"repeats": "drop"}, r"data\.repeats=drop is not known"),
    ],
)
def test_settings_from_which_no_data_can_be_drawn_are_refused(tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        read(SyntheticConfig(**keys), tmp_path, tmp_path)
