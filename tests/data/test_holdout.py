"""protocol=holdout: a share of each user's items kept back, all of them asked at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbench.core.errors import UserError
from recbench.data import holdout
from recbench.data.holdout import holdout_view, kept_back
from recbench.data.prepared import PreparedData
from recbench.data.protocol import HoldoutConfig
from recbench.data.split import make_split, protocol_view


def events(lengths: list[int], n_items: int = 60, seed: int = 0, clock: bool = True, repeats: bool = True) -> dict:
    draw = np.random.default_rng(seed)
    items = [draw.choice(n_items, n, replace=repeats) + 1 for n in lengths]
    times = [np.sort(draw.integers(0, 10_000, n)) for n in lengths]
    return {
        "items": np.concatenate(items),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "timestamps": np.concatenate(times) if clock else None,
        "n_items": n_items,
    }


def split_of(folder, config: HoldoutConfig, **given: object):
    data = PreparedData.from_arrays(folder / "data", **events(**given))
    view = protocol_view(data, config)
    return data, view, make_split(view, config, None)


LENGTHS = [2, 3, 4, 9, 10, 25, 40, 1, 55]


@pytest.mark.parametrize("order", ["random", "time"])
@pytest.mark.parametrize("rounding", ["share", "mmrec"])
def test_every_item_of_a_user_is_in_exactly_one_part(tmp_path, order, rounding):
    config = HoldoutConfig(order=order, rounding=rounding, seen_items="mask")
    data, view, split = split_of(tmp_path, config, lengths=LENGTHS)
    assert split.test.user.tolist() == split.validation.user.tolist()
    for user in range(data.n_users):
        own = data.items[data.offsets[user] : data.offsets[user + 1]]
        train = view.items[split.train_start[user] : split.train_end[user]].tolist()
        parts = [train]
        for cases in (split.validation, split.test):
            for case in np.flatnonzero(cases.user == user):
                parts.append(cases.targets[cases.target_offsets[case] : cases.target_offsets[case + 1]].tolist())
        together = [item for part in parts for item in part]
        assert sorted(together) == sorted(set(own.tolist()))
        n_validation, n_test = (int(n[0]) for n in kept_back(np.array([len(together)]), config))
        assert [len(part) for part in parts[1:]] == [n for n in (n_validation, n_test) if n]
    assert split.audit["repeated_events_left_out"] == data.n_interactions - view.n_interactions


def test_by_time_the_last_items_are_kept_back_and_nothing_later_is_trained_on(tmp_path):
    config = HoldoutConfig(order="time")
    _, view, split = split_of(tmp_path, config, lengths=LENGTHS)
    for case, user in enumerate(split.test.user):
        train = view.timestamps[split.train_start[user] : split.train_end[user]].max()
        validation, test = (
            view.timestamps[cases.target_positions[cases.target_offsets[case] : cases.target_offsets[case + 1]]]
            for cases in (split.validation, split.test)
        )
        assert train <= validation.min() <= validation.max() <= test.min()


def test_each_part_is_in_order_of_time_and_later_events_are_trained_on_when_drawn(tmp_path):
    _, view, split = split_of(tmp_path, HoldoutConfig(), lengths=LENGTHS)
    for user in range(view.n_users):
        assert (np.diff(view.timestamps[split.train_start[user] : split.train_end[user]]) >= 0).all()
    assert split.audit["leaked_targets"] > 0.9


def test_what_is_drawn_depends_on_seed_and_user_alone(tmp_path, monkeypatch):
    given = {"lengths": LENGTHS}
    _, one, _ = split_of(tmp_path / "a", HoldoutConfig(), **given)
    monkeypatch.setattr(holdout, "EVENTS_AT_ONCE", 7)
    _, again, _ = split_of(tmp_path / "b", HoldoutConfig(), **given)
    _, other, _ = split_of(tmp_path / "c", HoldoutConfig(seed=1), **given)
    assert np.array_equal(one.items, again.items)
    assert not np.array_equal(one.items, other.items)
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_validation_items_are_rivals_at_test_or_part_of_the_history(tmp_path):
    _, view, rivals = split_of(tmp_path, HoldoutConfig(), lengths=LENGTHS)
    known = make_split(view, HoldoutConfig(validation_at_test="history"), None)
    assert np.array_equal(rivals.test.end, rivals.train_end[rivals.test.user])
    assert np.array_equal(known.test.end - rivals.test.end, rivals.validation.n_targets)
    assert np.array_equal(known.test.targets, rivals.test.targets)
    assert rivals.protocol_id == "holdout-random.s0-v0.1-t0.2-valcand-full-mask-v1"
    assert known.protocol_id == "holdout-random.s0-v0.1-t0.2-valhist-full-mask-v1"


@settings(max_examples=60, deadline=None)
@given(
    n=st.lists(st.integers(0, 400), min_size=1, max_size=20),
    test=st.floats(0.01, 0.6),
    validation=st.floats(0.01, 0.35),
)
def test_something_is_left_to_train_on(n, test, validation):
    config = HoldoutConfig(test_ratio=test, validation_ratio=validation)
    counts = np.array(n)
    kept = kept_back(counts, config)
    enough = counts >= 3
    assert (kept[0][enough] >= 1).all()
    assert (kept[1][enough] >= 1).all()
    assert ((kept[0] + kept[1])[enough] < counts[enough]).all()
    assert not kept[0][~enough].any()
    assert not kept[1][~enough].any()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"order": "tme"}, "protocol.order=tme is not known"),
        ({"rounding": "x"}, "protocol.rounding=x is not known"),
        ({"validation_at_test": "x"}, "protocol.validation_at_test=x is not known"),
        ({"test_ratio": 0.9}, "must be positive and leave something to train on"),
        ({"validation_ratio": 0.0}, "must be positive and leave something to train on"),
        ({"min_events": 2}, "protocol.min_events=2 must be at least 3"),
        ({"seed": -1}, "protocol.seed=-1 must not be negative"),
    ],
)
def test_values_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(UserError, match=told):
        HoldoutConfig(**keys).validate()


def test_without_a_clock_there_is_no_order_of_time(tmp_path):
    data = PreparedData.from_arrays(tmp_path, **events(LENGTHS, clock=False))
    with pytest.raises(UserError, match=r"protocol\.order=time needs timestamps"):
        holdout_view(data, HoldoutConfig(order="time"))
    split = make_split(holdout_view(data, HoldoutConfig()), HoldoutConfig(), None)
    assert "leaked_targets" not in split.audit


def test_another_rule_is_not_taken_for_this_one(tmp_path):
    data = PreparedData.from_arrays(tmp_path / "data", **events(LENGTHS))
    view = holdout_view(data, HoldoutConfig())
    for config in (HoldoutConfig(seed=2), HoldoutConfig(order="time")):
        with pytest.raises(ValueError, match="splits a view"):
            make_split(view, config, None)
    with pytest.raises(ValueError, match="splits a view"):
        make_split(data, HoldoutConfig(), None)


def test_models_of_sets_read_the_whole_history(tmp_path, run_config):
    """EASE under a training.max_length that would leave it one item, beside the same with room for all."""
    from recbench.experiment.run import run

    words = ["model=ease", "protocol=holdout"]
    short, long = (run(run_config(tmp_path / n, *words, f"training.max_length={n}")) for n in ("1", "60"))
    assert short.metrics["test/ndcg@10"] == long.metrics["test/ndcg@10"] > 0
    cut, whole = (
        run(run_config(tmp_path / n, "model=ease", f"training.max_length={n}")).metrics["test/ndcg@10"]
        for n in ("1", "60")
    )
    assert cut != whole


def given_data(folder, with_validation: bool):
    """Users whose items stand as training, validation and test, as somebody else dealt them; one item is in two parts."""
    parts = [[0, 0, 0, 1, 2, 2], [0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], [0]]
    if not with_validation:
        parts = [[0 if part == 1 else part for part in user] for user in parts]
    items = [np.arange(1, len(user) + 1) for user in parts]
    items[1][2] = 1  # tested, and trained on already
    return PreparedData.from_arrays(
        folder,
        np.concatenate(items),
        np.concatenate([[0], np.cumsum([len(user) for user in parts])]),
        parts=np.concatenate(parts),
        n_items=12,
        details={"extra": {"parts": {}}},
    )


def test_parts_that_others_made_are_kept_and_validation_items_are_rivals(tmp_path):
    config = HoldoutConfig(order="given", seen_items="mask")
    data = given_data(tmp_path / "data", with_validation=True)
    view = protocol_view(data, config)
    split = make_split(view, config, None)
    assert split.protocol_id == "holdout-given-valcand-full-mask-v1"
    assert (split.train_end - split.train_start).tolist() == [3, 2, 10, 1]
    assert (split.validation.user.tolist(), split.validation.targets.tolist()) == ([0], [4])
    assert (split.test.user.tolist(), split.test.targets.tolist()) == ([0, 2], [5, 6, 11])
    assert (split.test.end - split.test.start).tolist() == [3, 10]  # the item of validation is no history
    assert split.audit["repeated_events_left_out"] == 1
    known = make_split(view, HoldoutConfig(order="given", validation_at_test="history", seen_items="mask"), None)
    assert (known.test.end - known.test.start).tolist() == [4, 10]


def test_without_a_validation_part_some_of_training_is_drawn_for_it(tmp_path):
    config = HoldoutConfig(order="given", validation_ratio=0.2, seen_items="mask")
    data = given_data(tmp_path / "data", with_validation=False)
    split = make_split(protocol_view(data, config), config, None)
    assert split.protocol_id == "holdout-given-v0.2.s0-valcand-full-mask-v1"
    assert (split.train_end - split.train_start).tolist() == [3, 1, 8, 1]
    assert split.validation.n_targets.tolist() == [1, 1, 2]
    assert split.test.targets.tolist() == [5, 6, 11]
    other = HoldoutConfig(order="given", validation_ratio=0.2, seed=3, seen_items="mask")
    assert make_split(protocol_view(data, other), other, None).split_hash != split.split_hash


def test_without_parts_there_is_nothing_given(tmp_path):
    data = PreparedData.from_arrays(tmp_path, **events(LENGTHS))
    with pytest.raises(UserError, match="needs data that others split"):
        holdout_view(data, HoldoutConfig(order="given"))
