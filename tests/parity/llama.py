"""A small Llama with fixed weights, stored as a backbone, and what transformers itself makes of it."""

from __future__ import annotations

from contextlib import redirect_stderr
from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

WIDTH, LAYERS = 32, 5
#: Removed when the process ends.
_folder = TemporaryDirectory(prefix="parity-llama-")


@cache
def stored() -> tuple[Path, Any]:
    """(folder, model) of a Llama of 5 layers, 4 heads over 2 of keys and values, with noise in every weight, the norms' too."""
    from transformers import LlamaConfig, LlamaModel

    sizes = {"vocab_size": 40, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaModel(LlamaConfig(**sizes, **heads, max_position_embeddings=128)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    with redirect_stderr(StringIO()):  # a progress bar
        model.save_pretrained(_folder.name)
    return Path(_folder.name), model


@torch.no_grad()
def states(n_layers: int, vectors: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Hidden states [B, L, WIDTH] of the first layers, the last one after the final norm, by transformers' own loop."""
    model = deepcopy(stored()[1])
    model.layers = model.layers[:n_layers]
    model.config.num_hidden_layers = n_layers
    out = model(inputs_embeds=vectors, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return [*out.hidden_states[:-1], out.last_hidden_state]
