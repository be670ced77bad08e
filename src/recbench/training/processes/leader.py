"""The processes of a run as the first of them sees it: started or met when the first training wants them, told what to do, dismissed.

The first process lives through the whole story of a run: look-up, locks, dependencies, what is written and said. The others wait
for a message, ``{"config", "key", "needed"}``, make that run with it (a follower), and wait for the next. So nothing
is decided twice. With torchrun or srun they are there from the start; else the first process starts them.

Who fails says why in the store by which all met, and goes; the rest find the connection closed, and the first one reports the reason.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from recbench.config.settings import HardwareConfig
from recbench.core.console import clean_line
from recbench.core.errors import UserError
from recbench.core.stops import stopped_by_signals
from recbench.training.processes.ranks import Ranks, launched, working_as
from recbench.training.processes.rendezvous import (
    FAILED,
    PATIENCE,
    check_spawn,
    join,
    meet,
    share_of_threads,
    uses_gpu,
    was_left,
)

logger = logging.getLogger(__name__)

#: Seconds in which the reason of a broken connection should be known, and after which a lost process ends one that has not noticed.
REASON_SECONDS, NOTICE_SECONDS = 5.0, 60.0


class RankLost(UserError):
    """Another process of the run failed or was killed."""


class Team:
    """Several processes, from the first one's side. Nothing happens until ``start``.

    follower: the module that another process runs with ``python -m``; it makes the runs that it is told.
    """

    def __init__(self, hardware: HardwareConfig, follower: str) -> None:
        self.hardware, self.follower = hardware, follower
        self.ranks = launched()
        self.spawned = self.ranks.world == 1
        if self.spawned:
            self.ranks = Ranks(0, hardware.devices * hardware.nodes)
        self.children: list[subprocess.Popen[bytes]] = []
        self.store: Any = None
        self.busy = self.closed = False
        self.on_lost: Callable[[str], None] = lambda reason: None

    def start(self) -> None:
        """Meet the others; start them where nobody else did. Raises UserError for what is not available here."""
        if self.store is not None or self.ranks.world == 1:
            return
        if not self.spawned:
            self.store = meet(self.ranks)
        else:
            self.store = self._spawn()
        join(self.ranks, self.store, uses_gpu(self.hardware))

    def _spawn(self) -> Any:
        from torch.distributed import TCPStore

        check_spawn(self.hardware)
        n = self.ranks.world
        store = TCPStore("127.0.0.1", 0, n, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        gpu = uses_gpu(self.hardware)
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        threads = share_of_threads(n, self.hardware)
        if threads and "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(threads)
        for rank in range(1, n):
            # Its input stays open as long as we live, however we die. Ctrl+C in the terminal is for us alone.
            child = subprocess.Popen(
                [sys.executable, "-m", self.follower],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            assert child.stdin is not None
            child.stdin.write((json.dumps({"rank": rank, "world": n, "port": store.port, "gpu": gpu}) + "\n").encode())
            child.stdin.flush()
            self.children.append(child)
        threading.Thread(target=self._watch, daemon=True).start()
        return store

    @contextmanager
    def working(self, message: dict[str, Any], on_lost: Callable[[str], None]) -> Iterator[None]:
        """Have all make one run: the others are told by the message, this one by the block.

        on_lost: called with the reason where this process must be ended because it cannot be told otherwise. Raises RankLost.
        """
        self.start()
        if self.ranks.world == 1:
            yield
            return
        self.busy, self.on_lost = True, on_lost
        try:
            tell(message)
            with (
                working_as(self.ranks),
                self._threads(),
                stopped_by_signals() if not self.spawned else nullcontext(),
            ):
                yield
        except UserError:
            raise
        except Exception as error:
            reason = self._lost(REASON_SECONDS if isinstance(error, RuntimeError) else 0.0)
            if reason is None and was_left(error):
                reason = f"a process of the run is gone ({str(error).splitlines()[0][:100]}); look at the output of its launcher"
            if reason is None:
                raise
            raise RankLost(reason) from error
        self.busy = False

    @contextmanager
    def _threads(self) -> Iterator[None]:
        import torch

        threads, before = (
            share_of_threads(self.ranks.world, self.hardware) if self.spawned else 0,
            torch.get_num_threads(),
        )
        if threads and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _lost(self, seconds: float) -> str | None:
        """Why another process is gone, if one is; waits so long for the answer."""
        end = time.monotonic() + seconds
        while True:
            with suppress(Exception):  # the store itself may be gone, with the process that kept it
                if self.store.check([FAILED]):
                    return str(self.store.get(FAILED).decode())
            gone = self._gone()
            if gone is not None:
                return gone
            if time.monotonic() >= end:
                return None
            time.sleep(0.05)

    def _gone(self) -> str | None:
        ended = {rank: code for rank, child in enumerate(self.children, 1) if (code := child.poll()) is not None}
        if not ended:
            return None
        rank, code = min(ended.items(), key=lambda each: each[1])  # one that was killed rather than one that missed it
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"process {rank} of {self.ranks.world} {how}; the same command goes on from the last checkpoint"

    def _watch(self) -> None:
        """End this process if it waits for ever for one that is gone. gloo notices at once; a GPU's kernel may not."""
        while not self.closed and self._gone() is None:
            time.sleep(0.2)
        noticed = time.monotonic() + NOTICE_SECONDS
        while not self.closed and time.monotonic() < noticed:
            time.sleep(0.2)
        if self.closed:
            return
        reason = self._lost(0.0) or "a process of the run is gone"
        self.on_lost(reason)
        print(f"error: {clean_line(reason)}", file=sys.stderr, flush=True)
        os._exit(2)

    def close(self, failed: bool) -> None:
        """Dismiss the others: with a word if they wait for one, else by ending them or the connection."""
        self.closed = True
        if self.store is None:
            return
        import torch.distributed as dist

        if not self.busy:
            with suppress(RuntimeError):  # nobody is left to hear it
                tell({"stop": 2 if failed else 0})
        dist.destroy_process_group()
        for child in self.children:
            assert child.stdin is not None
            if self.busy:
                child.kill()
            child.stdin.close()
            child.wait()


_team: Team | None = None


@contextmanager
def team(hardware: HardwareConfig, follower: str) -> Iterator[Team]:
    """The processes for all runs of this block, one team even where blocks stand within each other."""
    global _team
    if _team is not None:
        yield _team
        return
    _team = Team(hardware, follower)
    failed = True
    try:
        if not _team.spawned:
            _team.start()  # they wait for us already
        yield _team
        failed = False
    finally:
        made, _team = _team, None
        made.close(failed)


@contextmanager
def together(
    hardware: HardwareConfig, follower: str, message: dict[str, Any], on_lost: Callable[[str], None]
) -> Iterator[None]:
    """Within: all processes of the hardware make the run of the message. Raises RankLost if one of the others fails."""
    with team(hardware, follower) as others, others.working(message, on_lost):
        yield


def tell(message: dict[str, Any] | None) -> dict[str, Any]:
    """The first process's message, for all."""
    import torch.distributed as dist

    box = [message]
    dist.broadcast_object_list(box, src=0)
    assert box[0] is not None
    return box[0]
