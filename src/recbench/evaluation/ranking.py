"""The ranking kernel: where a target stands among the ranked items, for any model's scores.

    rank = 1 + #greater + (#equal - 1) / 2        (#equal counts the target itself)

which is the expected rank when ties are broken at random: a constant model scores at chance, whatever column the target
is in.

What is ranked: the whole catalogue, or in a sampled protocol the target and its candidates. Column 0, the pad, never
is. Where seen items are masked, every item of the complete history counts as -inf, also a target that stands in its own
history: masked items share the last places. Other targets of the same case are competitors like any item. A model may
score -inf ("never"); such items rank last too and tie with each other. NaN and +inf are not scores: they raise
ScoreError. Everything is compared in float32.

Shapes: B rows of a block, W = n_items + 1 columns, T targets, S distinct (row, seen item) pairs, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.data.cases import flat_ranges

#: Values compared at once (16 MiB beside the scores). Smaller tiles stay in cache, but each is four parallel loops
#: whose ends are waited for, which is what costs on a busy machine; larger ones are given back to the kernel after
#: every use. Sums of ones in float32 are exact up to 2**24, no further.
TILE = 1 << 22


class ScoreError(RuntimeError):
    """A model gave a score that cannot be ranked (NaN or +inf), or scores of the wrong shape."""


@dataclass(frozen=True)
class Seen:
    """Items that may not be ranked: ``row[s]`` has seen ``item[s]``; pairs are distinct. row, item [S] int64."""

    row: Tensor
    item: Tensor

    @classmethod
    def of_histories(
        cls, items: np.ndarray, start: np.ndarray, end: np.ndarray, device: torch.device | str = "cpu"
    ) -> Seen:
        """Row r has seen every item at the flat positions ``start[r]:end[r]`` of ``items``."""
        row, position = flat_ranges(start, end)
        item = np.asarray(items[position], dtype=np.int64)
        width = int(item.max(initial=0)) + 1
        row, item = np.divmod(np.unique(row * width + item), width)
        return cls(torch.from_numpy(row).to(device), torch.from_numpy(item).to(device))

    @classmethod
    def nothing(cls, device: torch.device | str = "cpu") -> Seen:
        empty = torch.empty(0, dtype=torch.int64, device=device)
        return cls(empty, empty)


def check_scores(scores: Tensor, user: np.ndarray, n_items: int) -> Tensor:
    """The scores as float32 [B, W]. Raises ScoreError that names the user (raw index), the item and the value if one is
    NaN or +inf."""
    if scores.shape != (len(user), n_items + 1):
        raise ScoreError(
            f"scores have shape {tuple(scores.shape)}, but {len(user)} users x {n_items + 1} columns were asked for"
        )
    scores = scores.float()
    # The maximum of a row is NaN if anything in it is, so one pass finds both kinds of bad value.
    suspicious = (~(scores.amax(dim=1) < torch.inf)).nonzero()[:, 0]
    if len(suspicious):
        ranked = scores[suspicious, 1:]
        bad = (ranked.isnan() | (ranked == torch.inf)).nonzero()
        if len(bad):  # otherwise only the pad column was bad, and nobody ranks that
            row, column = int(bad[0, 0]), int(bad[0, 1])
            concerned = len(bad[:, 0].unique())
            raise ScoreError(
                f"the score of user {int(user[int(suspicious[row])])} for item {column + 1} is "
                f"{float(ranked[row, column])}; {concerned} of {len(user)} users of this block are concerned"
            )
    return scores


def check_lists(items: Tensor, scores: Tensor, n_rows: int, n_items: int) -> tuple[Tensor, Tensor]:
    """Lists [B, k] as int64 and their scores [B, k] as float32. Raises ScoreError if they are not one a row, an id lies outside 0..n_items, a
    score is NaN or +inf, or scores rise along a list."""
    if items.ndim != 2 or len(items) != n_rows or scores.shape != items.shape:
        raise ScoreError(
            f"lists have shape {tuple(items.shape)} and scores {tuple(scores.shape)}, but one list for each of {n_rows} users was "
            "asked for, with a score for each place"
        )
    if items.numel() and not 0 <= int(items.min()) <= int(items.max()) <= n_items:
        raise ScoreError(
            f"lists hold ids from {int(items.min())} to {int(items.max())}; valid are 0 (no item) to {n_items}"
        )
    scores = scores.float()
    if not bool((scores < torch.inf).all()):
        raise ScoreError("a list holds a score that is NaN or +inf")
    if not bool((scores[:, 1:] <= scores[:, :-1]).all()):
        raise ScoreError("the scores of a list rise; lists must be best first")
    return items.long(), scores


def rank_targets(
    scores: Tensor, row: Tensor, item: Tensor, seen: Seen, candidates: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(rank [T] float64, n_equal [T] int64: the tie that the target is in, itself included).

    scores [B, W] float32 as ``check_scores`` gives them; they are not written to. row, item [T] int64: target t is
    ``item[t]`` in row ``row[t]``. candidates [B, K] int64: rank among these instead of the catalogue.
    """
    own = scores[row, item]
    width = scores.shape[1]
    hidden = torch.isin(row * width + item, seen.row * width + seen.item)
    threshold = torch.where(hidden, -torch.inf, own)
    if candidates is not None:
        rivals = scores[row[:, None], candidates[row]]
        greater = (rivals > threshold[:, None]).sum(dim=1)
        equal = (rivals == threshold[:, None]).sum(dim=1) + 1
    else:
        greater, equal = _count_catalogue(scores, row, threshold, seen)
    return 1 + greater.double() + (equal.double() - 1) / 2, equal


