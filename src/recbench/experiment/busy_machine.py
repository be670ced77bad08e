"""CPU threads of a run by what is free and by the size of its work.

The threads of a run wait for each other after every operation, and they wait by spinning. On cores that somebody else uses as well, a thread that
is not running makes all others spin: two trainings with a thread a core each take several times as long as with one thread each. So where the
cores are busy, or the work is too small to be shared, a run computes with one thread.

The spin is set before torch is imported, for its library reads that from the environment. The threads are chosen when the size of the work is
known, and again about once a second of training: a second training that starts later would make the first one ten times slower, and a run that
began beside others takes their cores when they have ended. What the user set, ``hardware.threads`` or a variable such as OMP_NUM_THREADS, is never
changed. Only commands decide: from Python the process is the caller's. ``benchmarks/busy.py`` measures what the table should hold.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbench.config.run import RunConfig
    from recbench.experiment.context import RunContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """What decides. work_of_a_thread: scores in a training step (targets times items) for which one more thread pays.
    free_share: of a core that must be free for a thread of ours. spin: GOMP_SPINCOUNT, turns that a thread waits before it sleeps.
    look: seconds of training between two looks at the machine."""

    work_of_a_thread: int = 1 << 16
    free_share: float = 0.75
    spin: int | None = 10_000
    look: float = 1.0


TABLE = Table()
#: Variables by which a user decides on threads, and on how they wait.
THREADS_SET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")
WAITING_SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Seconds of observation without which nothing is known of the others.
LEAST_SECONDS = 0.2


@dataclass(frozen=True)
class Seen:
    """What the machine did. cores: that this process may use; busy: of them, how many others used on average since its start, whole and parts;
    load: processes of others that wanted to run, on average over the last minute."""

    cores: int
    busy: float
    load: float


@dataclass(frozen=True)
class Choice:
    """threads: for torch; None leaves them as they are. warning: a sentence; empty for none."""

    threads: int | None
    warning: str = ""


def spin_of(environment: Mapping[str, str], table: Table = TABLE) -> dict[str, str]:
    """Variables to set before torch is imported; none where the user decided on threads or on waiting.

    >>> spin_of({}), spin_of({"OMP_WAIT_POLICY": "passive"}), spin_of({"OMP_NUM_THREADS": "2"})
    ({'GOMP_SPINCOUNT': '10000'}, {}, {})
    """
    decided = any(name in environment for name in (*THREADS_SET, *WAITING_SET))
    return {} if decided or table.spin is None else {"GOMP_SPINCOUNT": str(table.spin)}


def choose(seen: Seen, work: int, environment: Mapping[str, str], wanted: int = 0, table: Table = TABLE) -> Choice:
    """Threads for work of a size. wanted: ``hardware.threads``, 0 if it is not set.

    >>> quiet, shared, full = Seen(4, 0.1, 0.2), Seen(4, 1.2, 1.5), Seen(4, 3.9, 8.0)
    >>> [choose(seen, 10**8, {}).threads for seen in (quiet, shared, full)]
    [4, 3, 1]
    >>> choose(quiet, 1000, {}).threads, choose(full, 10**8, {"OMP_NUM_THREADS": "4"}).threads
    (1, None)
    """
    free = seen.cores - max(seen.busy, 0.0)
    own = wanted > 0 or any(name in environment for name in THREADS_SET)
    paid = max(1, work // table.work_of_a_thread)
    threads = None if own else max(1, min(seen.cores, paid, int(free + 1 - table.free_share)))
    alone = wanted == 1 or (
        wanted == 0 and environment.get("OMP_NUM_THREADS") == "1"
    )  # set so already, and disturbs nobody
    if seen.load < seen.cores or alone:
        return Choice(threads)
    used = f"{threads} CPU thread{'s' if threads != 1 else ''}" if threads is not None else "the threads that you set"
    cores = f"{seen.cores} core{'s' if seen.cores != 1 else ''}"
    return Choice(
        threads,
        f"this machine is busy: {seen.load:.0f} other processes want to run on {cores}. The run uses {used}; its seconds say little",
    )


class Machine:
    """The machine as one process sees it, from its start on."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat, self.cpus = stat, _own_cpus()
        self.cores = _cores(len(self.cpus))
        self.niced = os.nice(0) > 0
        self.began = self._now()
        self.warned = False
        self._most: int | None = None

    def most(self) -> int:
        """Threads that torch has when nobody changed them."""
        if self._most is None:
            import torch

            self._most = torch.get_num_threads()
        return self._most

    def _now(self) -> tuple[float, float, float]:
        """(clock, seconds in which our CPUs were busy, those that this process and its children used)."""
        own = os.times()
        return (
            time.monotonic(),
            _busy_seconds(self.stat, self.cpus, self.niced),
            own.user + own.system + own.children_user + own.children_system,
        )

    def seen(self) -> Seen:
        """What happened since the last look, the first time since the start of the process. Without a /proc the others are taken to do nothing."""
        (began, busy_then, own_then), (now, busy_now, own_now) = self.began, self._now()
        seconds = now - began
        if seconds >= LEAST_SECONDS:
            self.began = now, busy_now, own_now
        others = (busy_now - busy_then - (own_now - own_then)) / seconds if seconds >= LEAST_SECONDS else 0.0
        load = max(0.0, os.getloadavg()[0] - 1.0) if hasattr(os, "getloadavg") else 0.0  # less our own
        return Seen(self.cores, min(max(others, 0.0), float(self.cores)), load)


