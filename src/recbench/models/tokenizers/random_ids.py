"""Random item codes: the floor for every tokenizer, for they say nothing about an item [Hua et al., SIGIR-AP 2023, "How to Index Item IDs"].

What is different about this tokenizer: each code of each item is drawn alone, evenly from 0..codebook_size - 1. Items that draw the same
tuple collide as those of any tokenizer do; OpenP5 draws one number of several digits instead, so that none does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.data.training import TrainingData
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import ItemTokenizer, TokenizerConfig


@dataclass
class RandomIdsConfig(TokenizerConfig):
    """Nothing but what all tokenizers have."""

    name: str = "random_ids"


@register("random_ids", RandomIdsConfig)
class RandomIds(ItemTokenizer):
    """See the head of this file."""

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        levels, size = self.config.levels, self.config.codebook_size
        return np.random.default_rng(self.seed).integers(size, size=(train.n_items, levels)), [size] * levels
