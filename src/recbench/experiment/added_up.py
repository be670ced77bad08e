"""What a run cost together with the runs it needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.config.run import RunConfig
from recbench.experiment.context import Run
from recbench.experiment.warm_start import source_folder, source_run

#: What a run cost that is added up over the runs that it needed.
ADDED_UP = ("wall_seconds", "train_seconds", "train_cpu_seconds", "train_gpu_seconds", "energy_joules")


def with_dependencies(own: Mapping[str, Any], needed: Mapping[str, Run]) -> dict[str, float]:
    """``cost/train_seconds_with_dependencies`` and the like: of this run and all it stands on, each counted once, whoever made it and when.

    own: the run's figures. A figure that one of them lacks (an older recbench made it, or it was made elsewhere) is left out for all.
    """
    standing_on: dict[str, Run] = {}
    waiting = list(needed.values())
    while waiting:
        part = waiting.pop()
        if part.folder.key not in standing_on:
            standing_on[part.folder.key] = part
            waiting += part.dependencies.values()
    everything = [own, *(part.metrics for part in standing_on.values())]
    return {
        f"cost/{name}_with_dependencies": sum(metrics[f"cost/{name}"] for metrics in everything)
        for name in ADDED_UP
        if all(f"cost/{name}" in metrics for metrics in everything)
    }


def started_from(config: RunConfig) -> dict[str, Run]:
    """The run of ``training.init_from`` by that name; empty without one. It is none of ours to make, and lies wherever it was made."""
    folder = None if config.compression.name != "none" else source_folder(config)
    return {} if folder is None else {"init_from": source_run(folder)}


def beside(parts: Mapping[str, Run], config: RunConfig) -> dict[str, Run]:
    """Those that lie in ``runs_dir``, where others look for a run by its key alone."""
    return {
        name: part for name, part in parts.items() if part.folder.path.resolve().parent == config.runs_dir.resolve()
    }