class Watch:
    """Looks at the machine now and then while a run trains, and lets it compute with as many threads as are free.

    Fewer at once; more only when two looks in a row found them free, for others pause too."""

    def __init__(self, machine: Machine, work: int, most: int, table: Table = TABLE) -> None:
        self.machine, self.work, self.most, self.table = machine, work, most, table
        self.next = time.monotonic() + table.look
        self.found = most

    def step(self) -> None:
        """Before a training step; costs nothing but a clock between two looks."""
        if time.monotonic() < self.next:
            return
        import torch

        before, self.found = self.found, choose(self.machine.seen(), self.work, {}, table=self.table).threads or 1
        now = torch.get_num_threads()
        if self.found < now:
            torch.set_num_threads(self.found)
        elif (free := min(self.most, before, self.found)) > now:
            torch.set_num_threads(free)
        self.next = time.monotonic() + self.table.look


#: Of a process that a command runs in; None where recbench was only imported.
_machine: Machine | None = None


def begin() -> None:
    """Called by a command before torch is imported: begin to watch the machine, and set how threads wait."""
    global _machine
    if _machine is None:
        os.environ.update(spin_of(os.environ))
        _machine = Machine()


def settle(config: RunConfig, stage: RunContext) -> Watch | None:
    """Before a run is built: decide on the threads of this process, and say once what is unusual. Returns what goes on to look at the machine
    while the run trains; None where nothing may change."""
    if _machine is None or config.hardware.devices * config.hardware.nodes > 1:
        return None
    import torch

    work, watch = work_of(config, stage), None
    choice = choose(_machine.seen(), work, os.environ, config.hardware.threads)
    if choice.threads is not None:
        watch = Watch(_machine, work, _machine.most())
        torch.set_num_threads(min(choice.threads, watch.most))
    if choice.warning and not _machine.warned:
        logger.warning("%s; hardware.threads=N decides otherwise", choice.warning)
    _machine.warned = True
    return watch


def callbacks(watch: Watch | None) -> list[Any]:
    """Lightning callbacks by which a run is watched; none without a watch."""
    if watch is None:
        return []
    from pytorch_lightning.callbacks import LambdaCallback

    return [LambdaCallback(on_train_batch_start=lambda *_: watch.step())]


def work_of(config: RunConfig, stage: RunContext) -> int:
    """Scores in a training step: its targets times the items that each is scored against."""
    return min(config.training.batch_size, stage.data.n_interactions) * stage.data.n_items


def _own_cpus() -> frozenset[int]:
    return (
        frozenset(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else frozenset(range(os.cpu_count() or 1))
    )


def _cores(n_cpus: int, quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs, or fewer where a container may use less time than they have."""
    try:
        most, period = quota.read_text(encoding="ascii").split()
        return max(1, min(n_cpus, int(most) // int(period)))
    except (OSError, ValueError):  # "max": no limit
        return n_cpus


def _busy_seconds(stat: Path, cpus: frozenset[int], with_niced: bool = True) -> float:
    """Seconds in which these CPUs worked, for anybody, with those that a host took away; 0 where that is not known.

    with_niced: count what runs at a low priority, too; it gives way to a process that does not."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    ticks = 0
    for line in lines:
        name, *numbers = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, numbers[:8])
            ticks += user + system + irq + softirq + steal + (nice if with_niced else 0)
    return ticks / os.sysconf("SC_CLK_TCK")
