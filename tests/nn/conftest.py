"""Small models of several families, stored in folders as Hugging Face keeps them. Nothing is downloaded."""

from __future__ import annotations

import pytest
import torch


def _families():
    import transformers as t

    shape = {
        "vocab_size": 30,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
    }
    wide = {**shape, "intermediate_size": 24}
    return {
        "bert": (t.BertModel, t.BertConfig(**wide)),
        "roberta": (t.RobertaModel, t.RobertaConfig(**wide, pad_token_id=1)),
        "distilbert": (
            t.DistilBertModel,
            t.DistilBertConfig(vocab_size=30, dim=16, hidden_dim=24, n_layers=3, n_heads=2),
        ),
        "gpt2": (
            t.GPT2Model,
            t.GPT2Config(vocab_size=30, n_embd=16, n_layer=3, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=0),
        ),
        "gpt_neox": (t.GPTNeoXModel, t.GPTNeoXConfig(**wide, bos_token_id=0, eos_token_id=0)),
        "qwen2": (t.Qwen2Model, t.Qwen2Config(**wide, num_key_value_heads=1)),
        "mistral": (t.MistralModel, t.MistralConfig(**wide, num_key_value_heads=1, sliding_window=32)),
    }


@pytest.fixture(scope="session")
def stored(tmp_path_factory, stored_llama):
    """stored(family) -> folder of a model of 3 layers, 16 wide, with 40 positions; "llama" has 4 layers and 64 positions."""
    folders = {"llama": stored_llama}

    def folder_of(family):
        if family not in folders:
            model, config = _families()[family]
            torch.manual_seed(2)
            built = model(config)
            # Norms as they are after training: one that is left out, or used twice, shows.
            for name, parameter in built.named_parameters():
                if "norm" in name.lower() or "ln_" in name:
                    parameter.data.uniform_(0.5, 1.5)
            folders[family] = tmp_path_factory.mktemp(family)
            built.save_pretrained(folders[family])
        return folders[family]

    return folder_of


@pytest.fixture(scope="session")
def llama(stored_llama):
    """A stored Llama of 4 layers, as (folder, its weights)."""
    from safetensors.torch import load_file

    return stored_llama, load_file(stored_llama / "model.safetensors")


@pytest.fixture(scope="session")
def with_tokenizer(stored, tmp_path_factory):
    """with_tokenizer(family) -> a copy of the folder with a tokenizer that knows the words "history", "next" and a few more."""
    import shutil

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def folder_of(family):
        folder = tmp_path_factory.mktemp(f"{family}_with_tokenizer") / "model"
        shutil.copytree(stored(family), folder)
        words = ["[UNK]", "[BOS]", "Given", "the", "history", "next", "item", ":"]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", bos_token="[BOS]").save_pretrained(
            folder
        )
        return folder

    return folder_of
