"""Impressions as a model meets them: rows with labels and fields, and by a pointer what their user had clicked before.

A row's history is a range of the positive log, which is a prepared data set of its own: ``offsets[user] : history_end``. It ends before the time of
the row; clicks at the same time are not in it. So nothing is copied or padded on disk, and no history can hold the row itself or anything later.

Shapes: N rows of a data set, B rows of a batch, F categorical fields, G numbers, M values of a field of several, T labels, L events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recbench.core.errors import UserError
from recbench.data.batches import Batch, Part, Windows, gather
from recbench.data.clicks.known_fields import Fields
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData

#: Rows that are asked about at once, and history positions of them.
BLOCK_ROWS, BLOCK_POSITIONS = 4096, 1 << 17
#: The arrays of a data set of impressions, one file each.
ARRAYS = ("user", "item", "label", "time", "history_end", "categories", "numbers")


@dataclass(slots=True)
class ClickBatch:
    """row [B]: numbers of the rows · user, item [B] int64 · label [B, T] float32 · categories [B, F] int64 · numbers [B, G] float32 ·
    several: [B, M] int64 a field · history: the user's clicks before each row, as a batch of histories."""

    row: Tensor
    user: Tensor
    item: Tensor
    label: Tensor
    categories: Tensor
    numbers: Tensor
    several: tuple[Tensor, ...]
    history: Batch
    weight: float = 1.0

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClickBatch:
        moved: dict[str, Any] = {
            part.name: value.to(device, non_blocking=non_blocking)
            for part in fields(self)
            if isinstance(value := getattr(self, part.name), Tensor | Batch)
        }
        return replace(self, **moved, several=tuple(part.to(device) for part in self.several))

    def __len__(self) -> int:
        return self.row.shape[0]


@dataclass(frozen=True)
class ClickData:
    """N impressions, memory-mapped, beside the log of their clicks.

    user int32 [N] · item int32 [N], 1..I in the log's numbers; the last stands for all items that training does not know · label int8 [N, T] ·
    time int64 [N], 0 without a clock · history_end int64 [N] · categories int32 [N, F] · numbers float32 [N, G] · several: int32 [N, M] a field.
    label_names: of the T labels, ``click`` the first.
    """

    log: PreparedData
    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    time: np.ndarray
    history_end: np.ndarray
    categories: np.ndarray
    numbers: np.ndarray
    several: tuple[np.ndarray, ...]
    fields: Fields
    label_names: tuple[str, ...]

    @classmethod
    def open(cls, log: PreparedData) -> ClickData:
        """The impressions that lie in the folder of a log. Raises UserError where they are damaged."""
        stored = log.manifest["extra"]["clicks"]
        folder = log.folder / "clicks"
        of_fields = Fields.of(stored["fields"])
        try:
            arrays = {name: _open(folder / f"{name}.npy") for name in ARRAYS}
            several = tuple(_open(folder / f"several-{i}.npy") for i in range(len(of_fields.several)))
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"the impressions in {folder} are damaged ({error}); delete {log.folder} and run again"
            ) from error
        return cls(log, **arrays, several=several, fields=of_fields, label_names=tuple(stored["labels"]))

    def __len__(self) -> int:
        return len(self.user)

    def batch(self, index: np.ndarray, max_length: int) -> ClickBatch:
        """The rows ``index`` [B] with the most recent ``max_length`` clicks before each; 0: without histories."""
        user = np.asarray(self.user[index], dtype=np.int64)
        end = np.asarray(self.history_end[index])
        length = np.minimum(end - self.log.offsets[user], max_length)
        return ClickBatch(
            row=torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64)),
            user=torch.from_numpy(user),
            item=torch.from_numpy(self.item[index].astype(np.int64)),
            label=torch.from_numpy(self.label[index].astype(np.float32)),
            categories=torch.from_numpy(self.categories[index].astype(np.int64)),
            numbers=torch.from_numpy(np.array(self.numbers[index])),
            several=tuple(torch.from_numpy(part[index].astype(np.int64)) for part in self.several),
            history=gather(self.log, user, end - length, length, with_targets=False),
        )

    def blocks(
        self, index: np.ndarray, max_length: int, rows: int | None = None
    ) -> Iterator[tuple[np.ndarray, ClickBatch]]:
        """(places in ``index``, batch) of all rows of it, block by block."""
        rows = rows or max(1, min(BLOCK_ROWS, BLOCK_POSITIONS // max(max_length, 1)))
        for first in range(0, len(index), rows):
            places = np.arange(first, min(first + rows, len(index)))
            yield places, self.batch(index[places], max_length)


def _open(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class ClickTraining(TrainingData):
    """The training part of impressions: the training clicks as ever, and beside them the rows [n] of ``clicks`` that are for training."""

    clicks: ClickData
    rows: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """[n] the first label of each row."""
        return np.asarray(self.clicks.label[self.rows, 0])

    @property
    def rate(self) -> float:
        """Share of training rows with a click."""
        return float(self.labels.mean())


class ClickDataset(Dataset[ClickBatch]):
    """Training rows; indexed by an array of numbers, or by a process's Part of a batch, it gives a whole ClickBatch."""

    def __init__(self, train: ClickTraining, max_length: int) -> None:
        self.train, self.max_length = train, max_length

    def __len__(self) -> int:
        return len(self.train.rows)

    def __getitem__(self, index: np.ndarray | Part) -> ClickBatch:
        if isinstance(index, Part):
            return replace(self[index.windows], weight=index.weight)
        return self.train.clicks.batch(self.train.rows[index], self.max_length)

    @property
    def windows(self) -> Windows:
        """One window a row, each of one target, so that rows are batched as windows are."""
        n = len(self)
        return Windows(np.zeros(n, np.int64), np.arange(n), np.ones(n, np.int64))
