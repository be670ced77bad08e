"""The backbone ``tiny``: a small Llama-style decoder with random weights, which needs no download."""

from __future__ import annotations

from typing import Any

from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.pretrained import drawn


def tiny_model(config: BackboneConfig, n_positions: int) -> Any:
    """A transformers model of the config's ``tiny_*`` sizes, for at least 32 positions."""
    from transformers import LlamaConfig, LlamaModel

    shape = LlamaConfig(
        vocab_size=1,  # no text goes in, so no token table is needed
        hidden_size=config.tiny_hidden_size,
        intermediate_size=config.tiny_feedforward_size,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.tiny_n_heads,
        num_key_value_heads=config.tiny_n_heads,
        max_position_embeddings=max(n_positions, 32),
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model_class: Any = LlamaModel
    return drawn(lambda dtype: model_class(shape).to(dtype), config)
