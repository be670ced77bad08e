"""Attention in float32 within a model in bfloat16, on a CPU, where torch's fused attention in bfloat16 takes several times as long.

Only the queries, keys and values of a pass are widened, and the result is rounded as before: the products of the layers stay in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: What ``config._attn_implementation`` calls it.
NAME = "recbench_wide"


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **words: Any
) -> tuple[Tensor, None]:
    """transformers' attention by torch's fused kernel; query, key and value [B, heads, L, width]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **words)
    if attention_mask is not None and attention_mask.dtype == torch.bfloat16:
        attention_mask = attention_mask.float()
    found, nothing = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **words)
    return found.to(query.dtype), nothing


def widen(model: Any) -> None:
    """Let a model that uses the fused attention use this one."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.config._attn_implementation = NAME
