"""protocol.cold_items by hand: which items are ranked, which targets are asked, and what the id says."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import HoldoutConfig, LeaveOneOutConfig, SampledConfig, SessionsConfig, TemporalConfig
from recbench.data.split import make_split, protocol_view
from recbench.evaluation.evaluate import evaluate, evaluate_lists
from recbench.report.words import protocol_words

DAY = 86_400
#: Training holds 1, 2, 3, 6; item 4 is only a validation target, 5 only a test target, 7 in no event.
HISTORIES = [[1, 2, 3, 6], [2, 1, 4, 5], [3, 2, 1, 2], [1, 3, 6, 2]]


@pytest.fixture(scope="module")
def data(make_data):
    return make_data(HISTORIES, n_items=7)


@pytest.fixture(scope="module")
def sparse_data(make_data):
    """57 users with 3 to 20 events over 90 items, of which the last 30 come late."""
    generator = np.random.default_rng(1)
    early = [generator.integers(1, 61, generator.integers(1, 19)).tolist() for _ in range(57)]
    return make_data([[*history, *generator.integers(1, 91, 2).tolist()] for history in early], n_items=90)


def trained(data, split):
    return {
        int(item)
        for user in range(data.n_users)
        for item in data.items[split.train_start[user] : split.train_end[user]]
    }


def test_ids_say_what_is_ranked():
    for config, expected in (
        (LeaveOneOutConfig(cold_items="drop"), "leave_one_out-warm-mask-v1"),
        (LeaveOneOutConfig(cold_items="drop", fit_on_validation=True), "leave_one_out-fitval-warm-mask-v1"),
        (SampledConfig(cold_items="drop"), "leave_one_out-uniform999.s0.warm-mask-v1"),
        (TemporalConfig(cold_items="drop", fit_on_validation=True), "temporal-q0.8-q0.9-last-fitval-warm-mask-v1"),
        (HoldoutConfig(cold_items="drop"), "holdout-random.s0-v0.1-t0.2-valcand-warm-mask-v1"),
        (SessionsConfig(cold_items="rank"), "sessions-q0.9-cold-full-mask-v1"),
    ):
        config.validate()
        assert config.identity("mask") == expected
    with pytest.raises(UserError, match=r"protocol.cold_items=keep is not known; choose one of: rank, drop"):
        LeaveOneOutConfig(cold_items="keep").validate()


def test_ids_are_told_in_words():
    assert protocol_words("leave_one_out-fitval-warm-mask-v1") == (
        "leave-one-out, trained on validation too, items with a training event ranked, seen items left out"
    )
    assert "999 sampled items that training holds" in protocol_words("leave_one_out-uniform999.s0.warm-mask-v1")
    temporal = protocol_words("temporal-q0.8-q0.9-last-fitval-warm-keep-v1")
    assert "trained on validation too, items with a training event ranked" in temporal
    holdout = protocol_words("holdout-time-v0.1-t0.2-valhist-fitval-warm-mask-v1")
    assert "validation items known at test, trained on validation too, items with a training event ranked" in holdout
    assert "items without a training event stay" in protocol_words("sessions-q0.9-cold-full-keep-v1")


def test_by_default_all_items_are_ranked_and_asked(data):
    split = make_split(data, LeaveOneOutConfig(), None)
    assert (split.ranked, split.test.targets.tolist()) == (None, [6, 5, 2, 2])


def test_dropped_items_are_neither_asked_nor_ranked_and_counted(data):
    split = make_split(data, LeaveOneOutConfig(cold_items="drop"), None)
    assert trained(data, split) == {1, 2, 3}
    assert np.flatnonzero(split.ranked).tolist() == [1, 2, 3]
    assert (split.validation.targets.tolist(), split.test.targets.tolist()) == ([3, 1], [2, 2])
    assert split.test.user.tolist() == [2, 3]
    counted = {name: value for name, value in split.audit.items() if "cold" in name}
    assert counted == {
        "cold_targets": 0,
        "cold_items_not_ranked": 4,
        "validation_targets_of_cold_items": 2,
        "test_targets_of_cold_items": 2,
    }


def test_what_is_trained_on_validation_is_not_cold(data):
    split = make_split(data, LeaveOneOutConfig(cold_items="drop", fit_on_validation=True), None)
    assert np.flatnonzero(split.ranked).tolist() == [1, 2, 3, 4, 6]
    assert split.test.targets.tolist() == [6, 2, 2]


def test_ranks_are_those_of_a_catalogue_without_the_cold_items(sparse_data, slow_rank):
    """Against a ranking one comparison at a time, for scores with ties and with -inf."""
    import torch

    config = LeaveOneOutConfig(cold_items="drop", seen_items="mask")
    split = make_split(sparse_data, config, None)
    ranked = np.flatnonzero(split.ranked)
    assert 0 < len(ranked) < sparse_data.n_items
    generator = torch.Generator().manual_seed(1)
    table = torch.randint(0, 9, (sparse_data.n_users, sparse_data.n_items + 1), generator=generator).float()
    table[table == 0] = -torch.inf
    found = evaluate(lambda batch: table[batch.user], sparse_data, split.test, split, 20, top_k=5, rows=7)
    for row, (user, target) in enumerate(zip(split.test.user, split.test.targets, strict=True)):
        history = set(sparse_data.items[split.test.start[row] : split.test.end[row]].tolist())
        scores = table[user].numpy()
        kept = [scores[item] for item in [0, *ranked]]
        number = {int(item): place for place, item in enumerate(ranked, 1)}
        seen = {number[item] for item in history if item in number}
        rank, n_equal = slow_rank(kept, number[int(target)], seen)
        assert (found.rank[row], found.n_equal[row]) == (rank, n_equal)
    listed = found.top_k[found.top_k > 0]
    assert set(listed.tolist()) <= set(ranked.tolist())
    assert found.n_ranked == len(ranked)


def test_lists_lose_the_cold_items(sparse_data):
    import torch

    split = make_split(sparse_data, LeaveOneOutConfig(cold_items="drop", seen_items="keep"), None)
    order = torch.randperm(sparse_data.n_items, generator=torch.Generator().manual_seed(1)) + 1

    def recommend(batch, k):
        return order[:k].expand(len(batch), -1), -torch.arange(k).float().expand(len(batch), -1)

    n = sparse_data.n_items
    found = evaluate_lists(recommend, sparse_data, split.test, split, 20, n, top_k=n)
    kept = [item for item in order.tolist() if split.ranked[item]]
    assert found.top_k[0, : len(kept)].tolist() == kept
    assert not found.top_k[0, len(kept) :].any()
    assert found.rank.tolist() == [kept.index(int(target)) + 1 for target in split.test.targets]


def test_samples_hold_only_items_that_training_holds(sparse_data, tmp_path):
    config = SampledConfig(n_candidates=20, cold_items="drop")
    split = make_split(sparse_data, config, tmp_path)
    assert split.ranked[split.test.candidates].all()
    assert (make_split(sparse_data, config, None).test.candidates == split.test.candidates).all()
    for row, user in enumerate(split.test.user):
        own = sparse_data.items[sparse_data.offsets[user] : sparse_data.offsets[user + 1]]
        assert not np.isin(split.test.candidates[row], own).any()
    plain = make_split(sparse_data, SampledConfig(n_candidates=20), tmp_path)
    assert not split.ranked[plain.test.candidates].all()
    with pytest.raises(UserError, match="wants 58 negatives a case"):
        make_split(sparse_data, SampledConfig(n_candidates=58, cold_items="drop"), None)


def test_sessions_keep_items_that_training_lacks_if_asked(make_data):
    histories = [[1, 2], [2, 1], [1, 2, 1], [2, 1], [1, 2], [2, 1], [1, 2], [2, 3], [1, 2, 4]]
    times = [[day * DAY + second for second in range(len(history))] for day, history in enumerate(histories)]
    data = make_data(histories, times)
    data.manifest["extra"] = {"sessions": {"users_are_sessions": True}}

    def split_of(**keys):
        config = SessionsConfig(test_days=2, **keys)
        view = protocol_view(data, config)
        return view, make_split(view, config, None)

    view, dropped = split_of()
    assert view.n_items == 2
    view, kept = split_of(cold_items="rank")
    assert (view.n_items, kept.ranked) == (4, None)
    targets = view.item_table()["item"].to_numpy()[kept.test.targets - 1].tolist()
    assert targets == ["3", "2", "4"]
    assert kept.audit["cold_targets"] == pytest.approx(2 / 3)
    assert kept.audit["events_with_items_not_in_training"] == 0
    assert len(dropped.test) == 1
    # A rare item of training goes, an item that training lacks stays.
    _, counted = split_of(cold_items="rank", min_item_count=2)
    assert len(counted.test) == 3


def test_the_view_of_before_is_found_again(make_data, monkeypatch):
    """The default keeps its name on disk."""
    from dataclasses import asdict

    from recbench.core.key_fields import key_values

    rule = SessionsConfig().rule({})
    assert set(asdict(rule)) - set(key_values(rule)) == {"cold_items"}
