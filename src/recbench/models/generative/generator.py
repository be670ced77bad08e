"""What generators share that spell an item code by code: the trie of all items, lists by beam search, and exact scores as a check of them.

A subclass gives ``read``, a head for each level in ``heads``, and in its config ``decoder``, ``beams`` and ``constrained``.

Shapes: B histories, N targets, D width of a state, S levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.generative.coded import CodedItems
from recbench.nn.decoding.beam import beam_search
from recbench.nn.decoding.codes import CodeModel
from recbench.nn.decoding.exact import POSITIONS, score_catalogue
from recbench.nn.decoding.trie import Trie

DECODERS = ("beam", "exact")


class CodeGenerator(CodedItems):
    """See the head of this file."""

    #: Says nothing here: only states would be looked at, and none are lent.
    is_causal: ClassVar[bool] = False
    #: Beams, over all users, that are decoded at once: bounds the kept keys and values (0.3 GB at the default sizes of TIGER).
    beams_at_once: ClassVar[int] = 1 << 12
    #: Prefixes of one history that the exact scores decode at once; None: as many as fit, over all histories.
    prefixes_at_once: ClassVar[int | None] = None
    heads: nn.ModuleList

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        self._tries: dict[torch.device, Trie] = {}

    def read(self, batch: Batch) -> CodeModel:
        """The histories of a batch, read once."""
        raise NotImplementedError

    def take_codes(self, state: Mapping[str, Tensor]) -> None:
        self._tries = {}  # of the codes that were here before
        super().take_codes(state)

    @property
    def gives_lists(self) -> bool:
        return bool(self.config.decoder == "beam")

    @classmethod
    def longest_list(cls, config: Any) -> int | None:
        return config.beams if config.decoder == "beam" else None

    @property
    def trie(self) -> Trie:
        """Of all items, on the device of the codes."""
        device = self.codes.device
        if device not in self._tries:
            self._tries[device] = Trie.of(self.codes, self.level_sizes).to(device)
        return self._tries[device]

    def next_item_loss(self, batch: Batch) -> Tensor:
        """Scalar: the part of the loss that is about the next item alone."""
        return self.training_loss(batch)

    def cross_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        """states [N, S, D], targets [N] -> sum over targets and levels of -log p(code)."""
        codes = self.codes[targets]
        levels = [
            F.cross_entropy(head(states[:, level]), codes[:, level], reduction="sum")
            for level, head in enumerate(self.heads)
        ]
        return torch.stack(levels).sum()

    def score(self, batch: Batch) -> Tensor:
        """[B, n_items + 1]: log p(codes of the item | history), exactly; the pad's is -inf. Costs far more than ``recommend`` by beams.

        With ``model.fallback`` these are scores in whose order the cold items have their place.
        """
        found = self._likelihoods(batch)
        return found if self.fallback is None else self.fallback.into_scores(found, batch, self.config.beams)

    def _likelihoods(self, batch: Batch) -> Tensor:
        if self.prefixes_at_once is None:
            return score_catalogue(self.read(batch), self.trie)
        rows = max(1, POSITIONS // self.prefixes_at_once)
        parts = [
            score_catalogue(self.read(part), self.trie, self.prefixes_at_once * len(part))
            for part in in_parts(batch, rows)
        ]
        return torch.cat(parts)

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """(items [B, k], log-probabilities [B, k]), best first; by beam search no more than ``beams`` distinct codes, then item 0 at -inf.

        Unconstrained, an id that no item has is item 0 with its log-probability.
        """
        if self.config.decoder == "exact":
            return super().recommend(batch, k)
        at_once = max(1, self.beams_at_once // self.config.beams)
        found = [self._search(part, min(k, self.n_items)) for part in in_parts(batch, at_once)]
        items, scores = torch.cat([items for items, _ in found]), torch.cat([scores for _, scores in found])
        return (
            (items, scores) if self.fallback is None else self.fallback.into_lists(items, scores, batch, items.shape[1])
        )

    def _search(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        leaf, scores = beam_search(self.read(batch), self.trie, self.config.beams, self.config.constrained)
        return self.trie.expand(leaf, scores, k)


def in_parts(batch: Batch, rows: int) -> list[Batch]:
    """The batch in pieces of at most ``rows`` histories."""
    columns = zip(*(x.split(rows) for x in (batch.items, batch.timestamps, batch.lengths, batch.user)), strict=True)
    return [Batch(*part) for part in columns]
