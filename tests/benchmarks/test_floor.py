"""The work of an epoch by formula, and speeds that are speeds."""

import numpy as np
import pytest
import torch

from benchmarks.data import Sequences
from benchmarks.floor import Speeds, measure_speeds, sasrec_epoch, seconds_of
from benchmarks.measure import NO_BFLOAT16
from benchmarks.profile import speeds_line
from benchmarks.task import SASRecTask
from recbench.data.batches import Batch
from recbench.evaluation.cost.flops import count_training_flops
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

N_USERS, LENGTH, N_ITEMS = 6, 9, 40


def one_batch():
    """Users with equally long histories, so that a batch has no padding, as arrays and as the batch of their training windows."""
    rng = np.random.default_rng(0)
    events = LENGTH + 3
    items = np.concatenate([rng.permutation(N_ITEMS)[:events] + 1 for _ in range(N_USERS)])
    sequences = Sequences(items, np.arange(N_USERS + 1) * events, np.zeros(len(items), dtype=np.int64))
    rows = torch.from_numpy(items.reshape(N_USERS, events))
    full = torch.full((N_USERS,), LENGTH)
    batch = Batch(rows[:, :LENGTH], torch.zeros(N_USERS, LENGTH), full, torch.arange(N_USERS), rows[:, 1 : LENGTH + 1])
    return sequences, batch


@pytest.mark.parametrize("heads", [1, 2])
def test_the_operations_of_an_epoch_are_those_that_a_step_is_counted_to_make(heads):
    sequences, batch = one_batch()
    task = SASRecTask(hidden_size=16, n_layers=2, n_heads=heads, feedforward_size=24, dropout=0.0, batch_targets=1000)
    work = sasrec_epoch(task, sequences)
    rows = len(np.unique(sequences.items)) + 1
    model = SASRec(
        SASRecConfig(hidden_size=16, n_layers=2, n_heads=heads, feedforward_size=24, dropout=0.0),
        ModelContext(rows - 1, N_USERS, 50),
    )
    renumbered = np.unique(sequences.items, return_inverse=True)[1].reshape(N_USERS, -1) + 1
    batch.items = torch.from_numpy(renumbered[:, :LENGTH])
    batch.targets = torch.from_numpy(renumbered[:, 1 : LENGTH + 1])
    counted = count_training_flops(model, lambda: model.training_loss(batch))
    # Written out, attention also multiplies the half that its mask throws away.
    masked = 12.0 * 16 * 2 * N_USERS * (LENGTH * LENGTH - LENGTH * (LENGTH + 1) // 2)
    assert work.network_flop + work.logits_flop + masked == pytest.approx(counted)
    assert work.logits == N_USERS * LENGTH * rows


def test_long_histories_are_windows():
    events = 3 + 5
    sequences = Sequences(np.arange(1, events + 1), np.array([0, events]), np.zeros(events, dtype=np.int64))
    task = SASRecTask(hidden_size=1, n_layers=1, feedforward_size=0, max_length=2, batch_targets=5)
    # Five targets in windows of 2, 2 and 1 positions: 3 + 3 + 1 pairs.
    assert sasrec_epoch(task, sequences).network_flop == 6.0 * 4 * 5 + 12.0 * 7


def test_the_floor_adds_up_its_parts():
    sequences, _ = one_batch()
    work = sasrec_epoch(SASRecTask(), sequences)
    speeds = Speeds(2.0, 1.0, 5.0, 20.0, 40.0, 4.0, 8.0, 10.0)
    rest = work.network_flop / 2.0 + work.bytes / 20.0
    assert work.seconds(speeds, "fp32") == pytest.approx(rest + work.logits_flop / 2.0 + work.logits / 5.0)
    assert work.seconds(speeds, "bf16") == pytest.approx(rest + work.logits_flop / 4.0 + work.logits / 10.0)
    assert work.seconds_as_shaped(speeds, "fp32") == pytest.approx(rest + work.logits_flop / 1.0 + work.logits / 5.0)


def test_without_native_bfloat16_its_lines_are_left_out(monkeypatch):
    monkeypatch.setattr("benchmarks.floor.SQUARE", 64)
    monkeypatch.setattr("benchmarks.floor.COPIED_BYTES", 2**16)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    speeds = measure_speeds(8, 16, 100, torch.device("cpu"))
    assert not speeds.bfloat16
    assert speeds.product("bf16") == speeds.product_fp32
    assert NO_BFLOAT16 in speeds_line(speeds)
    full = Speeds(*[1e9] * 8)
    assert "1 bfloat16 GFLOP/s" in speeds_line(full)


def test_speeds_are_measured(monkeypatch):
    monkeypatch.setattr("benchmarks.floor.SQUARE", 64)
    monkeypatch.setattr("benchmarks.floor.COPIED_BYTES", 2**16)
    speeds = measure_speeds(8, 16, 100, torch.device("cpu"))
    assert all(value > 0 for value in vars(speeds).values() if value is not None)
    x = torch.randn(512, 512)
    assert seconds_of(lambda: x @ x @ x @ x, torch.device("cpu")) > seconds_of(
        lambda: x[:8, :8].sum(), torch.device("cpu")
    )
