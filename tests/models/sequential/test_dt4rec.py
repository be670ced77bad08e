"""What is particular to dt4rec: returns, their buckets, what is asked, and that q moves lists only where behaviours say something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, evaluation_batches, training_windows
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.rewards import events_left, merged_groups, quantile_buckets, returns, rewards_of
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from recbench.data.training import TrainingData
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.base import ModelContext
from recbench.models.sequential.dt4rec import DT4Rec, DT4RecConfig, training_buckets
from tests.fixtures.bare_training import trained

SMALL = {"hidden_size": 16, "feedforward_size": 16, "dropout": 0.0}


def train_of_world():
    return TrainingData.of(world().data, world().split)


def made(folder, behaviours, names=("view", "cart", "buy"), users=1):
    """Data of users with these behaviours each, and their training part, which leaves out the last event."""
    n = len(behaviours)
    offsets = np.arange(users + 1) * n
    items = np.tile(np.arange(1, n + 1), users)
    data = PreparedData.from_arrays(
        folder, items, offsets, None, np.tile(behaviours, users), behaviour_names=list(names)
    )
    return TrainingData(data, data.offsets[:-1], data.offsets[1:] - 1)


def test_returns_and_buckets_are_those_of_a_loop():
    train, generator = train_of_world(), np.random.default_rng(2)
    reward = generator.integers(0, 4, len(train.data.items)).astype(float)
    found, left = returns(reward, train.start, train.end, 0.7), events_left(train.start, train.end, len(reward))
    expected, remaining = np.zeros(len(reward)), np.full(len(reward), -1)
    for start, end in zip(train.start, train.end, strict=True):
        for at in range(start, end):
            expected[at] = sum(0.7 ** (k - at - 1) * reward[k] for k in range(at + 1, end))
            remaining[at] = end - 1 - at
    np.testing.assert_allclose(found, expected)
    assert (left == remaining).all()
    at = left > 0
    group = merged_groups(left[at], 100)
    assert min(np.bincount(group)[np.unique(group)]) >= 100
    buckets = quantile_buckets(found[at], group, 10)
    for number in np.unique(group):
        values = found[at][group == number]
        share = [(np.sum(values < v) + np.sum(values == v) / 2) / len(values) for v in values]
        assert (buckets[group == number] == np.minimum((np.array(share) * 10 + 1e-9).astype(int), 9)).all()


@pytest.mark.parametrize("keys", [{}, {"returns": "both", "advantage": True}, {"token": "permuted"}])
def test_nothing_but_training_events_decides_the_buckets(tmp_path, keys):
    train, config = train_of_world(), DT4RecConfig(**SMALL, **keys)
    behaviours = np.array(train.data.behaviours)
    held_out = np.ones(len(behaviours), dtype=bool)
    for start, end in zip(train.start, train.end, strict=True):
        held_out[start:end] = False
    behaviours[held_out] = 1 + (behaviours[held_out] % 3)
    other = PreparedData.from_arrays(
        tmp_path, train.data.items, train.data.offsets, train.data.timestamps, behaviours,
        behaviour_names=train.data.manifest["behaviours"],
    )  # fmt: skip
    moved = TrainingData(other, train.start, train.end)
    assert (behaviours != train.data.behaviours).any()
    expected = training_buckets(train, config, {}, 3)
    assert (training_buckets(moved, config, {}, 3) == expected).all()
    assert not expected[held_out].any()
    behaviours[~held_out] = behaviours[~held_out][::-1]
    again = PreparedData.from_arrays(
        tmp_path / "again", train.data.items, train.data.offsets, train.data.timestamps, behaviours,
        behaviour_names=train.data.manifest["behaviours"],
    )  # fmt: skip
    assert (training_buckets(TrainingData(again, train.start, train.end), config, {}, 3) != expected).any()


def test_a_batch_carries_the_buckets_of_its_events_and_a_question_the_one_that_is_asked():
    train, model = train_of_world(), fresh("dt4rec", SMALL)
    windows = training_windows(train.start, train.end, 20)
    batch = WindowDataset(train.data, windows)[np.array([3, 0, 5])]
    expected = training_buckets(train, model.config, {}, 0)
    buckets = model.train().buckets(batch)
    for row, number in enumerate((3, 0, 5)):
        start, n = windows.start[number], windows.length[number]
        assert buckets[row, :n, 0].tolist() == expected[start : start + n, 0].tolist()
    assert len(buckets.unique()) > 4
    model.eval()
    assert model.buckets(batch).unique().tolist() == model.asked_buckets(0.9)
    with model.asking(0.1):
        assert model.buckets(batch).unique().tolist() == model.asked_buckets(0.1) != model.asked_buckets(0.9)
    assert model.buckets(batch).unique().tolist() == model.asked_buckets(0.9)


def test_no_reward_of_a_history_is_read_when_items_are_asked_for():
    histories = world().histories
    changed = replace(histories, behaviours=1 + histories.behaviours % 3)
    for keys, alike in (({}, True), ({"token": "last_reward"}, False)):
        model = fresh("dt4rec", {**SMALL, **keys})
        with torch.no_grad():
            model.return_tokens[0].weight.normal_()
            assert torch.equal(model.score(histories), model.score(changed)) == alike


def test_without_a_token_it_is_sasrec_bit_for_bit_and_constant_tokens_know_no_quantile():
    plain, none = fresh("sasrec", SMALL), fresh("dt4rec", {**SMALL, "token": "none"})
    batch = world().rows["windows"]
    assert torch.equal(plain.train().training_loss(batch), none.train().training_loss(batch))
    assert torch.equal(plain.eval().score(world().histories), none.eval().score(world().histories))
    constant = fresh("dt4rec", {**SMALL, "token": "constant"})
    with torch.no_grad(), constant.asking(0.1):
        low = constant.score(world().histories)
    assert torch.equal(low, constant.score(world().histories).detach())
    assert none.controls() == constant.controls() == {}


def test_the_contrast_is_that_of_two_whole_passes():
    model = fresh("dt4rec", {**SMALL, "contrast": 0.5, "returns": "both"}).train()
    batch = world().rows["windows"]
    with torch.no_grad():
        for table in model.return_tokens:
            table.weight.normal_()
    torch.manual_seed(4)
    found = model.training_loss(batch)
    plain = model.loss(model.hidden_states(batch)[-1][batch.mask], model.item_vectors(), batch.targets[batch.mask])
    torch.manual_seed(4)
    drawn = torch.stack(
        [torch.multinomial(row.float(), batch.items.numel(), replacement=True) for row in model.filled], -1
    ).view(*batch.items.shape, 2)
    model.buckets, own = lambda batch: drawn, model.buckets
    other = model.hidden_states(batch)[-1]
    model.buckets = own
    target = model.item_vectors()[batch.targets]
    gap = ((other - model.hidden_states(batch)[-1]) * target).sum(-1)[batch.mask]
    torch.testing.assert_close(found, plain + 0.5 * torch.nn.functional.softplus(gap).mean())


def test_mistakes_are_told_by_name(tmp_path, run_config):
    train = made(tmp_path / "plain", [1, 2, 3, 1])
    with pytest.raises(
        UserError, match=r"^data\.rewards names the behaviour 'by', which these data do not have; did you mean 'buy'"
    ):
        rewards_of(train.data, {"by": 1.0})
    assert rewards_of(train.data, {"cart": 2.0}).tolist() == [0, 0, 2, 0]
    odd = made(tmp_path / "odd", [1, 2, 1, 1], ("look", "keep"))
    with pytest.raises(UserError, match=r"nobody says what 'look' is worth; set data\.rewards=\{look: 1\}"):
        DT4Rec(DT4RecConfig(**SMALL), ModelContext(4, 1, 20, train=odd))
    views = made(tmp_path / "views", [1, 1, 1, 3])
    with pytest.raises(UserError, match=r"no training event has a reward"):
        DT4Rec(DT4RecConfig(**SMALL), ModelContext(4, 1, 20, train=views))
    for keys, said in (
        ({"token": "retrun"}, r"unknown model\.token 'retrun'; did you mean 'return'"),
        ({"quantile": 1.5}, r"model\.quantile must be a number at least 0 and at most 1"),
        ({"n_buckets": 1}, r"model\.n_buckets=1 must lie between 2 and 256"),
        ({"token": "constant", "contrast": 0.1}, r"set model\.contrast=0"),
    ):
        with pytest.raises(UserError, match=said):
            fresh("dt4rec", {**SMALL, **keys})
    with pytest.raises(UserError, match=r"data\.rewards\.buy=-1 must be a number of 0 or more"):
        run_config(tmp_path, "model=dt4rec", "data.rewards={buy: -1}").data.validate()


def test_data_without_behaviours_are_refused_in_one_line(cli, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(70)))
    done = cli("model=dt4rec", "data=table", f"data.path={path}", "data.k_core=0", "tracking=off", cwd=tmp_path)
    assert done.status != 0
    assert "the model 'dt4rec' needs behaviours, which data=table does not have" in done.err
    assert "Traceback" not in done.err


def learned(folder, signal, **keys):
    """(model, data, split): a short training on users of whom half follow transitions; these lead to carts and buys as far as ``signal`` says."""
    data = prepare(
        SyntheticConfig(
            n_users=700, n_items=60, n_clusters=6, transition=0.5, second_order=0.0, cluster=0.0, gap_dependence=0.0, n_successors=2,
            popularity_skew=0.2, behaviour_signal=signal,
        ),
        folder,
    )  # fmt: skip
    split = make_split(data, LeaveOneOutConfig(), None)
    train = TrainingData.of(data, split)
    torch.manual_seed(0)
    config = DT4RecConfig(hidden_size=16, n_layers=1, n_heads=1, feedforward_size=16, dropout=0.0, **keys)
    model = DT4Rec(config, ModelContext(data.n_items, data.n_users, 20, train=train))
    return trained(model, train, epochs=8), data, split


def gain(model, data, split):
    """(mean, its deviation): log p(target) asked for the quantile .9 less that for .1, of targets that were bought less that of those only viewed."""
    names = data.manifest["behaviours"]
    _, batch = next(evaluation_batches(data, split.test, 20, len(split.test)))
    order = np.argsort(np.minimum(split.test.end - split.test.start, 20), kind="stable")
    target = torch.from_numpy(split.test.targets[order].astype(np.int64))[:, None]
    done = data.behaviours[split.test.target_positions[order]]
    with torch.no_grad():
        high, low = (
            model.controls()[name][0](batch)[:, 1:].log_softmax(1).gather(1, target - 1)[:, 0]
            for name in ("q90", "q10")
        )
    parts = [(high - low).numpy()[done == 1 + names.index(name)] for name in ("buy", "view")]
    error = sum(part.var() / len(part) for part in parts) ** 0.5
    return float(parts[0].mean() - parts[1].mean()), float(error)


def test_asking_for_more_is_asking_for_what_is_bought_where_behaviours_tell_something_and_for_nothing_elsewhere(
    tmp_path,
):
    """Planted: events that follow a transition are carts and buys, those by chance are views. Asked for much, the model trusts transitions."""
    found = {}
    for name, signal, keys in (("told", 1.0, {}), ("mute", 0.0, {}), ("permuted", 1.0, {"token": "permuted"})):
        found[name] = gain(*learned(tmp_path / name, signal, returns="immediate", **keys))
    told, error = found["told"]
    assert told - 3 * error > 0.1, found
    for name in ("mute", "permuted"):
        mean, error = found[name]
        assert abs(mean) < 3 * error + 0.02, found
