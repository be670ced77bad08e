"""Threads by load, cores, work and environment; and never over what the user set."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from recbench.experiment import busy_machine
from recbench.experiment.busy_machine import Machine, Seen, Table, Watch, callbacks, choose, settle, spin_of, work_of

LARGE, SMALL = 10**8, 1000


@pytest.mark.parametrize(
    ("cores", "busy", "load", "work", "threads"),
    [
        (2, 0.0, 0.0, LARGE, 2),
        (2, 0.2, 0.3, LARGE, 2),  # a shell and a browser
        (2, 1.0, 1.0, LARGE, 1),  # one other training
        (2, 1.9, 8.0, LARGE, 1),
        (8, 0.0, 0.0, LARGE, 8),
        (8, 3.1, 3.0, LARGE, 5),
        (8, 7.9, 16.0, LARGE, 1),
        (1, 0.0, 0.0, LARGE, 1),
        (64, 0.5, 0.5, SMALL, 1),  # nothing to share out
        (64, 0.5, 0.5, 3 * 2**16, 3),  # little
    ],
)
def test_threads_are_what_is_free(cores, busy, load, work, threads):
    assert choose(Seen(cores, busy, load), work, {}).threads == threads


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT"])
def test_a_users_own_number_is_left_alone(name):
    assert choose(Seen(2, 2.0, 9.0), LARGE, {name: "2"}).threads is None
    assert spin_of({name: "2"}) == {}
    assert choose(Seen(2, 2.0, 9.0), LARGE, {}, wanted=2).threads is None


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_users_own_way_of_waiting_is_left_alone(name):
    assert spin_of({name: "x"}) == {}
    assert choose(Seen(4, 0.0, 0.0), LARGE, {name: "x"}).threads == 4


def test_the_table_may_leave_the_spin_as_it_is():
    assert spin_of({}, Table(spin=None)) == {}
    assert spin_of({}, Table(spin=7)) == {"GOMP_SPINCOUNT": "7"}


def test_a_warning_where_more_want_to_run_than_there_are_cores():
    assert choose(Seen(4, 3.0, 3.9), LARGE, {}).warning == ""
    said = choose(Seen(4, 4.0, 9.2), LARGE, {}).warning
    assert "9 other processes want to run on 4 cores" in said
    assert "1 CPU thread;" in said
    assert choose(Seen(4, 4.0, 9.2), LARGE, {"OMP_NUM_THREADS": "1"}).warning == ""
    assert "threads that you set" in choose(Seen(4, 4.0, 9.2), LARGE, {"OMP_NUM_THREADS": "4"}).warning


STAT = """cpu  9 9 9 9 9 9 9 9 0 0
cpu0 {0} 0 0 1000 0 0 0 0 0 0
cpu1 {1} 0 0 1000 0 0 0 {2} 0 0
cpu2 99999 0 0 0 0 0 0 0 0 0
intr 1
"""


def test_what_others_did_on_our_cpus_since_the_start(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(busy_machine.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(busy_machine, "_own_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setattr(
        busy_machine.os,
        "times",
        lambda: SimpleNamespace(user=clock[0] - 100, system=0, children_user=0, children_system=0),
    )
    monkeypatch.setattr(busy_machine.os, "getloadavg", lambda: (3.0, 0, 0))
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(0, 0, 0))
    machine = Machine(stat)
    clock[0] += 10
    stat.write_text(STAT.format(10 * ticks, 4 * ticks, ticks))  # we used one core, others half of the other
    found = machine.seen()
    assert found.busy == pytest.approx(0.5)
    assert found.load == 2.0
    assert machine.seen().busy == 0.0  # too short a time to see anything
    clock[0] += 10
    stat.write_text(STAT.format(20 * ticks, 13 * ticks, ticks))  # the others nine tenths since then
    assert machine.seen().busy == pytest.approx(0.9)
    assert Machine(tmp_path / "none").seen().busy == 0.0


def test_what_gives_way_is_not_counted_unless_we_give_way_ourselves(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu0 100 700 100 9 9 0 0 0 0 0\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert busy_machine._busy_seconds(stat, frozenset({0}), with_niced=False) == pytest.approx(200 / ticks)
    assert busy_machine._busy_seconds(stat, frozenset({0}), with_niced=True) == pytest.approx(900 / ticks)


def test_while_it_trains_fewer_threads_at_once_and_more_when_twice_free(monkeypatch):
    threads, clock = torch.get_num_threads(), [0.0]
    monkeypatch.setattr(busy_machine.time, "monotonic", lambda: clock[0])
    seen = [1.0, 0.0, 0.0, 3.9, 0.0, 3.0, 0.0]
    machine = SimpleNamespace(seen=lambda: Seen(4, seen.pop(0), 0.0))
    torch.set_num_threads(4)
    try:
        watch, had = Watch(machine, LARGE, most=4), []
        while seen:
            watch.step()  # not yet
            clock[0] += 1.5
            watch.step()
            had.append(torch.get_num_threads())
        assert had == [3, 3, 4, 1, 1, 1, 1]
    finally:
        torch.set_num_threads(threads)


def test_a_container_with_a_quota_has_fewer_cores(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert busy_machine._cores(8, tmp_path / "cpu.max") == 1
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert busy_machine._cores(8, tmp_path / "cpu.max") == 4
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert busy_machine._cores(8, tmp_path / "cpu.max") == 8
    assert busy_machine._cores(8, tmp_path / "none") == 8


@pytest.fixture
def command(monkeypatch):
    """A process that a command runs in, on a machine that is as the test says."""
    for name in (*busy_machine.THREADS_SET, *busy_machine.WAITING_SET):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    monkeypatch.setattr(busy_machine, "_machine", None)

    def as_seen(seen):
        busy_machine.begin()
        monkeypatch.setattr(Machine, "most", lambda self: 4)
        monkeypatch.setattr(Machine, "seen", lambda self: seen)

    yield as_seen
    torch.set_num_threads(threads)
    os.environ.pop("GOMP_SPINCOUNT", None)


def run_of(devices=1, threads=0, items=10_000):
    hardware = SimpleNamespace(devices=devices, nodes=1, threads=threads)
    config = SimpleNamespace(hardware=hardware, training=SimpleNamespace(batch_size=512))
    return config, SimpleNamespace(data=SimpleNamespace(n_items=items, n_interactions=100_000))


def test_each_run_decides_and_is_watched_and_one_warning_is_enough(command, caplog):
    torch.set_num_threads(4)
    command(Seen(4, 1.1, 8.0))
    settle(*run_of())
    assert torch.get_num_threads() == 3
    assert "this machine is busy" in caplog.text
    torch.set_num_threads(1)
    watch = settle(*run_of())
    assert torch.get_num_threads() == 3
    assert len(callbacks(watch)) == 1
    assert caplog.text.count("this machine is busy") == 1


def test_processes_of_one_run_and_a_number_of_the_user_are_left_alone(command):
    command(Seen(4, 3.0, 1.0))
    torch.set_num_threads(3)
    settle(*run_of(threads=3))
    assert torch.get_num_threads() == 3
    watch = settle(*run_of(devices=2))
    assert torch.get_num_threads() == 3
    assert callbacks(watch) == []


def test_python_decides_for_itself(monkeypatch):
    monkeypatch.setattr(busy_machine, "_machine", None)
    before = torch.get_num_threads()
    settle(*run_of(items=1))
    assert torch.get_num_threads() == before


def test_a_step_is_as_large_as_its_scores():
    assert work_of(*run_of(items=10)) == 5120


def test_a_command_begins_before_torch_is_there(cli_process, tiny, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from recbench.cli.main import main; main(['--version']); "
        "assert 'torch' not in sys.modules; import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {k: v for k, v in os.environ.items() if k not in (*busy_machine.THREADS_SET, *busy_machine.WAITING_SET)}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "10000"
