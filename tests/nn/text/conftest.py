"""Small text encoders with a tokenizer, in folders as Hugging Face keeps them, and data with holes in their texts. Nothing is downloaded."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recbench.data.prepared import PreparedData

WORDS = ["red", "blue", "soap", "brush", "hair", "9", "99", ".", ";", "for", "acme"]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """encoder("bert" | "t5") -> folder of a random encoder, 16 wide, with a tokenizer that knows WORDS."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = {}

    def folder_of(kind):
        if kind in made:
            return made[kind]
        folder = tmp_path_factory.mktemp(kind)
        words = ["[PAD]", "[UNK]", "</s>", *WORDS]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        t.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>"
        ).save_pretrained(folder)
        torch.manual_seed(3)
        if kind == "bert":
            shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
            model = t.BertModel(t.BertConfig(vocab_size=30, max_position_embeddings=40, **shape))
        else:
            shape = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
            model = t.T5ForConditionalGeneration(t.T5Config(vocab_size=30, decoder_start_token_id=0, **shape))
        model.save_pretrained(folder)
        made[kind] = folder
        return folder

    return folder_of


@pytest.fixture
def holey(tmp_path):
    """Four items: all is known of the first, nothing of the third."""
    table = pl.DataFrame(
        {
            "item": ["a", "b", "c", "d"],
            "title": ["Red  soap\n", "blue brush", None, "  "],
            "brand": ["acme", None, None, None],
            "categories": [["Beauty", "Hair"], [], None, ["Hair", ""]],
            "price": [9.99, None, None, 0.5],
        }
    )
    items = np.array([1, 2, 3, 4, 2, 1, 3])
    return PreparedData.from_arrays(tmp_path / "holey", items, np.array([0, 4, 7]), item_table=table)
