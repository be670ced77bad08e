"""Titles in the words of a language model, each with an end behind it, and what stands before the first one.

``tiny`` reads words by hash, and has one bucket more for the end; any other backbone reads the tokens of its tokenizer, and a title ends with its
line.

Shapes: V titles, T words of one, N states, H width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.text.item_text import hashed_words
from recbench.nn.text.text_reader import tokenizer_of
from recbench.nn.text.word_table import WordTable

#: Words that are read of what stands before the titles: backbone=tiny.
BEGIN_WORDS = 16
#: Logits over all words that exist at the same time in training.
LOGITS = 1 << 24


class TitleWords(nn.Module):
    """table: the words' vectors · end: the word behind a title · begin: the words before the first one; both numbered from 1.

    Raises UserError for a backbone without a tokenizer, or whose tokenizer has no line's end.
    """

    def __init__(self, config: BackboneConfig, backbone: Backbone, n_buckets: int, said: str) -> None:
        super().__init__()
        self.tiny, self.n_buckets = config.backbone == "tiny", n_buckets
        self.table = WordTable(config, backbone, n_buckets + 1)
        if self.tiny:
            self.end = n_buckets + 1
            words = hashed_words([said], n_buckets, BEGIN_WORDS)[0]
            self.begin = [*words[words > 0].tolist(), self.end]
            return
        tokenizer = tokenizer_of(config.backbone)
        self.end = line_end(tokenizer, config.backbone) + 1
        first = tokenizer.bos_token_id
        start = [first] if first is not None and first in tokenizer("")["input_ids"] else []
        self.begin = [i + 1 for i in (*start, *tokenizer(said, add_special_tokens=False)["input_ids"])] + [self.end]

    def words_of(self, titles: list[str], most: int) -> Tensor:
        """[V, T] int64: the words of each title, numbered from 1, at most ``most``; 0 where there are fewer."""
        if self.tiny:
            return hashed_words(titles, self.n_buckets, most).long()
        words = self.table.words_of(titles, most)
        return words.masked_fill(words == self.end, 0)  # a title has one line

    def losses(self, states: Tensor, words: Tensor) -> Tensor:
        """states [N, H], words [N] -> [N] of -log p(word); of a wide vocabulary a part of the logits at a time."""

        def losses(some: Tensor, wanted: Tensor) -> Tensor:
            return F.cross_entropy(self.table.logits(some), wanted - 1, reduction="none")

        rows = max(1, LOGITS // len(self.table.inputs()))
        if len(words) <= rows:
            return losses(states, words)
        parts = zip(states.split(rows), words.split(rows), strict=True)
        return torch.cat([checkpoint(losses, some, wanted, use_reentrant=False) for some, wanted in parts])


def line_end(tokenizer: Any, name: str) -> int:
    """The token of a line's end. Raises UserError if the tokenizer has none of its own."""
    found = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if len(found) != 1 or found[0] == tokenizer.unk_token_id:
        raise UserError(
            f"the tokenizer of '{name}' has no token for the end of a line, which ends a title here; name another backbone"
        )
    return int(found[0])


def widely_drawn(backbone: Backbone, table: WordTable) -> None:
    """Draw the weights of a narrow model that starts from nothing: at the 0.02 of large ones it attends to everything alike for long."""
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        table.table.weight.normal_(std=0.2)
