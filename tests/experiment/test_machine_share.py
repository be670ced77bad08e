"""Jobs side by side share a machine: threads by their number, GPUs in turns."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from recbench.experiment import machine_share


@pytest.fixture(autouse=True)
def as_found(monkeypatch):
    threads = torch.get_num_threads()
    for name in (machine_share.PARALLEL_VARIABLE, "CUDA_VISIBLE_DEVICES", *machine_share.THREAD_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine_share, "_given", [])
    monkeypatch.setattr(machine_share, "n_cores", lambda: 8)
    yield
    torch.set_num_threads(threads)


def hardware(**given):
    return SimpleNamespace(**{"threads": 0, "devices": 1, "accelerator": "auto", **given})


@pytest.mark.parametrize(
    ("workers", "jobs", "expected"), [(2, 5, 2), (4, 3, 3), (-1, 100, 8), (-2, 100, 7), (-1, 3, 3), (-20, 5, 1)]
)
def test_there_are_never_more_at_a_time_than_workers_or_jobs(workers, jobs, expected):
    assert machine_share.side_by_side(workers, jobs) == expected


def test_processes_to_be_started_find_their_share_in_the_environment(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")  # the user's, and smaller
    machine_share.announce(3)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["POLARS_MAX_THREADS"] == "2"
    assert os.environ["MKL_NUM_THREADS"] == "1"
    machine_share.announce(3, wanted=5)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "5"


@pytest.mark.parametrize(("wanted", "expected"), [(0, 2), (3, 3)])
def test_a_job_takes_its_share_of_threads_unless_told_otherwise(monkeypatch, wanted, expected):
    machine_share.announce(4, wanted)
    machine_share.take_share(0, hardware(threads=wanted))
    assert torch.get_num_threads() == expected


def test_a_job_alone_takes_what_there_is():
    before = torch.get_num_threads()
    machine_share.take_share(5, hardware())
    assert torch.get_num_threads() == before
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("visible", "job", "devices", "expected"),
    [("0,1,2,3", 5, 1, "1"), ("4,6", 1, 1, "6"), ("0,1,2,3", 1, 2, "2,3"), ("0,1,2", 7, 2, "0,1"), ("3", 7, 1, "3")],
)
def test_gpus_go_in_turns_by_the_jobs_number(monkeypatch, visible, job, devices, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine_share.announce(4)
    machine_share.take_share(job, hardware(devices=devices))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    # A second job of the same process finds CUDA started: it stays where it is.
    machine_share.take_share(job + 1, hardware(devices=devices))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_without_a_gpu_or_on_the_cpu_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    machine_share.announce(2)
    machine_share.take_share(1, hardware())
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    machine_share.take_share(1, hardware(accelerator="cpu"))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    machine_share.take_share(1, hardware())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
