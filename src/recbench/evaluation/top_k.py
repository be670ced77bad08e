"""The k best items of each row, exactly and with a stated order of ties.

Equal scores are ordered by a fixed hash of (user, item): the list does not depend on batch, device or torch's whim, and
over users no item is favoured (the lowest id first would favour items that were seen early, and make a constant model
look like one that recommends k items to everybody). Ranks and metrics do not use this order; see ``ranking``.

Shapes: R rows, W = n_items + 1 columns, P columns padded to whole groups, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.evaluation.ranking import Seen

#: Values looked through at once. Keys that order ties are int64 and need a few copies: 80 MiB at the most.
TILE = 1 << 21

#: Columns are looked through in groups of this many: a group can only hold one of the k best if its maximum is one of
#: the k best maxima, so k groups are enough. On Beauty that takes a third of the time of torch.topk over whole rows.
GROUP = 32


def top_k_lists(scores: Tensor, k: int, user: Tensor, seen: Seen) -> Tensor:
    """[R, min(k, n_items)] int32 item ids, best first; the pad, seen items and items scored -inf are never listed.

    scores [R, W] float32, not written to; user [R] int64. A row with fewer items to list is filled with 0 at the end.
    """
    n_rows, width = scores.shape
    k = min(k, width - 1)
    groups = -(-width // GROUP)
    rows = max(1, TILE // (groups * GROUP))
    buffer = scores.new_full((min(rows, n_rows), groups * GROUP), -torch.inf)
    first_seen = torch.searchsorted(seen.row, torch.arange(0, n_rows + rows, rows, device=scores.device)).tolist()
    lists = torch.zeros((n_rows, k), dtype=torch.int32, device=scores.device)
    for number, top in enumerate(range(0, n_rows, rows)):
        count = min(rows, n_rows - top)
        part = buffer[:count]
        part[:, :width] = scores[top : top + count]
        part[:, 0] = -torch.inf
        here = slice(first_seen[number], first_seen[number + 1])
        part[seen.row[here] - top, seen.item[here]] = -torch.inf
        lists[top : top + count] = _best_of_tile(part, k, user[top : top + count])
    return lists


def _best_of_tile(scores: Tensor, k: int, user: Tensor) -> Tensor:
    """[R, k] for masked scores [R, P]."""
    # One place more than asked for, to see a tie that the end of the list would cut.
    values, index = _largest(scores, k + 1)
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any(dim=1).nonzero()[:, 0]
    values, index = values[:, :k], index[:, :k]
    if len(tied):
        index = index.clone()
        index[tied] = _largest(_keys(scores[tied], user[tied]), k)[1]
    return torch.where(values > -torch.inf, index, 0).int()


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """torch.topk along the rows of [R, P] (values, index), P a multiple of GROUP, by way of the maxima of the
    groups."""
    n_rows, width = values.shape
    n_groups = width // GROUP
    if k >= n_groups:
        best = values.topk(min(k, width), dim=1)
        return best.values, best.indices
    # Group g holds the columns g, g + G, g + 2G ...: then the maximum over the middle axis reads memory in order.
    group = values.view(n_rows, GROUP, n_groups).amax(dim=1).topk(k, dim=1, sorted=False).indices
    column = (torch.arange(GROUP, device=values.device)[:, None] * n_groups + group[:, None, :]).flatten(1)
    best = values.gather(1, column).topk(k, dim=1)
    return best.values, column.gather(1, best.indices)


def _keys(scores: Tensor, user: Tensor) -> Tensor:
    """[R, P] int64 that sort like (score, hash of user and item)."""
    # Adding zero turns -0.0 into 0.0, which is equal to it but has other bits.
    bits = (scores + 0.0).view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    item = _mix(torch.arange(scores.shape[1], device=scores.device))
    noise = (item ^ _mix(user + 1)[:, None]) * -0x61C8864680B583EB
    return (ordered << 32) | ((noise >> 32) & 0xFFFFFFFF)


def _mix(number: Tensor) -> Tensor:
    """Scatter int64 numbers over all 64 bits (two rounds of multiply and shift; overflow wraps)."""
    for constant in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
        number = number * constant
        number = number ^ ((number >> 31) & 0x1FFFFFFFF)
    return number
