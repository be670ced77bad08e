"""Which named backbones can spell codes behind a history whose keys and values are kept, and what they have for words.

Encoders are refused by name, also those that others here read under a causal mask: their weights know no next token.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from torch import Tensor

from recbench.core.errors import UserError, first_line
from recbench.data.download import is_offline
from recbench.nn.language.gguf import gguf_file, output_weights
from recbench.nn.language.pretrained import few_words, read_config

logger = logging.getLogger(__name__)


def check_decoder(name: str, n_layers: int) -> None:
    """Raise UserError unless a model of this name was trained to predict the next token, by attention alone; reads no weights."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    config = read_config(name, n_layers)
    kind = config.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise UserError(
            f"the backbone '{name}' ({kind}) is no causal decoder, so it predicts no next token; name one, such as HuggingFaceTB/SmolLM2-135M"
        )
    # What a recurrent layer keeps cannot be shared by beams.
    other = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if other:
        raise UserError(
            f"the backbone '{name}' ({kind}) has layers of the kind {', '.join(other)}; name one of attention alone"
        )


def check_reads(name: str, model: Any, n_tokens: int, what: str) -> None:
    """Raise UserError unless a built backbone keeps keys and values at chosen positions and reads so many tokens; ``what``: why so many."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # within adapters
    parts = inspect.signature(type(model).forward).parameters
    if not {"position_ids", "past_key_values"} <= set(parts):
        raise UserError(
            f"the backbone '{name}' ({model.config.model_type}) keeps no keys and values at chosen positions; name another decoder"
        )
    limits = (getattr(model.config, key, None) for key in ("max_position_embeddings", "sliding_window"))
    reads = min((limit for limit in limits if limit), default=n_tokens)
    if reads < n_tokens:
        raise UserError(
            f"the backbone '{name}' reads {reads} tokens, fewer than {n_tokens} ({what}); lower training.max_length"
        )


def output_vectors(name: str, dtype: torch.dtype) -> Tensor | None:
    """[vocabulary, H]: what scores the next word, where that is not the token table itself; else None. Raises UserError if it cannot be read."""
    from transformers import AutoModelForCausalLM

    if read_config(name).tie_word_embeddings:
        return None
    path = gguf_file(name)
    if path is not None:
        vectors = output_weights(path)
        return None if vectors is None else vectors.to(dtype)
    try:
        with few_words():
            # One layer, for there must be one.
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=is_offline(),
                dtype=dtype,
                output_loading_info=True,
                num_hidden_layers=1,
            )
    except (OSError, ValueError) as error:
        raise UserError(f"the weights of '{name}' cannot be read ({first_line(error)})") from error
    model, found = loaded
    head = model.get_output_embeddings()
    (place,) = (part for part, module in model.named_modules() if module is head)
    if f"{place}.weight" in found["missing_keys"]:
        logger.warning("'%s' holds no output vectors; words are scored by its token vectors", name)
        return None
    return head.weight.detach().clone()
