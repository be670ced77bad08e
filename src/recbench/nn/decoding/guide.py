"""A recommender as a guide of a search that spells items code by code [D3: Bao et al., EMNLP 2024, arXiv 2406.14900].

The guide gives every item a probability. A node of the trie has the sum over the items behind it, and a code behind a prefix has

    log share = log sum over the items behind prefix + code  -  log sum over the items behind the prefix

so the shares along the path of an item add up to the log-probability that the guide gives to all items at the path's end.

Shapes: B users, V = n_items + 1, W prefixes, S_l codes of level l, N_d nodes at depth d.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.nn.decoding.trie import Trie


class GuideShares:
    """scores [B, V] of the guide; the softmax over the items is its probability."""

    def __init__(self, trie: Trie, scores: Tensor) -> None:
        self.trie = trie
        # Differences of sums over large catalogues: float32 would lose the small ones.
        mass = scores[:, 1:].double().softmax(1)[:, trie.items - 1]
        self.below = torch.nn.functional.pad(mass.cumsum(1), (1, 0))
        self.first_item = first_items(trie)

    def mass(self, depth: int, node: Tensor) -> Tensor:
        """node [B, N] at ``depth`` (0 is the root) -> [B, N] the sum over the items behind it."""
        starts = self.first_item[depth]
        flat = node.flatten(1)
        found = self.below.gather(1, starts[flat + 1]) - self.below.gather(1, starts[flat])
        return found.view(node.shape)

    def log_shares(self, depth: int, node: Tensor, size: int) -> Tensor:
        """node [B, W] at ``depth`` -> [B, W, S_l] log share of each code, -inf where no item has it. A node of -1 is read as the first one."""
        node = node.clamp(min=0)
        child, code = self.trie.children(depth, node)
        log_mass = self.mass(depth + 1, child.clamp(min=0)).clamp(min=1e-300).log()
        share = (log_mass - self.mass(depth, node).clamp(min=1e-300).log()[..., None]).float()
        share = share.masked_fill(child < 0, -torch.inf)
        if code is None:
            return share
        place = torch.where(child >= 0, code, size)
        return share.new_full((*node.shape, size + 1), -torch.inf).scatter(-1, place, share)[..., :size]


def first_items(trie: Trie) -> list[Tensor]:
    """For each depth, from the root's 0, [N_d + 1]: where in ``trie.items`` those of each node begin."""
    starts = [trie.leaf_first]
    for level in reversed(trie.levels):
        starts.append(starts[-1][level.first])
    return starts[::-1]
