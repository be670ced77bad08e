"""Batches gathered from flat memory-mapped arrays: no per-sample Python, no padding beyond the longest row of a batch.

Shapes: B rows of a batch, L the longest history in it (never the configured maximum), N all interactions, W training windows.

A training *window* is a run of up to ``max_length + 1`` consecutive training events of one user: its events but the last are inputs, its
events but the first are targets. A history longer than that is cut into several windows that share one event at each seam, so that
every event but a user's first is a target exactly once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from recbench.data.split import Cases
    from recbench.data.store import PreparedData


@dataclass(slots=True)
class Batch:
    """One batch, right-padded with id 0; real items start at 1.

    items [B, L] int64 · timestamps [B, L] int64 Unix seconds (0 at pads) · lengths [B] int64 · user [B] int64 ·
    targets [B, L] int64, the event after each position (0 where there is none; training only) ·
    behaviours [B, L] int64 (only where the data has them) ·
    windows [B] int64, number of each row's training window (training only): an address for the host, which never leaves it.
    next_timestamps [B, L] int64, the time of the event after each position; at the end of an evaluated history that is the target's time,
    which is not known when a recommendation is made: no model may read it unless a key of its config says so by name.
    target_weights [B, L] float32: how much each target counts, 0: not at all (only with ``training.selection``) ·
    next_behaviours [B, L] int64: of the targets (training only, where the data has them).
    starts [B] int64: place of each row's first event in the flat arrays of the data (training only).
    weight: of this batch's loss, where it is a process's part of a batch (``epoch_sampler``); 1 for a whole one.
    """

    items: Tensor
    timestamps: Tensor
    lengths: Tensor
    user: Tensor
    targets: Tensor | None = None
    behaviours: Tensor | None = None
    windows: Tensor | None = None
    next_timestamps: Tensor | None = None
    weight: float = 1.0
    target_weights: Tensor | None = None
    next_behaviours: Tensor | None = None
    starts: Tensor | None = None

    @property
    def trained(self) -> Tensor:
        """[B, L] bool, True where the target is trained on: at every real position, unless a selection leaves some out."""
        return self.mask if self.target_weights is None else self.mask & (self.target_weights > 0)

    def weights_of(self, chosen: Tensor) -> Tensor | None:
        """Weights of the targets at the chosen positions; None where all weigh the same, which costs nothing."""
        if self.target_weights is None:
            return None
        weights = self.target_weights[chosen]
        return None if not len(weights) or bool((weights == weights[0]).all()) else weights

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if field.name != "windows" and isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    @property
    def mask(self) -> Tensor:
        """[B, L] bool, True at real positions."""
        return torch.arange(self.items.shape[1], device=self.items.device) < self.lengths[:, None]

    def __len__(self) -> int:
        return self.items.shape[0]


def prefixes(batch: Batch) -> Batch:
    """One row a real position [N, L]: the history up to and with it, in the order of ``batch.mask``'s True entries.

    For models that score the end of a history only. Has no targets and no windows.
    """
    return prefixes_at(batch, *batch.mask.nonzero(as_tuple=True))


def prefixes_at(batch: Batch, row: Tensor, last: Tensor) -> Batch:
    """The histories of the rows ``row`` [N] up to and with the positions ``last`` [N]: [N, L]. Has no targets and no windows."""
    seen = torch.arange(batch.items.shape[1], device=row.device) <= last[:, None]
    return Batch(
        items=batch.items[row] * seen,
        timestamps=batch.timestamps[row] * seen,
        lengths=last + 1,
        user=batch.user[row],
        behaviours=None if batch.behaviours is None else batch.behaviours[row] * seen,
    )


def drawn_places(batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """(row [B n], position [B n]): of each row n real positions, drawn evenly and one by one."""
    row = torch.arange(len(batch), device=batch.items.device).repeat_interleave(n)
    return row, (torch.rand(len(row), device=row.device) * batch.lengths[row]).long()


def drawn_prefixes(batch: Batch, n: int) -> tuple[Batch, Tensor]:
    """Histories that end at n drawn positions of each training window [B n, L], and what follows them [B n]."""
    assert batch.targets is not None
    row, last = drawn_places(batch, n)
    return prefixes_at(batch, row, last), batch.targets[row, last]


def gather(data: PreparedData, user: np.ndarray, start: np.ndarray, length: np.ndarray, with_targets: bool) -> Batch:
    """Read the events ``start[b] : start[b] + length[b]`` of each row; with targets, the event after each of them as well."""
    width = int(length.max(initial=0))
    offset = np.arange(width)
    real = offset < length[:, None]
    position = np.where(real, start[:, None] + offset, 0)
    items = np.where(real, data.items[position], 0).astype(np.int64)
    times = np.where(real, data.timestamps[position], 0)
    batch = Batch(
        items=torch.from_numpy(items),
        timestamps=torch.from_numpy(times),
        lengths=torch.from_numpy(length.astype(np.int64)),
        user=torch.from_numpy(user.astype(np.int64)),
    )
    if with_targets:
        after = np.minimum(position + 1, len(data.items) - 1)
        batch.targets = torch.from_numpy(np.where(real, data.items[after], 0).astype(np.int64))
        batch.next_timestamps = torch.from_numpy(np.where(real, data.timestamps[after], 0))
    if data.behaviours is not None:
        batch.behaviours = torch.from_numpy(np.where(real, data.behaviours[position], 0).astype(np.int64))
        if with_targets:
            batch.next_behaviours = torch.from_numpy(np.where(real, data.behaviours[after], 0).astype(np.int64))
    return batch


@dataclass(frozen=True)
class Windows:
    """Training windows: user [W], start [W] (flat position of the first input), length [W] (inputs, equal to targets).

    kept [W], mass [W]: of a selection, how many of a window's targets are trained on, and the sum of their weights; None: all, each with 1.
    alike: whether each row counts the same in the loss, whatever its length: then all batches have the same number of rows, and no row has a mass.
    """

    user: np.ndarray
    start: np.ndarray
    length: np.ndarray
    kept: np.ndarray | None = None
    mass: np.ndarray | None = None
    alike: bool = False

    @property
    def n_targets(self) -> int:
        """Positions that have a target, trained on or not."""
        return int(self.length.sum())

    @property
    def counts(self) -> np.ndarray:
        """[W] targets that are trained on."""
        return self.length if self.kept is None else self.kept

    @property
    def weights(self) -> np.ndarray:
        """[W] what each row counts for in the loss of a batch."""
        if self.alike:
            return np.ones(len(self.length))
        return self.length if self.mass is None else self.mass


def training_windows(train_start: np.ndarray, train_end: np.ndarray, max_length: int) -> Windows:
    """Cut each user's training range into windows of at most ``max_length`` targets, aligned to the most recent event.

    train_start, train_end [U]: flat positions. Users with fewer than two training events give no window.
    """
    targets = np.maximum(train_end - train_start - 1, 0)
    pieces = -(-targets // max_length)
    user = np.repeat(np.arange(len(targets)), pieces)
    # The index of each piece within its user, counted from the most recent one.
    piece = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    end = train_end[user] - 1 - piece * max_length
    start = np.maximum(end - max_length, train_start[user])
    return Windows(user=user, start=start, length=end - start)


class Part(NamedTuple):
    """A process's part of a batch: numbers of windows, and the weight of its loss."""

    windows: np.ndarray
    weight: float


