"""The trie of all items' codes as flat arrays: built by one sort, walked by gathers.

Nodes of a depth are numbered in the order of their codes, so the children of a node are neighbours and one array of first children (CSR) says
where. For the first two levels, where a node has many children and there are few nodes, a table [parents, codes] is faster and small.
The shape is that of [arXiv 2602.22647], section 3; items sit at the leaves, so no tuple of codes is ever looked up.

Shapes: V = n_items + 1, M levels, N_l nodes at depth l + 1 (N_{-1} = 1, the root), S_l codes of level l, C_l most children of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

#: Levels with a dense table at the most, and entries of one (16 MiB of int32).
DENSE_LEVELS, DENSE_ENTRIES = 2, 1 << 22


@dataclass(frozen=True)
class Level:
    """One step down. code [N_l] int64: the code of each node · parent [N_l] int64 · first [N_{l-1} + 1] int64: the children of node p are
    ``first[p] : first[p + 1]`` · dense [N_{l-1}, S_l] int32: the child by its code, -1 where there is none; or None."""

    size: int
    branching: int
    code: Tensor
    parent: Tensor
    first: Tensor
    dense: Tensor | None

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True)
class Trie:
    """levels · items [V - 1] int64: item ids in the order of their codes · leaf_first [N_{M-1} + 1] int64: the items of leaf n are
    ``items[leaf_first[n] : leaf_first[n + 1]]``, in item order; several where items share all codes (a bucket)."""

    levels: tuple[Level, ...]
    items: Tensor
    leaf_first: Tensor

    @classmethod
    def of(cls, codes: Tensor | np.ndarray, sizes: Sequence[int]) -> Trie:
        """codes [V, M]: row 0, the pad's, is not read. sizes [M]: S_l. Raises ValueError for a code outside 0 .. S_l - 1."""
        table = np.asarray(codes.cpu() if isinstance(codes, Tensor) else codes)[1:].astype(np.int64)
        if table.ndim != 2 or not table.size or table.shape[1] != len(sizes):
            raise ValueError(f"codes [V, {len(sizes)}] of at least one item are needed, not {table.shape}")
        if (table < 0).any() or (table >= np.asarray(sizes)).any():
            raise ValueError(f"a code lies outside 0 .. size - 1 of its level; sizes are {list(sizes)}")
        order = np.lexsort(table.T[::-1])  # stable, so items of one leaf stay in item order
        table = table[order]
        begins = np.zeros(len(table), dtype=bool)
        begins[0] = True
        above, n_above = np.zeros(len(table), dtype=np.int64), 1
        levels = []
        for depth, size in enumerate(sizes):
            begins[1:] |= table[1:, depth] != table[:-1, depth]
            levels.append(_level(table[begins, depth], above[begins], n_above, int(size), depth))
            above, n_above = np.cumsum(begins) - 1, int(begins.sum())
        leaf_first = np.append(np.flatnonzero(begins), len(table))
        return cls(tuple(levels), torch.from_numpy(order + 1), torch.from_numpy(leaf_first))

    def to(self, device: torch.device | str) -> Trie:
        levels = tuple(_moved(level, device) for level in self.levels)
        return replace(self, levels=levels, items=self.items.to(device), leaf_first=self.leaf_first.to(device))

    @property
    def sizes(self) -> list[int]:
        return [level.size for level in self.levels]

    @property
    def n_items(self) -> int:
        return len(self.items)

    def children(self, depth: int, node: Tensor) -> tuple[Tensor, Tensor | None]:
        """node [...] at ``depth`` (0 is the root) -> (child [..., C] int64, -1 where there is none; its code [..., C]).

        Where there is a table, C is S_l, the codes are 0, 1, ... and None stands for them; elsewhere C is the level's branching.
        """
        level = self.levels[depth]
        if level.dense is not None:
            return level.dense[node].long(), None
        begin = level.first[node][..., None]
        place = begin + torch.arange(level.branching, device=node.device)
        real = place < level.first[node + 1][..., None]
        child = torch.where(real, place, -1)
        return child, level.code[place.clamp(max=len(level) - 1)]

    def child(self, depth: int, node: Tensor, code: Tensor) -> Tensor:
        """The node reached from ``node`` [...] by ``code`` [...], -1 where there is none or ``node`` is -1 already."""
        level = self.levels[depth]
        key = level.parent * level.size + level.code  # ascends, as nodes are in the order of their codes
        wanted = node.clamp(min=0) * level.size + code
        found = torch.searchsorted(key, wanted).clamp(max=len(level) - 1)
        return torch.where((key[found] == wanted) & (node >= 0), found, -1)

    def expand(self, leaf: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Leaves and their scores [B, W], best first -> (items [B, k], scores [B, k]): a leaf of several items takes a place for each.

        A leaf of -1 with a finite score is an id that no item has: it takes a place, with item 0. What scores -inf takes none. Behind
        the end stand items 0 with scores of -inf.
        """
        real = leaf.clamp(min=0)
        count = torch.where(leaf >= 0, self.leaf_first[real + 1] - self.leaf_first[real], 1)
        count = torch.where(scores > -torch.inf, count, 0)
        end = count.cumsum(dim=1)
        place = torch.arange(k, device=leaf.device).expand(len(leaf), k).contiguous()
        beam = torch.searchsorted(end, place, right=True)
        there = beam < leaf.shape[1]
        beam = beam.clamp(max=leaf.shape[1] - 1)
        within = place - (end - count).gather(1, beam)
        position = (self.leaf_first[real].gather(1, beam) + within).clamp(0, self.n_items - 1)
        items = torch.where(there & (leaf.gather(1, beam) >= 0), self.items[position], 0)
        return items, torch.where(there, scores.gather(1, beam), -torch.inf)


def _level(code: np.ndarray, parent: np.ndarray, n_parents: int, size: int, depth: int) -> Level:
    children = np.bincount(parent, minlength=n_parents)
    dense = None
    if depth < DENSE_LEVELS and n_parents * size <= DENSE_ENTRIES:
        table = np.full((n_parents, size), -1, dtype=np.int32)
        table[parent, code] = np.arange(len(code))
        dense = torch.from_numpy(table)
    return Level(
        size=size,
        branching=int(children.max()),
        code=torch.from_numpy(np.ascontiguousarray(code)),
        parent=torch.from_numpy(np.ascontiguousarray(parent)),
        first=torch.from_numpy(np.concatenate([[0], np.cumsum(children)])),
        dense=dense,
    )


def _moved(level: Level, device: torch.device | str) -> Level:
    tensors = {f.name: getattr(level, f.name) for f in fields(level) if isinstance(getattr(level, f.name), Tensor)}
    return replace(level, **{name: value.to(device) for name, value in tensors.items()})
