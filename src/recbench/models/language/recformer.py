"""Recformer: the whole history is one long text, the latest item first, and one encoder reads histories and items alike [Li et al., KDD 2023,
arXiv 2305.13731].

What is different about this model: no item has a vector at the input. Words have, and to each come the vector of its kind (the beginning, or text)
and that of the place of its item. The state at the beginning is the history; an item is a history of one.

    q = state at [CLS] of  [CLS] text(s_L) text(s_{L-1}) ... text(s_1);   v_i = the same of [CLS] text(i);   loss = - log softmax_i(cos(q, v_i) / t)

The vectors of all items are too many to be made in every step. ``stage: 1`` makes them anew after each validation, and in between the loss moves q
alone; ``stage: 2`` goes on from such a run (training.init_from=RUN) with the table of its first step, to the end.

Glossary (paper and released code -> here): token type embedding -> ``kind_embedding``; item position embedding -> ``place_embedding``; word
position -> the encoder's own; temperature -> ``temperature``; two-stage finetuning -> ``stage``.

Deviations, and why:
- No pretraining: the paper's (masked words, and pairs of history and next item, on other categories) is what its gain rests on, and its weights
  have read the reviews of the test's years. A named encoder brings what it knows of words.
- An item's text is that of ``data``, where the paper has attribute names and values, with a kind each.
- ``tiny`` is a small Llama without a causal mask; the paper's is a Longformer of 1,024 tokens with windows of 64.
- The table is made again before every validation. The released code ranks by that of the epoch's start, with an encoder that has moved.
- One learning-rate schedule a stage; there, the second stage goes on with the end of the first one's.
- A step has ``targets_per_window`` targets of each training window, drawn anew: every prefix is a text of its own.
- Published data were thinned by an unseeded draw and seen items were not masked: its tables cannot be repeated.

Shapes: B rows, L items, T words of an item, M words of a history, H width, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, drawn_prefixes
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_sizes
from recbench.models.language.frozen_part import learned_state, load_learned
from recbench.models.registry import register
from recbench.nn.language.backbone import Backbone, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.text.length_buckets import by_length, tokens_at_once
from recbench.nn.text.real_first import real_first
from recbench.nn.text.title_words import widely_drawn
from recbench.nn.text.word_table import WordTable
from recbench.nn.transformer.dropout import Dropout

#: Kinds of tokens: the beginning, and text.
KINDS = 2


@dataclass
class RecformerConfig(BackboneConfig, ModelConfig):
    """Keys of the encoder, how much of a history is read, and the stage."""

    name: str = "recformer"
    text_tokens: int = 12
    history: int = 10
    text_buckets: int = 4096
    dropout: float = 0.1
    temperature: float = 0.05
    targets_per_window: int = 4
    stage: int = 1


@register("recformer", RecformerConfig)
class Recformer(Recommender):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    is_causal: ClassVar[bool] = False  # says nothing here: no states are lent
    tokens: Tensor  # [V, T] int64 from 1, 0 where there is no word
    fixed_table: Tensor  # [V, H] of stage 2; empty before its first step, and in stage 1

    @classmethod
    def dependencies(cls, config: RecformerConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        return {}

    def __init__(self, config: RecformerConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        n_tokens = 1 + config.history * config.text_tokens
        self.backbone = Backbone(replace(config, prompt="none"), n_tokens, keep_tokens=True)
        self.width = self.backbone.width
        self.words = WordTable(config, self.backbone, config.text_buckets)
        self.kind_embedding = nn.Embedding(KINDS, self.width)
        self.place_embedding = nn.Embedding(config.history, self.width)
        self.beginning = nn.Parameter(torch.randn(self.width) * 0.02)
        if config.backbone == "tiny":
            widely_drawn(self.backbone, self.words)
        for table in (self.kind_embedding, self.place_embedding):
            nn.init.normal_(table.weight, std=0.2 if config.backbone == "tiny" else 0.02)
        self.dropout = Dropout(config.dropout)
        texts = context.item_texts
        tokens = torch.zeros(context.n_items + 1, config.text_tokens, dtype=torch.int64)
        if texts is not None:
            if not any(text.strip() for text in texts):
                raise UserError("no item has a text, which 'recformer' reads; use data with titles")
            tokens = self.words.words_of(texts, config.text_tokens)
        self.register_buffer("tokens", tokens)
        self.register_buffer("fixed_table", torch.empty(0))
        self._table: tuple[object, Tensor] | None = None

    def read(self, items: Tensor) -> Tensor:
        """items [B, L], the latest first, 0 behind the last -> [B, H]: the state at the beginning."""
        b, length = items.shape
        words = self.tokens[items].flatten(1)
        place = torch.arange(length, device=items.device).repeat_interleave(self.config.text_tokens).expand(b, -1)
        words, place = real_first(words, place)
        text = F.embedding((words - 1).clamp(min=0), self.words.inputs()).float()
        text = text + self.place_embedding(place) + self.kind_embedding.weight[1]
        start = self.beginning + self.kind_embedding.weight[0] + self.place_embedding.weight[0]
        vectors = self.dropout(torch.cat([start.expand(b, 1, -1), text], 1))
        real = F.pad(words > 0, (1, 0), value=True)
        mask = real[:, None] | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
        return self.backbone.read(vectors, mask=mask)[:, 0].float()

    def asked(self, batch: Batch) -> Tensor:
        """[B, H]: the last items of each history, the latest first, as one text."""
        back = torch.arange(min(self.config.history, batch.items.shape[1]), device=batch.items.device)
        place = batch.lengths[:, None] - 1 - back
        return self.read(batch.items.gather(1, place.clamp(min=0)) * (place >= 0))

    def made_table(self) -> Tensor:
        """[V, H] of all items, each different text read once; no gradient, no dropout."""
        was_training = self.training
        super().train(False)
        rows, of_item = self.tokens.unique(dim=0, return_inverse=True)
        shown = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        shown[of_item] = torch.arange(len(of_item), device=rows.device)
        found = torch.zeros(len(rows), self.width, device=rows.device)
        with torch.no_grad():
            for chosen in by_length((rows > 0).sum(1) + 1, tokens_at_once(rows.device)):
                found[chosen] = self.read(shown[chosen, None])
        super().train(was_training)
        return found[of_item]

    def item_vectors(self) -> Tensor:
        """[V, H] unit vectors: in training those of the epoch's start, or in stage 2 of the first step; else those of the weights as they are."""
        if self.config.stage == 2:
            if not self.fixed_table.numel():
                self.fixed_table = self.made_table()
            return F.normalize(self.fixed_table, dim=-1)
        version = "training" if self.training else tuple((id(p), p._version) for p in self.parameters())
        if self._table is None or self._table[0] != version:
            self._table = (version, F.normalize(self.made_table(), dim=-1))
        return self._table[1]

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        self._table = None

    def train(self, mode: bool = True) -> Recformer:
        self._table = None
        return super().train(mode)

    def logits(self, queries: Tensor) -> Tensor:
        """queries [N, H] -> [N, V]."""
        return F.normalize(queries, dim=-1) @ self.item_vectors().T / self.config.temperature

    def training_loss(self, batch: Batch) -> Tensor:
        histories, targets = drawn_prefixes(batch, self.config.targets_per_window)
        return F.cross_entropy(self.logits(self.asked(histories))[:, 1:], targets - 1)

    def score(self, batch: Batch) -> Tensor:
        return self.logits(self.asked(batch))

    def needs_whole_batch(self) -> str:
        return "model=recformer draws targets of each window, and its loss is no mean over all of them"

    def stored_state(self) -> dict[str, Tensor]:
        return learned_state(self, self.backbone.frozen, {"tokens", "fixed_table"})

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.fixed_table = state["fixed_table"].clone()
        load_learned(self, state, self.stored_state())


def _check(config: RecformerConfig) -> None:
    sizes = ("n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")
    check_sizes(config, *sizes, "text_tokens", "history", "text_buckets", "targets_per_window")
    if config.stage not in (1, 2):
        raise UserError(f"model.stage must be 1 or 2, not {config.stage}")
    if not config.temperature > 0:
        raise UserError(f"model.temperature must be positive, not {config.temperature:g}")
    if config.prompt != "none":
        raise UserError("'recformer' reads item texts alone: set model.prompt=none")
    check_backbone(config)