class WindowDataset(Dataset[Batch]):
    """Map-style dataset over windows; indexed by an array of window numbers, or by a Part, it returns a whole Batch.

    with_targets: False for rows that are no sequences (``recbench.data.training_rows``). target_weights [N], of each interaction as a target; None:
    all alike."""

    def __init__(
        self,
        data: PreparedData,
        windows: Windows,
        with_targets: bool = True,
        target_weights: np.ndarray | None = None,
    ) -> None:
        self.data, self.windows, self.with_targets = data, windows, with_targets
        self.target_weights = target_weights

    def __len__(self) -> int:
        return len(self.windows.user)

    def __getitem__(self, index: np.ndarray | Part) -> Batch:
        if isinstance(index, Part):
            return replace(self[index.windows], weight=index.weight)
        w = self.windows
        batch = gather(self.data, w.user[index], w.start[index], w.length[index], self.with_targets)
        batch.windows = torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64))
        batch.starts = torch.from_numpy(np.ascontiguousarray(w.start[index], dtype=np.int64))
        if self.target_weights is not None:
            after = w.start[index][:, None] + np.arange(1, batch.items.shape[1] + 1)
            weights = self.target_weights[np.minimum(after, len(self.target_weights) - 1)]
            batch.target_weights = torch.from_numpy(weights) * batch.mask
        return batch


def evaluation_batches(
    data: PreparedData, cases: Cases, max_length: int, rows: int, part: int = 0, parts: int = 1, *, alike: bool = False
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield (case numbers [B], Batch) in blocks of ``rows`` cases, sorted by history length so that little is padded.

    alike: a block ends early where histories become much longer than its first one. The most recent ``max_length`` events of each history are
    read. With several parts, part p gets the blocks p, p + parts, ... of the same list, so that the union over parts is exactly the list of a
    single part.
    """
    length = np.minimum(cases.end - cases.start, max_length)
    order = np.argsort(length, kind="stable")
    blocks = like_lengths(length[order], rows) if alike else [(i, i + rows) for i in range(0, len(order), rows)]
    for first, end in blocks[part::parts]:
        chosen = order[first:end]
        kept = length[chosen]
        batch = gather(data, cases.user[chosen], cases.end[chosen] - kept, kept, with_targets=False)
        batch.next_timestamps = _next_timestamps(data, cases, chosen, batch)
        yield chosen, batch


def like_lengths(length: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """(first, end) of blocks of ascending lengths [C]: at most ``rows`` each, and the longest at most half longer than the shortest, and 4 more.

    >>> like_lengths(np.array([1, 2, 5, 6, 6, 50]), rows=3)
    [(0, 3), (3, 5), (5, 6)]
    """
    blocks, first = [], 0
    while first < len(length):
        like = int(np.searchsorted(length, 1.5 * length[first] + 4, side="right"))
        blocks.append((first, min(first + rows, like)))
        first = blocks[-1][1]
    return blocks


def _next_timestamps(data: PreparedData, cases: Cases, chosen: np.ndarray, batch: Batch) -> Tensor:
    """[B, L]: the time of the event after each position; after the last one that of the case's first target, or its own without targets."""
    after = cases.end[chosen] - 1
    asked = cases.n_targets[chosen] > 0
    after[asked] = cases.target_positions[cases.target_offsets[chosen[asked]]]
    times = torch.nn.functional.pad(batch.timestamps[:, 1:], (0, 1))
    row = torch.nonzero(batch.lengths)[:, 0]
    times[row, batch.lengths[row] - 1] = torch.from_numpy(np.asarray(data.timestamps[after], dtype=np.int64))[row]
    return times
