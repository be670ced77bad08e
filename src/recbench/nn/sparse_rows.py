"""Sparse item-to-item matrices in tensors: the compressed rows that the closed-form models keep in their buffers.

Shapes: V = n_items + 1 rows and columns (row 0 is the pad and stays empty), E stored entries, B histories, L positions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy import sparse

#: Entries that are expanded at once; each takes about 50 bytes while it is added.
ENTRIES_AT_ONCE = 4_000_000


def from_scipy(matrix: sparse.csr_array) -> tuple[Tensor, Tensor, Tensor]:
    """(row_start [V + 1] int64, column [E] int32, weight [E] float32) of a square matrix indexed by item id."""
    return (
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        torch.from_numpy(matrix.data.astype(np.float32)),
    )


def add_rows(out: Tensor, rows: Tensor, factor: Tensor, row_start: Tensor, column: Tensor, weight: Tensor) -> Tensor:
    """out[b] += sum over l of factor[b, l] * matrix[rows[b, l]], in place; returns out.

    out [B, V] float, contiguous · rows [B, L] item ids, 0 for pads · factor [B, L].
    """
    flat, factor = rows.reshape(-1), factor.reshape(-1)
    length = row_start[flat + 1] - row_start[flat]
    # Cut the flat list of rows where another ENTRIES_AT_ONCE entries are full.
    piece = torch.div(length.cumsum(0), ENTRIES_AT_ONCE, rounding_mode="floor")
    bounds = [0, *(torch.nonzero(piece.diff())[:, 0] + 1).tolist(), len(flat)]
    for start, end in pairwise(bounds):
        # Entry e of the expanded list belongs to place[e] of the flat list of rows, and is its within[e]-th.
        place = torch.repeat_interleave(torch.arange(start, end, device=rows.device), length[start:end])
        first_entry = length[start:end].cumsum(0) - length[start:end]
        within = torch.arange(len(place), device=rows.device) - first_entry[place - start]
        entry = row_start[flat[place]] + within
        case = torch.div(place, rows.shape[1], rounding_mode="floor")
        out.view(-1).index_add_(0, case * out.shape[1] + column[entry], weight[entry] * factor[place])
    return out


def last_items(values: Tensor, lengths: Tensor) -> Tensor:
    """[B, 1] the most recent value of each right-padded history [B, L]; 0 where the history is empty."""
    if values.shape[1] == 0:
        return values.new_zeros(len(values), 1)
    last = values.gather(1, (lengths - 1).clamp(min=0)[:, None])
    return torch.where(lengths[:, None] > 0, last, 0)


def keep_largest(matrix: sparse.csr_array, k: int) -> sparse.csr_array:
    """The k largest entries of each row; among equals the lower column, so that the result does not depend on storage order."""
    from scipy import sparse

    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row))
    # Sorting by row first leaves every row where it was, so indptr still bounds it.
    keep = order[np.arange(len(row)) - matrix.indptr[row] < k]
    shape = (matrix.shape[0], matrix.shape[1])
    return sparse.csr_array((matrix.data[keep], (row[keep], matrix.indices[keep])), shape=shape)
