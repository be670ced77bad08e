"""Which backbones can spell codes, and what scores their words."""

from __future__ import annotations

import logging

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import check_decoder, check_reads, output_vectors


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen2", "mistral"])
def test_decoders_are_taken(stored, family):
    check_decoder(str(stored(family)), 2)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_encoders_are_refused_by_name(stored, family):
    with pytest.raises(UserError, match=rf"{family}.* is no causal decoder"):
        check_decoder(str(stored(family)), 2)


def stored_config(folder, config):
    config.save_pretrained(folder)
    return str(folder)


def test_an_encoder_decoder_is_refused(tmp_path):
    from transformers import T5Config

    with pytest.raises(UserError, match=r"\(t5\) is no causal decoder"):
        check_decoder(stored_config(tmp_path, T5Config(num_layers=2)), 2)


def test_recurrent_layers_are_refused(tmp_path):
    from transformers import Qwen3NextConfig

    config = Qwen3NextConfig(num_hidden_layers=4, hidden_size=16, num_attention_heads=2, num_experts=2)
    with pytest.raises(UserError, match=r"layers of the kind linear_attention"):
        check_decoder(stored_config(tmp_path, config), 2)


def test_a_decoder_without_keys_and_values_is_refused():
    from transformers import MambaConfig, MambaModel

    model = MambaModel(MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=5, state_size=4))
    with pytest.raises(UserError, match=r"'any' \(mamba\) keeps no keys and values"):
        check_reads("any", model, 5, "so many")


@pytest.mark.parametrize(("family", "limit"), [("llama", 64), ("gpt2", 40), ("mistral", 32)])
def test_sequences_longer_than_the_backbone_reads_are_refused(stored, family, limit):
    model = Backbone(BackboneConfig(backbone=str(stored(family)), n_layers=1, lora_rank=0), 4).model
    check_reads(family, model, limit, "so many items")
    with pytest.raises(UserError, match=rf"reads {limit} tokens, fewer than {limit + 1} \(so many items\)"):
        check_reads(family, model, limit + 1, "so many items")


def test_words_are_scored_by_the_output_vectors_that_are_stored(tmp_path, caplog):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    free = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False))
    free.save_pretrained(tmp_path / "free")
    found = output_vectors(str(tmp_path / "free"), torch.float32)
    assert torch.equal(found, free.lm_head.weight)
    assert not torch.equal(found, free.model.embed_tokens.weight)
    LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).save_pretrained(tmp_path / "tied")
    assert output_vectors(str(tmp_path / "tied"), torch.float32) is None
    free.model.save_pretrained(tmp_path / "headless")
    with caplog.at_level(logging.WARNING):
        assert output_vectors(str(tmp_path / "headless"), torch.float32) is None
    assert "holds no output vectors" in caplog.text
