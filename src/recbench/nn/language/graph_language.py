"""The two readers of a session that LLMGR compares: a language model over its graph's pattern, and a small network over frozen text vectors.

Both take the projected vectors of a session's items and the projected state that a graph recommender has of it, and give states [B, H].

Shapes: B rows, L events, W tokens of a pattern, T words of a text, U distinct items, H width, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.nn.graph.behaviour_pattern import DESCRIPTION, LAST, N_PARTS, behaviour_pattern
from recbench.nn.language.backbone import Backbone, backbone_width
from recbench.nn.text.item_text import encoded_texts, hashed_words, tfidf_vectors, tokens_of
from recbench.nn.transformer.attention import at_position
from recbench.nn.transformer.dropout import Dropout


class GraphLanguage(nn.Module):
    """A language model that reads behaviour patterns and descriptions.

    texts [V] become words [V, T], a part of the state; without them the words stay empty until a checkpoint brings them.
    """

    #: [V, T] int32: word or token ids from 1, 0 behind the text's end.
    words: Tensor

    def __init__(
        self, config: Any, max_length: int, n_items: int, texts: Sequence[str] | None, seen: np.ndarray | None
    ) -> None:
        super().__init__()
        self.tiny = config.backbone == "tiny"
        self.backbone = Backbone(config, max(3 * max_length, config.text_words), keep_tokens=True)
        self.part_embedding = nn.Embedding(N_PARTS, self.backbone.width)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.part_embedding.weight, std=0.02)
        if self.tiny:
            self.word_embedding = nn.Embedding(config.text_buckets + 1, self.backbone.width, padding_idx=0)
            nn.init.normal_(self.word_embedding.weight, std=0.02)
            with torch.no_grad():
                self.word_embedding.weight[0] = 0.0
        words = torch.zeros(n_items + 1, config.text_words, dtype=torch.int32)
        if texts is not None:
            check_any(texts)
            read = (hashed_words, config.text_buckets) if self.tiny else (tokens_of, config.backbone)
            words = read[0](texts, read[1], config.text_words)
        self.register_buffer("words", words)

    def _word_vectors(self, words: Tensor) -> Tensor:
        """[.., T] ids from 1 -> [.., T, H]; 0 where there is none."""
        if self.tiny:
            return self.word_embedding(words)
        table = self.backbone.model.get_input_embeddings()
        return table((words - 1).clamp_min(0)).float() * (words > 0)[..., None]

    def text_vectors(self, items: Tensor) -> Tensor:
        """items [..] -> [.., H]: the mean of their texts' words, 0 without any. Each distinct item is read once."""
        distinct, place = items.unique(return_inverse=True)
        words = self.words[distinct].long()
        total = self._word_vectors(words).sum(1)
        return (total / (words > 0).sum(1, keepdim=True).clamp_min(1))[place]

    def forward(self, batch: Batch, items: Tensor, state: Tensor, inner: bool = True) -> list[Tensor]:
        """items [B, L, H] and state [B, H], both projected -> states at the end of the patterns, [B, H] each; the last alone if not ``inner``."""
        pattern = behaviour_pattern(batch.items, batch.lengths)
        known = items + self.text_vectors(batch.items)
        last = (batch.lengths - 1)[:, None, None].expand(-1, 1, known.shape[2])
        graph = state[:, None] + (known - items).gather(1, last)  # the graph's own state, with the last item's text
        tokens = known.gather(1, pattern.position[..., None].expand(-1, -1, known.shape[2]))
        tokens = torch.where((pattern.part == LAST)[..., None], graph, tokens) + self.part_embedding(pattern.part)
        return self.backbone.last(self.dropout(tokens), pattern.lengths, inner)

    def descriptions(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(states at the end of the descriptions [U, H], their items [U]) of the distinct items that have a text."""
        distinct = items.unique()
        distinct = distinct[self.words[distinct, 0] > 0]
        if not len(distinct):
            return torch.empty(0, self.backbone.width, device=items.device), distinct
        words = self.words[distinct].long()
        lengths = (words > 0).sum(1)
        words = words[:, : int(lengths.max())]
        tokens = self._word_vectors(words) + self.part_embedding.weight[DESCRIPTION]
        return self.backbone.last(self.dropout(tokens), lengths, inner=False)[-1], distinct

    def normed(self, states: Tensor) -> Tensor:
        return self.backbone.normed(states)


class FrozenText(nn.Module):
    """Without a language model: text vectors of the session's events, weighed by the graph's state, and that state, through one hidden layer."""

    #: [V, W] float32, frozen.
    text_table: Tensor

    def __init__(
        self, config: Any, max_length: int, n_items: int, texts: Sequence[str] | None, seen: np.ndarray | None
    ) -> None:
        super().__init__()
        width = backbone_width(config)
        encoded = config.backbone != "tiny"
        table = torch.zeros(n_items + 1, width if encoded else config.text_width)
        if texts is not None:
            check_any(texts)
            if encoded:
                table = encoded_texts(texts, config, config.text_words)
            else:
                known = np.ones(len(texts), dtype=bool) if seen is None else seen
                table = tfidf_vectors(texts, known, config.text_width)
        self.register_buffer("text_table", table)
        self.text_to_state = nn.Linear(table.shape[1], width, bias=False)
        self.mix = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)

    def forward(self, batch: Batch, items: Tensor, state: Tensor, inner: bool = True) -> list[Tensor]:
        """As ``GraphLanguage.forward``; items are not read, for the graph's state has them."""
        texts = self.text_to_state(self.text_table[batch.items])
        fit = (texts @ state[:, :, None])[..., 0] / texts.shape[2] ** 0.5
        weights = fit.masked_fill(~batch.mask, -torch.inf).softmax(1)
        last = at_position(texts, batch.lengths - 1)
        given = torch.cat([state, (weights[:, None] @ texts)[:, 0], last], 1)
        after = self.norm(state + self.mix(self.dropout(given)))
        return [state, after] if inner else [after]

    def normed(self, states: Tensor) -> Tensor:
        return self.norm(states)


def check_any(texts: Sequence[str]) -> None:
    """Raise UserError if no item has a text."""
    if not any(text.strip() for text in texts):
        raise UserError("no item has a text, which the model 'llmgr' reads; use data with titles or descriptions")
