"""Synthetic run folders: what a finished run leaves, without any training."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from recbench.evaluation.metrics import ranking_metrics

FULL = "leave_one_out-full-mask-v1"
#: What every config holds; models of the tests need not be registered.
CONFIG: dict[str, Any] = {
    "seed": 1,
    "model": {"name": "sasrec", "hidden_size": 64},
    "data": {"name": "synthetic"},
    "protocol": {"name": "leave_one_out", "seen_items": "auto"},
    "distillation": {"name": "none"},
    "compression": {"name": "none"},
    "training": {"max_epochs": 10, "lr": 0.001},
    "evaluation": {"cutoffs": [1, 5, 10, 20]},
    "hardware": {"name": "auto", "threads": 0},
    "tracking": {"name": "off", "enabled": False},
    "runs_dir": "runs",
}
AUDIT = {
    "training_events": 900, "test_targets": 200, "users_without_case": 0, "cold_targets": 0.01, "repeated_targets": 0.0,
    "leaked_targets": 0.9, "later_training": 0.2, "tied_targets": 0.1, "tied_events": 0.1,
}  # fmt: skip


class Folders:
    """A folder of runs; ``add`` writes one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        key: str,
        skill: float = 0.3,
        seed: int = 1,
        protocol: str = FULL,
        data: str = "f" * 32,
        split: str = "5" * 32,
        n_users: int = 200,
        n_epochs: int = 4,
        ranks: bool = True,
        config: dict[str, Any] | None = None,
        **metrics: Any,
    ) -> Path:
        """A finished run whose targets are at a rank drawn so that more skill is better; config: groups to change."""
        made = copy.deepcopy(CONFIG) | {"seed": seed}
        for group, values in (config or {}).items():
            made[group] = {**made[group], **values} if isinstance(values, dict) else values
        generator = np.random.default_rng(seed)  # the same users are easy for every model
        ease, own = generator.random(n_users), np.random.default_rng(zlib.crc32(key.encode())).random(n_users)
        rank = np.ceil(100 * (0.7 * ease + 0.3 * own) ** (1 + 6 * skill)).clip(1)
        case = np.arange(n_users)
        folder = self.path / key
        folder.mkdir()
        if ranks:
            pl.DataFrame(
                {
                    "case": case, "user": case, "target": (1 + case % 50).astype(np.int32), "rank": rank, "n_equal": np.ones(n_users, np.int64),
                    "truncated": np.zeros(n_users, bool), "history_length": 3 + case % 17,
                }
            ).write_parquet(folder / "ranks.parquet")  # fmt: skip
        measured = ranking_metrics(rank, case, np.ones(n_users, np.int64), 100, [1, 5, 10, 20])
        figures = {f"test/{name}": value for name, value in measured.items()} | {"test/coverage@10": 0.5}
        cost = {
            "parameters_total": int(1e5 * (1 + skill)),
            "train_seconds": 10 * (1 + skill),
            "latency_p50_ms": 1.0 + skill,
        }
        costs = {f"cost/{name}": value for name, value in cost.items()}
        more = {"protocol": protocol, "audit": AUDIT, "oracle": {}, "dependencies": {}}
        _json(folder / "metrics.json", {**figures, **costs, **more, **metrics})
        _json(folder / "status.json", {"state": "finished", "started": 1.7e9, "updated": 1.7e9 + 60})
        _json(
            folder / "provenance.json",
            {
                "commit": "c0ffee" * 6, "dirty": False, "seed": seed, "data_fingerprint": data, "split_hash": split, "versions": {"torch": "2.13.0"},
                "python": "3.12.1", "processor": "test x2", "gpu": [], "threads": 1,
            },
        )  # fmt: skip
        (folder / "config.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
        epochs = [
            {"epoch": i, "validation/ndcg@10": measured["ndcg@10"] * (i + 1) / n_epochs, "seconds/train": 2.0}
            for i in range(n_epochs)
        ]
        (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
        return folder

    def broken(self, key: str, state: str, reason: str = "", model: str = "sasrec") -> Path:
        """A run without a result."""
        folder = self.path / key
        folder.mkdir()
        _json(folder / "status.json", {"state": state, "updated": 1.7e9, **({"reason": reason} if reason else {})})
        (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "model": {"name": model}}))
        return folder


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "runs")


@pytest.fixture
def make_folders() -> Callable[[Path], Folders]:
    return Folders
