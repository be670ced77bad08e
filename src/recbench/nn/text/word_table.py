"""The words of item texts as a language model reads and predicts them.

``tiny`` has no tokenizer: its words are runs of letters, hashed into buckets with a vector each, which serve as input and output alike. Any
other backbone has its own tokens and vectors.

Shapes: V items, T words of a text, K words of the vocabulary, H width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.nn.bfloat16 import product
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import output_vectors
from recbench.nn.text.item_text import hashed_words, tokens_of

#: No text of a prompt is longer, in tokens.
LONGEST_PROMPT = 512


class WordTable(nn.Module):
    """K words with an input and an output vector each."""

    def __init__(self, config: BackboneConfig, backbone: Backbone, n_buckets: int) -> None:
        super().__init__()
        self.config, self.n_buckets = config, n_buckets
        self.tiny = config.backbone == "tiny"
        # In a list, so that its weights are not counted among those of this module too.
        self._backbone = [backbone]
        self.output: nn.Parameter | None = None
        if self.tiny:
            self.table = nn.Embedding(n_buckets, backbone.width)
            nn.init.normal_(self.table.weight, std=0.02)
            return
        backbone.model.get_input_embeddings().requires_grad_(not backbone.frozen)
        if config.init == "pretrained":
            found = output_vectors(config.backbone, backbone.dtype)
            self.output = None if found is None else nn.Parameter(found, requires_grad=not backbone.frozen)

    def inputs(self) -> Tensor:
        """[K, H]"""
        table = self.table if self.tiny else self._backbone[0].model.get_input_embeddings()
        return table.weight

    def logits(self, states: Tensor) -> Tensor:
        """states [N, H] -> [N, K] float32"""
        table = self.inputs() if self.output is None else self.output
        return product(states.to(table.dtype), table.T).float()

    def words_of(self, texts: Sequence[str], n_words: int) -> Tensor:
        """[V, T] int64: the first words of each text, numbered from 1; 0 where there are fewer. Raises UserError without a tokenizer."""
        if self.tiny:
            return hashed_words(texts, self.n_buckets, n_words).long()
        words = tokens_of(texts, self.config.backbone, n_words).long()
        if int(words.max()) > len(self.inputs()):
            raise UserError(
                f"the tokenizer of '{self.config.backbone}' does not fit its {len(self.inputs())} token vectors"
            )
        return words

    def prompt(self, text: str) -> list[int]:
        """The words of one text, numbered from 1."""
        words = self.words_of([text], LONGEST_PROMPT)[0]
        return [int(word) for word in words[words > 0]]
