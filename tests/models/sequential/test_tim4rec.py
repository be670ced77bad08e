"""What is particular to TiM4Rec: its two forms, and what it does with time."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbench.config.schemas import compose_model
from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext, count_parameters
from recbench.models.sequential import tim4rec
from recbench.models.sequential.tim4rec import TiM4Rec, TiM4RecConfig
from recbench.nn.recurrent import time_gaps
from recbench.nn.recurrent.time_gaps import LogGaps, gaps, log_gap_statistics

SMALL = {"hidden_size": 16, "head_size": 8, "state_size": 4, "time_hidden_size": 4}
CONTEXT = ModelContext(n_items=30, n_users=5, max_length=10)
NOW = 1_400_000_000


def build(train=None, **keys):
    torch.manual_seed(0)
    model = TiM4Rec(TiM4RecConfig(**{**SMALL, **keys}), replace(CONTEXT, train=train)).eval()
    # Far from the start, where everything is near zero, so that no test passes because nothing matters.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embedding" not in name:
                parameter.normal_(std=0.3)
    return model


def batch_of(*rows, seconds=None):
    """Rows of items, each event a random time of up to a week after the one before."""
    lengths = torch.tensor([len(row) for row in rows])
    items = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    times = torch.zeros_like(items)
    generator = torch.Generator().manual_seed(1)
    for k, row in enumerate(rows):
        items[k, : len(row)] = torch.tensor(row)
        steps = torch.randint(0, 604_800, (len(row),), generator=generator)
        times[k, : len(row)] = NOW + (steps.cumsum(0) if seconds is None else torch.tensor(seconds[k]))
    targets = items.roll(-1, 1) * (torch.arange(items.shape[1]) < lengths[:, None] - 1)
    targets = torch.where((items > 0) & (targets == 0), 1, targets)
    return Batch(items, times, lengths, torch.arange(len(rows)), targets)


ROWS = ([3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13, 14])


@pytest.mark.parametrize(
    ("n_items", "length", "keys", "published"),
    [
        (7_111, 50, {}, 593_498),  # KuaiRand with time on
        (3_416, 200, {}, 508_818),  # MovieLens-1M
        (3_416, 200, {"use_time": False}, 346_336),
        (12_101, 50, {"gate_per_position": True}, 917_856),  # Beauty
    ],
)
def test_the_released_form_has_the_published_number_of_parameters(n_items, length, keys, published):
    model = TiM4Rec(TiM4RecConfig(form="released", **keys), ModelContext(n_items, 1, length))
    assert count_parameters(model)["total"] == published


def test_the_released_option_is_the_beauty_configuration():
    config, _ = compose_model({"model": "tim4rec_released"}, "model", "none")
    assert (config.form, config.gate_per_position, config.norm_eps, config.dropout) == ("released", True, 1e-5, 0.4)
    assert count_parameters(TiM4Rec(config, ModelContext(12_101, 1, 50)))["total"] == 917_856


@pytest.mark.parametrize("form", ["causal", "released"])
def test_the_gaps_matter_and_only_with_time_on(form):
    batch = batch_of(*ROWS)
    later = replace(
        batch, timestamps=batch.timestamps * (batch.timestamps > 0) + 3 * gaps(batch.timestamps).clamp_min(0)
    )
    timed, plain = build(form=form), build(form=form, use_time=False)
    assert not torch.allclose(timed.score(batch), timed.score(later))
    assert torch.equal(plain.score(batch), plain.score(later))


@pytest.mark.parametrize("form", ["causal", "released"])
def test_the_age_of_a_history_shows_in_the_released_form_only(form):
    # Its pads lie at time 0, so the last gap is the whole time since 1970.
    batch = batch_of(*ROWS)
    shifted = replace(batch, timestamps=(batch.timestamps + 50_000_000) * (batch.items > 0))
    model = build(form=form)
    before, after = model.score(batch), model.score(shifted)
    if form == "causal":
        assert torch.equal(before, after)
    else:
        assert not torch.equal(before, after)


def test_gaps_that_float32_would_lose_are_seen():
    rows = ([3, 4, 5, 6],)
    near = batch_of(*rows, seconds=([0, 1, 2, 3],))
    far = batch_of(*rows, seconds=([0, 30, 31, 61],))
    as_float = [part.timestamps.float() for part in (near, far)]
    assert torch.equal(*as_float)
    assert gaps(far.timestamps).tolist() == [[0, 30, 1, 30]]
    model = build()
    assert not torch.allclose(model.score(near), model.score(far))


def test_log_gaps_are_standardised_on_the_training_data(training_of):
    train = training_of([[1, 2, 3], [1, 2]], times=[[0, 0, 99], [50, 59]])
    logs = np.log([1, 100, 10])
    mean, deviation = log_gap_statistics(train)
    assert (mean, deviation) == (pytest.approx(logs.mean()), pytest.approx(logs.std()))
    scale = LogGaps(train)
    times = torch.tensor([[NOW, NOW + 99, NOW + 90, 0]])
    value = scale(times, torch.tensor([[True, True, True, False]]))
    # No event before the first, one that goes back in time counts as none at all, the pad is the mean.
    wanted = [0.0, (np.log(100) - mean) / deviation, -mean / deviation, 0.0]
    torch.testing.assert_close(value, torch.tensor([wanted], dtype=torch.float32))


def test_a_stored_run_brings_its_statistics(training_of):
    train = training_of([[1, 2, 3]], times=[[0, 5, 500]])
    model, fresh = build(train), build()
    assert fresh.log_gaps.mean == 0
    fresh.load_stored_state(model.stored_state())
    assert fresh.log_gaps.mean == model.log_gaps.mean != 0
    batch = batch_of(*ROWS)
    assert torch.equal(fresh.score(batch), model.score(batch))


@pytest.mark.parametrize(("times", "warned"), [([[0, 10, 20], [5, 15]], True), ([[0, 10, 20], [5, 16]], False)])
@pytest.mark.parametrize("form", ["causal", "released"])
def test_equal_gaps_are_warned_of_once_by_name(training_of, caplog, times, warned, form):
    train = training_of([[1, 2, 3], [1, 2]], times=times)
    time_gaps._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="recbench"):
        model = build(train, form=form)
        build(train, form=form)
        build(train, form=form, use_time=False)
    assert [record.message for record in caplog.records if "'tim4rec'" in record.message] == [
        f"{train.data.folder.name}: the gaps between training events are all equal, so the time path of the model 'tim4rec' has "
        "nothing to learn from and degenerates to that of a model without time"
    ] * warned
    assert model.score(batch_of(*ROWS)).isfinite().all()


def released_by_hand(model, items, times):
    """The released forward pass on one row of max_length slots, written down from the specification; the state at every slot."""
    p, length = model.config, model.max_length
    gap = torch.cat([torch.zeros(1), (times[1:] - times[:-1]).float()])
    tau = F.layer_norm(gap, (length,), model.gap_norm.weight, model.gap_norm.bias, p.norm_eps).expand(
        p.n_ssd_heads, length
    )
    u = F.layer_norm(model.item_embedding.weight[items], (16,), eps=p.norm_eps)
    for layer in model.layers:
        time = layer.time

        def conv(module, value):
            """[H, L], causal and depthwise."""
            return F.conv1d(F.pad(value, (3, 0)), module.weight[:, None], module.bias, groups=len(value))

        s = time.mlp[2](F.silu(time.mlp[0](tau)))
        m = F.hardswish(conv(time.second, F.hardswish(conv(time.first, tau * s))))
        h = F.layer_norm(layer.mixer(u[None], m.T[None])[0] + u, (16,), eps=p.norm_eps)
        ff = layer.feedforward
        u = F.layer_norm(ff.contract(F.hardswish(ff.expand(h))) + h, (16,), eps=1e-12)
        g = torch.sigmoid(time.keep(tau))
        tau = F.layer_norm(g * tau + (1 - g) * m, (length,), time.norm.weight, time.norm.bias, p.norm_eps)
    return u


@pytest.mark.parametrize("gate_per_position", [False, True])
def test_the_released_form_is_its_specification(gate_per_position):
    model = build(form="released", gate_per_position=gate_per_position, n_layers=3)
    batch = batch_of(*ROWS)
    states = model.last_states(batch)[-1]
    for k, length in enumerate(batch.lengths.tolist()):
        items, times = (F.pad(v[k], (0, 10 - v.shape[1])) for v in (batch.items, batch.timestamps))
        torch.testing.assert_close(states[k], released_by_hand(model, items, times)[length - 1], rtol=1e-4, atol=1e-5)


def test_the_released_form_gives_each_position_the_state_of_its_own_prefix():
    model = build(form="released")
    batch = batch_of(*ROWS)
    assert not model.is_causal
    states = model.hidden_states(batch)
    assert [tuple(state.shape) for state in states] == [(3, 6, 16)] * 3
    for k, row in enumerate(ROWS):
        for length in range(1, len(row) + 1):
            alone = Batch(
                batch.items[k : k + 1, :length],
                batch.timestamps[k : k + 1, :length],
                torch.tensor([length]),
                torch.tensor([0]),
            )
            for whole, prefix in zip(states, model.last_states(alone), strict=True):
                torch.testing.assert_close(whole[k, length - 1], prefix[0], rtol=1e-4, atol=1e-5)
        assert not states[-1][k, len(row) :].any()


def test_the_released_form_ignores_how_wide_the_batch_is():
    model = build(form="released")
    batch = batch_of(*ROWS)
    for extra in (2, 6):  # up to and beyond max_length
        wider = replace(batch, items=F.pad(batch.items, (0, extra)), timestamps=F.pad(batch.timestamps, (0, extra)))
        torch.testing.assert_close(model.score(wider), model.score(batch), rtol=1e-5, atol=1e-6)


def test_prefix_rows_in_pieces_give_the_same_loss_and_gradients(monkeypatch):
    model = build(form="released", dropout=0.0).train()
    batch = batch_of(*ROWS)

    def loss_and_gradients():
        model.zero_grad()
        loss = model.training_loss(batch)
        loss.backward()
        return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    whole, wanted = loss_and_gradients()
    # The eight prefixes of up to three events in threes, the four longer ones alone.
    monkeypatch.setattr(tim4rec, "CHUNK_POSITIONS", 9)
    monkeypatch.setattr(tim4rec, "SLOTS", 3)
    pieces, got = loss_and_gradients()
    torch.testing.assert_close(pieces, whole)
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_released_form_trains_all_but_the_last_hand_over():
    model = build(form="released", dropout=0.2, time_dropout=0.2).train()
    model.training_loss(batch_of(*ROWS)).backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {f"layers.1.time.{part}.{kind}" for part in ("keep", "norm") for kind in ("weight", "bias")}
    assert all(not p.requires_grad for name, p in model.named_parameters() if name in idle)


def test_a_single_layer_has_no_residual_around_its_recurrence():
    layer = build(n_layers=1, use_time=False).layers[0]
    u = torch.randn(2, 5, 16)
    torch.testing.assert_close(layer(u, None), layer.feedforward(layer.norm(layer.mixer(u))))


def test_kaiming_start_of_the_convolutions():
    torch.manual_seed(0)
    model = TiM4Rec(TiM4RecConfig(kaiming_conv=True), CONTEXT)
    conv = model.layers[0].mixer.conv
    assert not conv.bias.any()
    assert conv.weight.std().item() == pytest.approx((2 / (192 * 4)) ** 0.5, rel=0.1)


def test_wrong_keys_are_refused():
    with pytest.raises(UserError, match=r"unknown model.form 'casual'; known: causal, released"):
        build(form="casual")
    with pytest.raises(UserError, match=r"= 32 is not a multiple of model.head_size=12"):
        build(head_size=12)
    with pytest.raises(UserError, match=r"time_dropout must lie between 0 and 1, not 1"):
        build(time_dropout=1.0)
    with pytest.raises(UserError, match=r"model.state_size must be at least 1"):
        build(state_size=0)
