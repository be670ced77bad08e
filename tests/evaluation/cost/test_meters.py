"""Counters that are there, that are forbidden, that overflow."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch

from recbench.evaluation.cost import meters
from recbench.evaluation.cost.meters import Meters, peaks, reset_peaks, spent_figures


@pytest.fixture
def powercap(tmp_path):
    """Two packages, one of which has a part that it contains."""
    for name, value in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 900_000), ("intel-rapl:0:0", 1)):
        zone = tmp_path / name
        zone.mkdir()
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
    return tmp_path


def test_energy_is_the_sum_of_the_packages_and_knows_that_registers_overflow(powercap):
    counters = Meters(powercap=powercap)
    before = counters.read()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("7500000")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("100000")  # from .9 J over 1 J to .1 J
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("999999")
    assert counters.spent(before, counters.read())["cpu_joules"] == pytest.approx(2.5 + 0.2)


def test_a_counter_that_is_not_there_gives_no_figure(tmp_path):
    counters = Meters(powercap=tmp_path / "nothing")
    spent = counters.spent(counters.read(), counters.read())
    assert spent.keys() == {"cpu_seconds"}
    assert spent_figures(spent, 2.0, torch.device("cpu"), 1).keys() == {"cost/train_cpu_seconds"}


def test_a_counter_that_cannot_be_read_any_more_gives_no_figure(powercap):
    counters = Meters(powercap=powercap)
    before = counters.read()
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        (powercap / zone / "energy_uj").unlink()
    assert counters.spent(before, counters.read()).keys() == {"cpu_seconds"}


def test_cpu_seconds_are_those_of_work_not_of_waiting(tmp_path):
    counters = Meters(powercap=tmp_path)
    before = counters.read()
    time.sleep(0.2)
    waited = counters.spent(before, counters.read())["cpu_seconds"]
    before = counters.read()
    started = time.process_time()
    while time.process_time() - started < 0.1:
        pass
    assert waited < 0.05 < 0.1 <= counters.spent(before, counters.read())["cpu_seconds"]


def test_gpus_are_counted_by_the_seconds_that_they_were_held():
    found = spent_figures({"cpu_seconds": 1.0, "cpu_joules": 5.0, "gpu_joules": 7.0}, 3.0, torch.device("cuda"), 2)
    assert found == {
        "cost/train_cpu_seconds": 1.0,
        "cost/train_gpu_seconds": 6.0,
        "cost/energy_cpu_joules": 5.0,
        "cost/energy_gpu_joules": 7.0,
        "cost/energy_joules": 12.0,
    }


def test_without_its_package_a_gpu_has_no_energy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert meters.gpu_energy(torch.device("cuda")) is None
    assert meters.gpu_energy(torch.device("cpu")) is None


def test_the_peak_of_memory_counts_from_the_reset():
    if not reset_peaks():
        pytest.skip("this kernel does not let a process reset its peak")
    before = peaks()["memory"]
    block = np.ones(25_000_000)  # 200 MB
    grown = peaks()["memory"]
    del block
    assert reset_peaks()
    assert grown > before + 150_000_000
    assert peaks()["memory"] < grown - 100_000_000


def test_a_peak_that_cannot_be_reset_is_said_to_be_one(tmp_path):
    assert not reset_peaks(clear_refs=tmp_path / "nothing" / "clear_refs")
