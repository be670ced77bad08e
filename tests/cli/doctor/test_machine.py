"""The machine as it tells of itself, and as it would on others."""

from __future__ import annotations

import os
import stat

import pytest

from recbench.cli.doctor import machine


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program("sbatch", "echo slurm 24"): a program of that name, first on the PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def make(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)

    return make


def test_slurm_is_told_with_its_version_and_the_job(program, monkeypatch):
    program("sbatch", "echo slurm 24.05.1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert machine.slurm() == {"version": "slurm 24.05.1", "job": "17"}
    monkeypatch.delenv("SLURM_JOB_ID")
    program("sbatch", "exit 1")
    assert machine.slurm() == {"version": None, "job": None}
    monkeypatch.setenv("PATH", "")
    assert machine.slurm() is None


def test_gpus_are_as_nvidia_smi_tells_them(program, monkeypatch):
    program("nvidia-smi", "echo 'NVIDIA H200, 143771 MiB, 570.86.15'; echo 'NVIDIA T4, 15360 MiB, 570.86.15'")
    assert [gpu["name"] for gpu in machine.gpus()] == ["NVIDIA H200", "NVIDIA T4"]
    assert machine.gpus()[1]["driver_version"] == "570.86.15"
    program("nvidia-smi", "echo 'no devices' ; exit 9")
    assert machine.gpus() == []


def test_a_program_that_hangs_is_not_waited_for(program, monkeypatch):
    monkeypatch.setattr(machine, "SECONDS", 0.2)
    program("nvidia-smi", "exec sleep 30")
    assert machine.gpus() == []


def test_memory_knows_the_limit_of_a_container(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:       16000 kB\nMemAvailable:    9000 kB\nHugePages_Total:       0\n")
    assert machine.memory(info, tmp_path) == {"total": 16_384_000, "available": 9_216_000, "limit": None}
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory(info, tmp_path)["limit"] is None
    (tmp_path / "memory.max").write_text("1000000\n")
    assert machine.memory(info, tmp_path)["limit"] == 1_000_000


def test_the_disk_of_a_folder_to_be_is_that_of_the_one_above(tmp_path):
    told = machine.disk(tmp_path / "runs" / "deeper")
    assert told["writable"]
    assert told["free"] > 0


def test_energy_counters_are_readable_forbidden_or_absent(tmp_path, monkeypatch):
    assert machine.energy(tmp_path)["cpu"] == "absent"
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1")
    assert machine.energy(tmp_path)["cpu"] == "readable"
    monkeypatch.setattr(machine.os, "access", lambda path, how: False)
    assert machine.energy(tmp_path)["cpu"] == "forbidden"
