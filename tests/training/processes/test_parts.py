"""How a batch is cut over processes, and who a process is by its environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.data.batches import Part, WindowDataset, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.experiment.context import FOLLOWER
from recbench.models.base import ModelContext
from recbench.models.sequential.gru4rec import GRU4Rec, GRU4RecConfig
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.training.fit import check_parts
from recbench.training.processes.leader import Team
from recbench.training.processes.ranks import Ranks, gather, here, launched, mean


@pytest.fixture(scope="module")
def windows(tiny_split):
    return training_windows(tiny_split.train_start, tiny_split.train_end, 10)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_the_parts_of_every_batch_are_together_the_batch_of_one_process(windows, parts):
    whole = EpochSampler(windows, 64, seed=5)
    cut = [EpochSampler(windows, 64, seed=5, part=part, parts=parts) for part in range(parts)]
    for sampler in (whole, *cut):
        sampler.set_epoch(3)
    steps = list(zip(whole, *cut, strict=True))  # all take as many steps
    assert len(steps) > 10
    for batch, *pieces in steps:
        own = [piece for piece in pieces if piece.weight > 0]
        assert sorted(np.concatenate([piece.windows for piece in own])) == sorted(batch)
        targets = windows.length[batch].sum()
        for piece in own:
            assert piece.weight == pytest.approx(parts * windows.length[piece.windows].sum() / targets)
        assert sum(piece.weight for piece in pieces) == pytest.approx(parts)
        assert all(len(piece.windows) for piece in pieces)


def test_a_process_without_a_window_steps_along_without_weight(windows):
    sampler = EpochSampler(windows, 64, seed=5, part=2, parts=3)
    assert sampler.part_of(np.array([4, 9])) == Part(pytest.approx(np.array([4])), 0.0)


def test_a_part_is_read_with_its_weight(tiny_data, windows):
    dataset = WindowDataset(tiny_data, windows)
    batch = dataset[Part(np.array([3, 1]), 0.5)]
    assert (batch.weight, dataset[np.array([3, 1])].weight) == (0.5, 1.0)
    assert torch.equal(batch.items, dataset[np.array([3, 1])].items)
    assert batch.to("cpu").weight == 0.5


def test_the_state_of_a_sampler_is_where_it_stood_and_no_other_plan_takes_it(windows):
    first = EpochSampler(windows, 64, seed=5)
    first.set_epoch(7)
    second = EpochSampler(windows, 64, seed=5, part=1, parts=2)  # as many processes as there now are
    second.load_state_dict(first.state_dict())
    for batch, part in zip(first, second, strict=True):
        assert set(part.windows) <= set(batch)
    with pytest.raises(ValueError, match="not of seed 6"):
        EpochSampler(windows, 64, seed=6).load_state_dict(first.state_dict())


def test_losses_that_compare_the_rows_of_a_batch_are_not_shared():
    context = ModelContext(n_items=30, n_users=5, max_length=10)
    in_batch = GRU4Rec(GRU4RecConfig(hidden_size=8, loss="bpr_max", in_batch=True), context)
    contrastive = SASRec(SASRecConfig(hidden_size=8, auxiliary=["duorec"]), context)
    plain = SASRec(SASRecConfig(hidden_size=8), context)
    for model, key in ((in_batch, "model.in_batch"), (contrastive, r"model.auxiliary=\[duorec\]")):
        with pytest.raises(UserError, match=rf"{key}.*hardware.devices=1"):
            check_parts(model, Ranks(0, 2))
        check_parts(model, Ranks())
    check_parts(plain, Ranks(0, 2))


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "here"}
SRUN = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Ranks()),
        (TORCHRUN, Ranks(1, 2, 1)),
        (SRUN, Ranks(5, 8, 1)),
        ({**TORCHRUN, **SRUN}, Ranks(1, 2, 1)),  # torchrun inside of srun
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, Ranks()),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, Ranks()),  # the script of a batch job
    ],
)
def test_a_process_knows_who_it_is(environment, expected):
    assert launched(environment) == expected


def test_a_process_alone_is_the_first_of_one():
    assert here() == Ranks(0, 1, 0)
    assert here().leads
    assert (gather("x"), mean({"a": 2.0})) == (["x"], {"a": 2.0})


def test_other_machines_need_a_launcher(monkeypatch):
    monkeypatch.setattr("recbench.training.processes.leader.launched", Ranks)
    with pytest.raises(UserError, match=r"hardware.nodes=2.*srun or torchrun"):
        Team(HardwareConfig(accelerator="cpu", nodes=2), FOLLOWER).start()


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr("recbench.training.processes.leader.launched", Ranks)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"hardware.devices=2.*1 GPUs here"):
        Team(HardwareConfig(devices=2), FOLLOWER).start()