def _count_catalogue(scores: Tensor, row: Tensor, threshold: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """(#greater, #equal) [T] int64 over all unmasked items. Masked items are not overwritten but counted and taken off
    again."""
    greater, at_least = torch.empty_like(row), torch.empty_like(row)
    seen_scores = scores[seen.row, seen.item]
    for chosen in _one_target_a_row(row):
        rows, limit = row[chosen], threshold[chosen]
        block = scores if len(rows) == len(scores) else scores[rows]
        block_greater, block_at_least = count_above(block, limit)
        # NaN compares false with everything, so rows without a target in this round count nothing.
        limit_of_row = scores.new_full((len(scores),), torch.nan).index_copy_(0, rows, limit)[seen.row]
        for total, counted, off in (
            (greater, block_greater, seen_scores > limit_of_row),
            (at_least, block_at_least, seen_scores >= limit_of_row),
        ):
            masked = torch.zeros(len(scores), dtype=torch.int64, device=row.device).index_add_(0, seen.row, off.long())
            total[chosen] = counted - masked[rows]
    pad = scores[row, 0]
    greater -= (pad > threshold).long()
    at_least -= (pad >= threshold).long()
    n_seen = torch.bincount(seen.row, minlength=len(scores))
    return greater, at_least - greater + torch.where(threshold == -torch.inf, n_seen[row], 0)


def _one_target_a_row(row: Tensor) -> list[Tensor]:
    """Partition of the target indices, so that no part has two targets of one row. row [T] must ascend."""
    _, count = torch.unique_consecutive(row, return_counts=True)
    ordinal = torch.arange(len(row), device=row.device) - torch.repeat_interleave(count.cumsum(0) - count, count)
    return [(ordinal == number).nonzero()[:, 0] for number in range(int(count.max()) if len(count) else 0)]


def count_above(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """(#scores > threshold, #scores >= threshold) of each row, [B] int64. scores [B, W], threshold [B], both float32.

    Comparisons write ones and zeros as float32 into a buffer and sum that: on Beauty (22,363 x 12,102, two
    cores) 0.1 s, where summing booleans, which torch does not vectorise, takes 1.2 s.
    """
    n_rows, width = scores.shape
    columns = min(width, TILE)
    rows = TILE // columns
    buffer = scores.new_empty((min(rows, n_rows), columns))
    greater = torch.zeros(n_rows, dtype=torch.int64, device=scores.device)
    at_least = torch.zeros_like(greater)
    for top in range(0, n_rows, rows):
        limit = threshold[top : top + rows, None]
        for left in range(0, width, columns):
            part = scores[top : top + rows, left : left + columns]
            ones = buffer[: part.shape[0], : part.shape[1]]
            greater[top : top + rows] += torch.gt(part, limit, out=ones).sum(dim=1).long()
            at_least[top : top + rows] += torch.ge(part, limit, out=ones).sum(dim=1).long()
    return greater, at_least


def rank_from_lists(items: Tensor, scores: Tensor, row: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(rank [T] float64, n_equal [T] int64, truncated [T] bool) for models that give lists only.

    items, scores [B, k], best first; item 0 is an empty or invalid place, which still counts. Places of equal score share the mean of
    them, as everywhere: items of one bucket stand in no order. An item listed twice counts where it stands first. A target that is not
    in its list has an unknown rank: it gets infinity, a miss at every cutoff however small the catalogue, and is flagged truncated.
    """
    match = items[row] == target[:, None]
    found = match.any(dim=1)
    place = match.to(torch.uint8).argmax(dim=1)
    own = scores[row, place][:, None]
    greater, equal = (scores[row] > own).sum(dim=1), (scores[row] == own).sum(dim=1)
    rank = 1 + greater.double() + (equal.double() - 1) / 2
    return torch.where(found, rank, torch.inf), torch.where(found, equal, 1), ~found


def drop_seen(items: Tensor, scores: Tensor, seen: Seen, n_items: int) -> tuple[Tensor, Tensor]:
    """Lists [B, k] and their scores without the seen items; later ones move up, and 0 with a score of -inf fills the end."""
    first_of_row = torch.arange(len(items), device=items.device)[:, None] * (n_items + 1)
    drop = torch.isin(first_of_row + items, seen.row * (n_items + 1) + seen.item)
    return without(items, scores, drop)


def without(items: Tensor, scores: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
    """Lists [B, k] and their scores without the places of a mask; later ones move up, and 0 with a score of -inf fills the end."""
    order = drop.to(torch.uint8).argsort(dim=1, stable=True)
    return torch.where(drop, 0, items).gather(1, order), scores.masked_fill(drop, -torch.inf).gather(1, order)
