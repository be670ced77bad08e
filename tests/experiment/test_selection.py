"""``training.selection``: a run says which training events are targets, and the model is trained on these."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.data.selected import Selected
from recbench.data.training import TrainingData
from recbench.experiment.build import load_model
from recbench.experiment.context import RunContext
from recbench.experiment.model_contract.world import fresh, world
from recbench.experiment.run import run
from recbench.models.selection.event_selection import is_target
from recbench.models.selection.select_dealrec import influences, outer_products, top_matrix
from recbench.models.selection.select_denoise import misfit
from recbench.models.selection.select_holdout import last_targets
from recbench.models.selection.select_propensity import BENDS, SelectPropensityConfig, target_weights
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig, full_softmax

SHORT = ("training.max_epochs=1", "tuned=off", "model.hidden_size=16", "model.n_layers=1")


def train_of_world():
    return TrainingData.of(world().data, world().split)


@pytest.mark.parametrize("words", [("random", "share=1"), ("denoise", "noise=0"), ("propensity", "weights=uniform")])
def test_a_selection_that_keeps_all_is_the_plain_run_bit_for_bit(words, run_config, tmp_path):
    name, key = words
    plain = run(run_config(tmp_path, "model=sasrec", *SHORT))
    kept = run(
        run_config(tmp_path, "model=sasrec", *SHORT, f"training.selection={name}", f"training.selection_keys.{key}")
    )
    ours, theirs = load_file(plain.folder.weights), load_file(kept.folder.weights)
    assert plain.folder.key != kept.folder.key
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("host", ["sasrec", "gru4rec", "lrurec"])
def test_what_is_left_out_has_no_part_in_the_loss_and_a_weight_counts_as_so_many_copies(host):
    train = train_of_world()
    windows = training_windows(train.start, train.end, 20)
    keys = {"hidden_size": 16, **({"in_batch": False, "loss": "softmax"} if host == "gru4rec" else {"dropout": 0.0})}
    model = fresh(host, keys)
    weights = np.random.default_rng(1).integers(0, 3, len(train.data.items)).astype(np.float32)
    batch = WindowDataset(train.data, windows, target_weights=weights)[np.arange(6)]
    queries = model.queries(model.hidden_states(batch)[-1])
    times = batch.target_weights[batch.mask].long()
    expected = model.loss(
        queries[batch.mask].repeat_interleave(times, 0),
        model.item_vectors(),
        batch.targets[batch.mask].repeat_interleave(times, 0),
    )
    torch.testing.assert_close(model.training_loss(batch), expected)


@pytest.mark.parametrize("loss", ["softmax", "bce", "gbce"])
def test_gradients_of_a_weighted_loss_are_those_of_copies(loss):
    torch.manual_seed(0)
    table, hidden = torch.randn(9, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    targets, weights = torch.randint(1, 9, (5,)), torch.tensor([1.0, 3.0, 0.5, 2.0, 1.0])
    measure = CatalogueLoss(LossConfig(loss=loss, n_negatives=2), 8)

    def gradient(of):
        torch.manual_seed(3)
        return torch.autograd.grad(of(), (hidden, table))

    def slow():  # each position alone, with the draws that it has in company
        if loss == "softmax":
            each = [full_softmax(hidden[i : i + 1], table, targets[i : i + 1]) for i in range(5)]
            return (torch.stack(each) * weights).sum() / weights.sum()
        return None

    found = gradient(lambda: measure(hidden, table, targets, weights))
    scaled = gradient(lambda: measure(hidden, table, targets, 7.0 * weights))
    for a, b in zip(found, scaled, strict=True):
        torch.testing.assert_close(a, b)
    if loss == "softmax":
        for a, b in zip(found, gradient(slow), strict=True):
            torch.testing.assert_close(a, b)


def test_batches_are_full_of_kept_targets_and_equal_steps_repeat_them():
    train = train_of_world()
    plain = training_windows(train.start, train.end, 10)
    chosen = Selected(np.random.default_rng(2).permutation(len(train.data.items)).astype(np.float32) % 4 == 0)
    windows = Selected(chosen.weight.astype(np.float32)).left(plain)
    once = EpochSampler(windows, 64, 1)
    counts = [int(windows.kept[batch].sum()) for batch in once.plan(0)]
    assert sum(counts) == windows.kept.sum()
    assert max(counts) < 64 + 10
    steps = len(EpochSampler(plain, 64, 1))
    again = EpochSampler(windows, 64, 1, steps=steps).plan(0)
    assert len(again) == steps > len(once.plan(0))
    assert all(np.array_equal(a, b) for a, b in zip(once.plan(0), again, strict=False))


def test_the_closed_form_is_the_papers_exponent():
    p = np.linspace(0.001, 0.999, 400)
    for bend, f in BENDS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = np.clip(np.log(2 * 0.1 * (1 - p)) / np.log(f(p)), 0.0, 1.0)
        np.testing.assert_allclose(target_weights(p, SelectPropensityConfig(bend=bend)), 1 / f(p) ** alpha, rtol=1e-9)


def test_selections_read_training_events_alone_and_keep_the_budget(run_config, tmp_path):
    stage = RunContext.of(run_config(tmp_path, "model=sasrec"))
    train = TrainingData.of(stage.data, stage.split)
    for name, key in (("select_random", "share=0.2"), ("select_denoise", "noise=0.2"), ("select_dealrec", "share=0.2")):
        words = ["model.surrogate.hidden_size=16", "model.surrogate.training.max_epochs=1"] if "deal" in name else []
        made = run(run_config(tmp_path, f"model={name}", f"model.{key}", *(f"++{word}" for word in words)), stage)
        state = load_file(made.folder.weights)
        assert len(state["keep"]) == (train.end - train.start).sum()
        wanted = 0.8 if "denoise" in name else 0.2
        assert made.metrics["selection/share_kept"] == pytest.approx(wanted, abs=0.01)


def test_random_events_among_structured_ones_are_flagged():
    """Planted: chains i -> i + 1, with a tenth of the events replaced. Area under the curve of the score, and precision."""
    generator = np.random.default_rng(5)
    user = np.repeat(np.arange(300), 12)
    item = (1 + (np.repeat(generator.integers(0, 50, 300), 12) + np.tile(np.arange(12), 300)) % 50).astype(np.int64)
    noise = generator.random(len(item)) < 0.1
    item[noise] = generator.integers(1, 51, noise.sum())
    score = misfit(user, item, np.bincount(item, minlength=51), 0.2)
    order = np.argsort(score)
    ranks = np.empty(len(score))
    ranks[order] = np.arange(len(score))
    n, m = noise.sum(), (~noise).sum()
    auc = (ranks[noise].sum() - n * (n - 1) / 2) / (n * m)
    error = np.sqrt(auc * (1 - auc) / min(n, m))
    assert auc - 1.96 * error > 0.85, auc  # .94 when this was written
    assert noise[order[-n:]].mean() > 5 * noise.mean()


def test_users_of_random_histories_have_less_influence(compose, tmp_path):
    """Planted: a fifth of the users buys at random. After one epoch of the surrogate the mean influence of their targets is lower. (After six epochs
    it is not: then every gradient of the others is nearly 0, and what is left is noise.)"""
    generator = np.random.default_rng(7)
    rows = []
    for user in range(300):
        start, random = int(generator.integers(40)), user % 5 == 0
        items = generator.integers(0, 40, 10) if random else (start + np.arange(10)) % 40
        name = f"{'r' if random else 's'}{user:03}"
        rows += [{"user": name, "item": f"i{i}", "timestamp": 10**9 + t} for t, i in enumerate(items.tolist())]
    pl.DataFrame(rows).write_csv(tmp_path / "events.csv")
    words = [
        "data=table", f"data.path={tmp_path}/events.csv", "data.k_core=0", "hardware=cpu", "tracking=off", f"runs_dir={tmp_path}/runs",
        "tuned=off", "model=sasrec", "training.selection=holdout", "model.hidden_size=16", "model.n_layers=1", "model.dropout=0.1",
        "training.lr=0.01", "training.max_epochs=1",
    ]  # fmt: skip
    config = RunConfig.from_hydra(compose(*words))
    stage = RunContext.of(config)
    train = TrainingData.of(stage.data, stage.split)
    user, _, _ = train.flat()
    target, left_out = is_target(user), last_targets(user)
    products = outer_products(load_model(run(config, stage), stage), train)
    influence, _ = influences(*products, target, left_out, 0.1, np.random.default_rng(0))
    names = np.array(stage.data.user_ids().sort("user")["user_id"].to_list())[user].astype(str)
    random = np.char.startswith(names, "r")
    noisy, rest = influence[target & ~left_out & random], influence[target & ~left_out & ~random]
    error = np.sqrt(noisy.var() / len(noisy) + rest.var() / len(rest))
    assert rest.mean() - noisy.mean() > 3 * error, (noisy.mean(), rest.mean(), error)  # 5.7 when this was written


def test_the_gradient_of_a_target_is_the_outer_product():
    train = train_of_world()
    model = fresh("sasrec", {"hidden_size": 8, "feedforward_size": 8, "dropout": 0.0})
    given, found = outer_products(model, train)
    windows = training_windows(train.start, train.end, model.max_length)
    row = int(np.argmax(windows.length))
    batch = WindowDataset(train.data, windows)[np.array([row])]
    alone = torch.zeros_like(batch.targets, dtype=torch.float32)
    alone[0, 2] = 1.0
    batch.target_weights = alone
    matrix = top_matrix(model)
    (expected,) = torch.autograd.grad(model.training_loss(batch), matrix.weight)
    flat = np.cumsum(train.end - train.start) - (train.end - train.start)
    event = flat[windows.user[row]] + windows.start[row] - train.start[windows.user[row]] + 3
    np.testing.assert_allclose(np.outer(found[event], given[event]), expected.numpy(), rtol=1e-4, atol=1e-7)


def test_mistakes_are_told_by_name(run_config, tmp_path):
    with pytest.raises(UserError, match=r"unknown training\.selection 'randm'; did you mean 'random'"):
        run_config(tmp_path, "model=sasrec", "training.selection=randm")
    with pytest.raises(UserError, match=r"'tiger' is trained on whole windows"):
        run_config(tmp_path, "model=tiger", "training.selection=random")
    with pytest.raises(UserError, match=r"training\.equal_steps is set, but training\.selection is none"):
        run_config(tmp_path, "model=sasrec", "training.equal_steps=true")
    with pytest.raises(
        UserError, match=r"unknown key 'training\.selection_keys\.shar' for model 'select_random'; did you mean"
    ):
        run(run_config(tmp_path, "model=sasrec", "training.selection=random", "training.selection_keys.shar=1"))
    with pytest.raises(UserError, match=r"selection_keys\.share=2 must lie above 0"):
        run(run_config(tmp_path, "model=sasrec", "training.selection=random", "training.selection_keys.share=2"))


def test_weights_for_rare_items_help_where_exposure_was_biased():
    """Planted: preferences are even, training saw popular items more. A softmax of item scores alone, trained with the weights, is tested evenly."""
    generator = np.random.default_rng(11)
    exposure = 1.0 / np.arange(1, 41)
    seen = generator.choice(40, 4000, p=exposure / exposure.sum()) + 1
    counts = np.bincount(seen, minlength=41)
    p = np.maximum(counts[1:], 1) / counts.max()
    losses = {}
    for rule in ("uniform", "dynamic"):
        weights = target_weights(p**0.5, SelectPropensityConfig(weights=rule))[seen - 1]
        share = np.bincount(seen, weights=weights, minlength=41)[1:] + 1e-9
        losses[rule] = -np.log(share / share.sum())
    gain = losses["uniform"] - losses["dynamic"]
    test = generator.integers(0, 40, 2000)
    low = gain[test].mean() - 1.96 * gain[test].std() / np.sqrt(2000)
    assert low > 0.1, low
