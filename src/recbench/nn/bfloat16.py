"""bfloat16 where the processor computes in it, and what to do where it would emulate it.

Older processors, among them those of most laptops, have no products in bfloat16. torch then computes them all the same, at a fraction of the speed:
1.3 GFLOP/s where the same product in float32 makes 77 (AMD EPYC of 2021, one thread). There weights that are kept in bfloat16 are multiplied
as float32. The weights are the same numbers; what is made of them is rounded less often.
"""

from __future__ import annotations

import logging
import os
from functools import cache

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def has_fast_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 matrix products are native there: an AVX512-BF16 or AMX processor, or a GPU of compute capability 8 or more.

    A processor that ONEDNN_MAX_CPU_ISA keeps to older instructions, such as AVX2, is one without them.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    if device_type == "cpu" and not any(word in allowed.upper() for word in ("ALL", "DEFAULT", "BF16", "FP16", "AMX")):
        return False
    return _has_bfloat16(device_type)


@cache
def _has_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def is_emulated(device_type: str, dtype: torch.dtype) -> bool:
    """Whether products of this type on this device are bfloat16 on a processor without it."""
    return dtype == torch.bfloat16 and device_type == "cpu" and not has_fast_bfloat16("cpu")


def product(left: Tensor, right: Tensor) -> Tensor:
    """left [..., K] @ right [K, M] in their own type, through float32 where it would be emulated."""
    if is_emulated(left.device.type, left.dtype):
        return (left.float() @ right.float()).to(left.dtype)
    return left @ right


def as_float32(module: nn.Module) -> None:
    """Keep a module's bfloat16 weights as the float32 numbers that they are, in place, and say so once."""
    narrow = [p for p in module.parameters() if p.dtype == torch.bfloat16]
    _say(sum(p.numel() for p in narrow))
    with torch.inference_mode(False), torch.no_grad():  # weights made in inference mode could not be trained with
        module.float()


@cache
def _say(n_weights: int) -> None:
    logger.info(
        "this processor has no products in bfloat16: %.1f M weights are computed with as float32, in %d MB more",
        n_weights / 1e6, 2 * n_weights // 2**20,
    )  # fmt: skip
