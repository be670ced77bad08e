"""What a decoder needs of a model that spells an item code by code.

Shapes: B users, W prefixes of each (beams, or nodes of the trie), S_l codes of level l.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class CodeModel(Protocol):
    """The histories of B users, read once, with the log-probabilities of whatever codes may follow.

    A state is never changed in place, so one may be continued twice. Log-probabilities are over the level's own vocabulary and sum to one
    there: no code of another level takes a share, and what the trie forbids later still has its own.
    """

    def first(self) -> tuple[Tensor, Any]:
        """(log-probabilities of the first code [B, 1, S_0], the state of the empty prefix)."""
        ...

    def next(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        """Prefix w becomes the prefix at place ``parent[b, w]`` of the state with ``code[b, w]`` behind it, [B, W] int64 both.

        Returns (log-probabilities of the code after that [B, W, S_l], the state of the new prefixes).
        """
        ...
