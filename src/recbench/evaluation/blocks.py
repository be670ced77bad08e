"""The blocks in which cases are ranked: their list depends on data and config alone.

Several processes take the blocks in turn, so what they find together is exactly what one process finds. Shapes: B rows of a block, t targets of it,
W = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch, evaluation_batches
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.ranking import Seen

#: Bounds of a block: scores (float32, 32 MiB) and history positions that a model sees at once.
BLOCK_SCORES = 1 << 23
BLOCK_POSITIONS = 1 << 16
#: Of a catalogue of which the first bound holds fewer rows than this, so many rows, as long as their scores keep to another bound (128 MiB):
#: every block reads the whole item table, and a product with few rows does little else.
WIDE_ROWS, WIDE_BLOCK_SCORES = 32, 1 << 25


def block_rows(n_items: int, max_length: int) -> int:
    """Cases a block: as many as both bounds allow, at least one. Independent of device and number of processes."""
    width = n_items + 1
    rows = max(BLOCK_SCORES // width, min(WIDE_ROWS, WIDE_BLOCK_SCORES // width))
    return max(1, min(rows, BLOCK_POSITIONS // max(max_length, 1)))


def is_wide(n_items: int) -> bool:
    """Whether a block of so many items is bounded by WIDE_ROWS."""
    return BLOCK_SCORES // (n_items + 1) < WIDE_ROWS


@dataclass(frozen=True)
class Block:
    """One batch and what is asked about it. row, target [t] int64: targets of the block; index [t]: their places in
    ``cases.targets``."""

    case: np.ndarray
    user: np.ndarray
    index: np.ndarray
    batch: Batch
    row: Tensor
    target: Tensor
    seen: Seen
    candidates: Tensor | None


def blocks_of(
    data: PreparedData,
    cases: Cases,
    split: Split,
    max_length: int,
    device: torch.device | str,
    part: int,
    parts: int,
    rows: int | None,
) -> Iterator[Block]:
    asked = np.flatnonzero(cases.n_targets > 0)
    wanted = cases if len(asked) == len(cases) else cases.select(asked)
    rows = rows or block_rows(data.n_items, max_length)
    for chosen, batch in evaluation_batches(data, wanted, max_length, rows, part, parts, alike=True):
        case = asked[chosen]
        row, index = cases.targets_of(case)
        # The complete history, not the part of it that the model was shown.
        masked = split.seen_items == "mask"
        seen = (
            Seen.of_histories(data.items, cases.start[case], cases.end[case], device)
            if masked
            else Seen.nothing(device)
        )
        candidates = None if cases.candidates is None else np.asarray(cases.candidates[case], dtype=np.int64)
        yield Block(
            case=case,
            user=cases.user[case],
            index=index,
            batch=batch.to(device),
            row=torch.from_numpy(row).to(device),
            target=torch.from_numpy(cases.targets[index].astype(np.int64)).to(device),
            seen=seen,
            candidates=None if candidates is None else torch.from_numpy(candidates).to(device),
        )
