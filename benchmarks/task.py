"""The work that every system is given, and the JSON lines in which each answers.

A system is a program that takes ``--data FOLDER`` and the keys of its task, and prints one JSON object a line on
standard output, each with an ``event``:

    machine     versions, processor, threads, allocator
    data        n_users, n_items, training_targets, validation_cases, test_cases, test_digest (see data.py);
                targets_left_out: events that it cannot train on, where it cuts long histories; unknown_items: that it cannot rank
    ready       the next thing is the first training step
    epoch       epoch (from 1), steps, steps_of_epoch, seconds (of the steps made), epoch_seconds, extrapolated, loss;
                left_out: seconds since the last line that nobody spends who is not benchmarking
    evaluation  epoch, split ("validation" | "test"), seconds, cases, ndcg@10, hr@10
    end         peak_rss_bytes

Standard error is free text. Nothing here imports more than the standard library: it runs in every rival's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_type_hints


@dataclass(frozen=True)
class SASRecTask:
    """SASRec with a softmax over the whole catalogue, under leave-one-out, ranked against the whole catalogue.

    max_steps: stop each epoch after so many steps (0 = whole epochs); its time is then extrapolated and its metrics
    mean nothing. batch_targets: predicted events a step; 0 = what the framework itself takes by default.
    threads: of the processor. seen: items of the history are ranked ("keep") or not ("mask").
    reach: stop once NDCG@10 of the split ``reach_split`` has got there (0 = train all epochs). give_up: stop after the epoch in which
    so many seconds since the first step have passed (0 = never).
    """

    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    feedforward_size: int = 256
    dropout: float = 0.5
    max_length: int = 50
    batch_targets: int = 2048
    learning_rate: float = 1e-3
    epochs: int = 1
    max_steps: int = 0
    seen: str = "keep"
    seed: int = 1
    threads: int = 2
    reach: float = 0.0
    reach_split: str = "validation"
    give_up: float = 0.0

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser, but: frozenset[str] = frozenset()) -> None:
        """One option a field, ``--batch-targets`` for ``batch_targets``, less the fields in ``but``."""
        types = get_type_hints(cls)
        choices = {"seen": ("keep", "mask"), "reach_split": ("validation", "test")}
        for field in fields(cls):
            if field.name not in but:
                option = "--" + field.name.replace("_", "-")
                parser.add_argument(
                    option, type=types[field.name], default=field.default, choices=choices.get(field.name)
                )

    @classmethod
    def of(cls, arguments: argparse.Namespace, **changes: Any) -> SASRecTask:
        """The task that parsed arguments ask for, with some fields changed."""
        given = {field.name: getattr(arguments, field.name, field.default) for field in fields(cls)}
        return cls(**{**given, **changes})

    def as_arguments(self) -> list[str]:
        """The options that make a system do this task."""
        return [word for f in fields(self) for word in ("--" + f.name.replace("_", "-"), str(getattr(self, f.name)))]


def emit(event: str, **values: Any) -> None:
    """Print one JSON line at once."""
    print(json.dumps({"event": event, **values}), flush=True)


def emit_machine(packages: list[str], threads: int) -> None:
    """The ``machine`` line; packages that are not installed are left out."""
    emit(
        "machine",
        python=platform.python_version(),
        versions={name: found for name in packages if (found := _version(name))},
        processor=processor(),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        allocator=allocator(),
    )


def emit_end() -> None:
    """The ``end`` line, with the peak resident memory of this process."""
    emit("end", peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def processor() -> str:
    """The processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def allocator() -> str:
    """Which allocator is mapped into this process: "tcmalloc", "jemalloc", or "libc"."""
    maps = Path("/proc/self/maps")
    mapped = maps.read_text() if maps.exists() else ""
    return next((name for name in ("tcmalloc", "jemalloc") if f"lib{name}" in mapped), "libc")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
