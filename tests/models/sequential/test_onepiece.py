"""What is particular to OnePiece: anchors and what they are made of, what sees what, the steps and their tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import prefixes_at
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.metrics import per_case
from recbench.experiment.model_contract.batches import narrowed, rows
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.base import ModelContext
from recbench.models.sequential.onepiece import OnePiece, OnePieceConfig, trained_places
from recbench.nn.anchors import anchor_table
from tests.fixtures.bare_training import trained

SMALL = {"hidden_size": 16, "feedforward_size": 16, "dropout": 0.0}
OFF = {"anchors": 0, "situation": False, "steps": 0, "bidirectional": False}


def train_of_world():
    return TrainingData.of(world().data, world().split)


def loud(model):
    """The model with what starts near 0 made large, so that it is heard."""
    with torch.no_grad():
        for name, part in model.named_parameters():
            if name.startswith(("step_vectors", "anchor_group", "pause_", "hour_")):
                part.normal_()
    return model


def test_with_everything_off_it_is_sasrec_bit_for_bit():
    plain, off = fresh("sasrec", SMALL), fresh("onepiece", {**SMALL, **OFF})
    batch, histories = world().rows["windows"], world().histories
    losses = [model.train().training_loss(batch) for model in (plain, off)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    ours, theirs = (dict(model.named_parameters()) for model in (off, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].grad, theirs[name].grad) for name in ours)
    with torch.no_grad():
        assert torch.equal(plain.eval().score(histories), off.eval().score(histories))
        # The same network by the other path: one row a history, keys and values kept.
        torch.testing.assert_close(off.read(histories)[-1], plain.last_states(histories)[-1])


def test_anchors_are_what_followed_most_often_in_training_and_in_nothing_else(tmp_path):
    train, v = train_of_world(), world().data.n_items + 1
    items = anchor_table(train, 4, "followers", 0)
    expected = np.zeros((v, v), dtype=int)
    for start, end in zip(train.start, train.end, strict=True):
        np.add.at(expected, (train.data.items[start : end - 1], train.data.items[start + 1 : end]), 1)
    for item in range(1, v):
        best = sorted(range(1, v), key=lambda other, row=expected[item]: (-row[other], other))[:4]
        assert items[item].tolist() == [other if expected[item, other] else 0 for other in best]
    held_out = np.ones(len(train.data.items), dtype=bool)
    for start, end in zip(train.start, train.end, strict=True):
        held_out[start:end] = False
    changed = np.where(held_out, v - np.array(train.data.items), train.data.items)
    other = PreparedData.from_arrays(tmp_path, changed, train.data.offsets, train.data.timestamps, n_items=v - 1)
    again = TrainingData(other, train.start, train.end)
    for source in ("followers", "popular", "random"):
        assert (anchor_table(train, 4, source, 3) == anchor_table(again, 4, source, 3)).all()
    assert (anchor_table(train, 4, "random", 3) != anchor_table(train, 4, "random", 4)).any()


def test_while_training_anchors_may_be_counted_from_the_users_of_other_folds():
    train, model = train_of_world(), fresh("onepiece", {**SMALL, "anchors": 3, "folds": 4})
    last, user = torch.arange(1, 13), torch.arange(12)
    whole = torch.from_numpy(anchor_table(train, 3, "followers", 0))
    assert torch.equal(model.eval().anchors_of(last, user), whole[last])
    expected = []
    for item, number in zip(last.tolist(), user.tolist(), strict=True):
        kept = np.arange(len(train.start)) % 4 != number % 4
        others = TrainingData(train.data, train.start[kept], train.end[kept])
        expected.append(anchor_table(others, 3, "followers", 0)[item].tolist())
    assert model.train().anchors_of(last, user).tolist() == expected
    everything = fresh("onepiece", {**SMALL, "anchors": 3}).train()
    assert torch.equal(everything.anchors_of(last, user), whole[last])


def learned(data, split, **keys):
    """NDCG@10 of each user after a short training with four anchors and nothing else."""
    train = TrainingData.of(data, split)
    torch.manual_seed(0)
    config = OnePieceConfig(
        hidden_size=16, n_layers=1, n_heads=1, feedforward_size=16, dropout=0.0, anchors=4, situation=False, steps=0, prefixes=9, **keys
    )  # fmt: skip
    model = OnePiece(config, ModelContext(data.n_items, data.n_users, 20, train=train))
    found = evaluate(trained(model, train, epochs=6).score, data, split.test, split, 20)
    return per_case("ndcg@10", found.rank, found.case, found.n_ranked)


def test_what_followed_is_worth_more_than_items_drawn_at_random(tmp_path):
    """Planted: four fifths of the events follow the last item, to one of three successors, and an item is met five times."""
    data = prepare(
        SyntheticConfig(
            n_users=600, n_items=800, n_clusters=10, min_length=5, mean_length=7, max_length=12, transition=0.8, second_order=0.0,
            cluster=0.0, gap_dependence=0.0, n_successors=3, popularity_skew=0.2,
        ),
        tmp_path,
    )  # fmt: skip
    split = make_split(data, LeaveOneOutConfig(), None)
    gain = learned(data, split) - learned(data, split, anchor_source="random")
    error = gain.std() / len(gain) ** 0.5
    assert gain.mean() - 3 * error > 0.02, (gain.mean(), error)


def test_events_see_each_other_as_the_switch_says_and_all_see_the_anchors():
    histories = world().histories
    changed = replace(histories, items=histories.items.clone())
    changed.items[:, 0] = changed.items[:, 0] % world().data.n_items + 1
    for keys in ({}, {"bidirectional": False}):
        model = loud(fresh("onepiece", {**SMALL, **keys}))
        with torch.no_grad():
            before, after = model.read(histories)[-1], model.read(changed)[-1]
            assert ((before - after).abs().amax(1) > 1e-6).all()
            tokens, there = model.beside(histories)
            model.beside = lambda batch, tokens=tokens, there=there: (tokens, there & False)
            assert not torch.allclose(model.read(histories)[-1], before)
    # Whether a later event reaches an earlier one: the state at the first event, in a history of two.
    two = prefixes_at(histories, torch.arange(4), torch.ones(4, dtype=torch.int64))
    for both_ways in (True, False):
        model = fresh(
            "onepiece",
            {**SMALL, "anchors": 0, "situation": False, "steps": 1, "step_states": 2, "bidirectional": both_ways},
        )
        seen = []
        model.reason = lambda block, past, real, seen=seen: seen.append(block) or []
        with torch.no_grad():
            model.read(two)
            model.read(replace(two, items=torch.stack([two.items[:, 0], two.items[:, 1] % 9 + 20], 1)))
        assert torch.equal(seen[0][:, 0], seen[1][:, 0]) != both_ways


def test_a_step_sees_what_was_before_it_and_never_what_comes_after():
    model, histories = loud(fresh("onepiece", {**SMALL, "steps": 3})), world().histories
    with torch.no_grad():
        before = model.read(histories)
        model.step_vectors[1].add_(1.0)
        after = model.read(histories)
    layers = model.config.n_layers + 1
    assert len(before) == layers + 3
    alike = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert alike == [True] * (layers + 1) + [False] * 2


def test_the_last_step_is_a_whole_pass_over_everything_at_once():
    """Keys and values that are kept give what a sequence of history, tokens and blocks gives under one mask."""
    model = loud(fresh("onepiece", {**SMALL, "steps": 2, "step_states": 2}))
    n = int(world().histories.lengths[0])
    batch = narrowed(rows(world().histories, torch.tensor([0])), n)
    with torch.no_grad():
        tokens, there = model.beside(batch)
        x, blocks = torch.cat([model.embed(batch.items), tokens[there][None]], 1), []
        base = x.shape[1]
        for number in range(3):
            whole, group = (
                torch.cat([x, *blocks], 1),
                torch.tensor([0] * base + [k + 1 for k in range(number) for _ in range(2)]),
            )
            sees = (group[None, :] <= group[:, None])[None, None]
            for layer in model.layers:
                whole, _ = layer.extend(whole, None, sees)
            out = model.final_norm(whole)
            last = out[:, n - 2 : n] if number == 0 else out[:, -2:]
            torch.testing.assert_close(last[:, -1], model.read(batch)[model.config.n_layers + number])
            if number < 2:
                blocks.append(last + model.step_vectors[number])


def test_each_step_has_its_task_and_only_targets_worth_enough_reach_the_last():
    batch = world().rows["windows"]
    row, last = torch.arange(len(batch)), batch.lengths - 1
    targets, done = batch.targets[row, last], batch.next_behaviours[row, last]
    losses = {}
    for tasks in ("temperature", "behaviours", "last"):
        model = fresh("onepiece", {**SMALL, "tasks": tasks, "prefixes": 0})
        steps = [model.queries(part) for part in model.read(prefixes_at(batch, row, last))[-2:]]
        plain = [model.catalogue_loss(part, targets) for part in steps]
        bought = done == 1 + world().data.manifest["behaviours"].index("buy")
        expected = {
            "temperature": (model.catalogue_loss(steps[0] / 2.0, targets) + plain[1]) / 2,
            "behaviours": (plain[0] + model.catalogue_loss(steps[1][bought], targets[bought])) / 2,
            "last": plain[1],
        }[tasks]
        losses[tasks] = model.training_loss(batch)
        torch.testing.assert_close(losses[tasks], expected)
    assert len({float(loss.detach()) for loss in losses.values()}) == 3


def test_a_window_gives_its_whole_and_so_many_different_beginnings():
    batch = world().rows["windows"]
    row, last = trained_places(batch, 3)
    pairs = list(zip(row.tolist(), last.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for number, length in enumerate(batch.lengths.tolist()):
        own = [position for at, position in pairs if at == number]
        assert len(own) == min(4, length)
        assert max(own) == length - 1


def test_mistakes_are_told_by_name():
    for keys, said in (
        ({"tasks": "behaviour"}, r"unknown model\.tasks 'behaviour'; did you mean 'behaviours'"),
        ({"anchors": -1}, r"model\.anchors=-1 must be 0 or more"),
        ({"folds": 1}, r"model\.folds=1 leaves no other users"),
        ({"step_states": 0}, r"model\.step_states=0 must be at least 1"),
        ({"block": "ligr"}, r"model\.block=ligr is another; use model\.block=pre_norm"),
        ({"tasks": "behaviours", "steps": 1}, r"set model\.steps to 2 or more"),
    ):
        with pytest.raises(UserError, match=said):
            fresh("onepiece", {**SMALL, **keys})
