"""The same leave-one-out data for every system, and digests that prove it was the same.

Source: a folder with ``items.npy`` [N] (item ids from 1), ``offsets.npy`` [U + 1] and ``timestamps.npy`` [N], events
of user u at ``offsets[u] : offsets[u + 1]`` in time order; a data set prepared by recbench is such a folder.

    python -m benchmarks.data reviews_Beauty_5.json.gz FOLDER     # makes one of an Amazon review file, without recbench

The test target of a user is the last event, the validation target the one before; every other event but the first is a
training target, predicted from the at most ``max_length`` events before it. This file needs numpy only: it also runs
in the rivals' environments.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Fewer, and RecBole's leave-one-out gives a user without a training row no validation row either.
MIN_EVENTS = 4


@dataclass(frozen=True)
class Sequences:
    """items [N] int64, ids from 1; offsets [U + 1] int64; timestamps [N] int64, seconds."""

    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Sequences:
        """Read a prepared folder. Raises ValueError when a user has under MIN_EVENTS events."""
        arrays = [np.load(folder / f"{name}.npy").astype(np.int64) for name in ("items", "offsets", "timestamps")]
        sequences = cls(*arrays)
        shortest = int(np.diff(sequences.offsets).min())
        if shortest < MIN_EVENTS:
            raise ValueError(
                f"a user has {shortest} events; rivals split users of under {MIN_EVENTS} differently: use 5-core data"
            )
        return sequences

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("items", "offsets", "timestamps"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def counts(self) -> dict[str, int]:
        """What a system must report as its data before its figures are compared."""
        return {
            "n_users": self.n_users,
            "n_items": len(np.unique(self.items)),
            "training_targets": int(self.offsets[-1]) - 3 * self.n_users,
            "validation_cases": self.n_users,
            "test_cases": self.n_users,
        }

    def target_positions(self, split: str) -> np.ndarray:
        """[C] flat positions of the targets of "training", "validation" or "test"."""
        last = self.offsets[1:] - 1
        if split != "training":
            return last if split == "test" else last - 1
        kept = np.ones(len(self.items), dtype=bool)
        for gone in (self.offsets[:-1], last, last - 1):
            kept[gone] = False
        return np.flatnonzero(kept)

    def histories(self, positions: np.ndarray, max_length: int) -> np.ndarray:
        """[C, max_length]: column j holds the item j + 1 events before each target, 0 where there is none."""
        first = self.offsets[np.searchsorted(self.offsets, positions, side="right") - 1]
        source = positions[:, None] - 1 - np.arange(max_length)
        return np.where(source >= first[:, None], self.items[np.maximum(source, 0)], 0)

    def digest(self, split: str, max_length: int) -> str:
        """The digest of a split's (history, target) pairs."""
        positions = self.target_positions(split)
        return digest(self.histories(positions, max_length), self.items[positions])


def digest(histories: np.ndarray, targets: np.ndarray) -> str:
    """16 hex digits for a set of (history, target) pairs, whatever their order: equal sets give equal digests.

    histories [C, L] item ids, latest first, 0 = none; targets [C]. A polynomial hash of each row, mixed, and summed
    modulo 2^64.
    """
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        row = targets.astype(np.uint64)
        for column in histories.T:
            row = row * multiplier + column.astype(np.uint64)
        row = (row ^ (row >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        return f"{int((row ^ (row >> np.uint64(32))).sum(dtype=np.uint64)):016x}"


def write_recbole(sequences: Sequences, folder: Path, name: str) -> Path:
    """Write ``folder/name/name.inter``, RecBole's atomic file, and return ``folder``.

    Its timestamp column counts the events of a user from 1: RecBole sorts by it, and ties would let that sort choose
    another order.
    """
    length = np.diff(sequences.offsets)
    user = np.repeat(np.arange(sequences.n_users), length)
    position = np.arange(len(user)) - sequences.offsets[user] + 1
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.stack([user, sequences.items, position], axis=1)
    np.savetxt(
        path, table, fmt="%d", delimiter="\t", header="user_id:token\titem_id:token\ttimestamp:float", comments=""
    )
    return folder


def read_reviews(path: Path) -> Sequences:
    """Sequences of an Amazon review file (lines with reviewerID, asin, unixReviewTime), in a stable sort by time."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            review = json.loads(line)
            user, item = review["reviewerID"], review["asin"]
            rows.append(
                (
                    users.setdefault(user, len(users)),
                    items.setdefault(item, len(items) + 1),
                    int(review["unixReviewTime"]),
                )
            )
    table = np.array(rows, dtype=np.int64)
    table = table[np.lexsort((table[:, 2], table[:, 0]))]  # lexsort is stable
    offsets = np.concatenate([[0], np.cumsum(np.bincount(table[:, 0], minlength=len(users)))])
    return Sequences(table[:, 1], offsets, table[:, 2])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data", description="Make a data folder from an Amazon review file."
    )
    parser.add_argument("reviews", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    sequences = read_reviews(arguments.reviews)
    sequences.save(arguments.folder)
    print(json.dumps(sequences.counts()))


if __name__ == "__main__":
    main()
