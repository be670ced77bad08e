"""Codes behind the histories of a decoder-only model: each history is read once, its keys and values are asked by all beams side by side.

Shapes: B users, M tokens of a history, H width, W prefixes, S_l codes of level l.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbench.nn.language.backbone import Backbone
from recbench.nn.language.beam_cache import Prefixes, beam_cache, history_of, written_by
from recbench.nn.language.prefix_cache import empty_cache

#: (how many codes the prefixes have, their keys and values).
State = tuple[int, Prefixes]


class CausalHistory:
    """A ``decoding.codes.CodeModel``. The state at the last token of a history predicts the first code, that at a code the one behind it.

    vectors [B, M, H]: the tokens' · n_real [B]: how many of them are real · table: vectors of the codes of all levels, level after level ·
    heads: of each level, [.., H] -> [.., S_l].
    """

    def __init__(
        self,
        backbone: Backbone,
        vectors: Tensor,
        n_real: Tensor,
        table: nn.Embedding,
        heads: Sequence[nn.Module],
        sizes: Sequence[int],
    ) -> None:
        self.backbone, self.n_real, self.table, self.heads = backbone, n_real, table, heads
        self.offset = [sum(sizes[:level]) for level in range(len(sizes))]
        cache = empty_cache()
        states = backbone.read(vectors, cache)
        self.layers = history_of(cache)
        self.real = torch.arange(vectors.shape[1], device=vectors.device) < n_real[:, None]
        self.last = states[torch.arange(len(vectors), device=vectors.device), n_real - 1]

    def first(self) -> tuple[Tensor, State]:
        nothing = torch.empty(len(self.last), 1, 0, dtype=torch.bool, device=self.last.device)
        return self._log_probs(self.last[:, None], 0), (0, Prefixes([], nothing))

    def next(self, state: State, parent: Tensor, code: Tensor) -> tuple[Tensor, State]:
        level, prefixes = state
        visible = prefixes.extended(parent)
        mask = torch.cat([self.real[:, None].expand(-1, parent.shape[1], -1), visible], dim=2)
        positions = (self.n_real + level)[:, None].expand_as(parent)
        cache = beam_cache(self.layers, prefixes)
        states = self.backbone.read(self.table(code + self.offset[level]), cache, mask, positions)
        return self._log_probs(states, level + 1), (level + 1, Prefixes(written_by(cache), visible))

    def _log_probs(self, states: Tensor, level: int) -> Tensor:
        return self.heads[level](states).float().log_softmax(dim=-1)
