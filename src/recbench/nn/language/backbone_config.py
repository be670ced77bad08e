"""The settings of a language model's first layers as a sequence encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from recbench.core.errors import UserError

INITS = ("pretrained", "random", "random_frozen")
PRECISIONS = ("float32", "bfloat16", "int8")
PROMPTS = ("none", "text", "learned")


@dataclass
class BackboneConfig:
    """Which backbone, how deep, in which precision, which of its weights learn, and what stands around the items."""

    backbone: str = "tiny"
    n_layers: int = 4
    init: str = "pretrained"
    precision: str = "float32"
    tiny_hidden_size: int = 128
    tiny_n_heads: int = 4
    tiny_feedforward_size: int = 256
    lora_rank: int = 16
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_targets: list[str] = field(default_factory=list)
    prompt: str = "none"
    prompt_prefix: str = "### Instruction:\nGiven the user's purchase history, predict next possible item to be purchased.\n\n### Input:\n"
    prompt_suffix: str = "\n### Response:\n"
    prompt_lengths: list[int] = field(default_factory=lambda: [63, 6])


def is_frozen(config: BackboneConfig) -> bool:
    """Whether the backbone's own weights stay as they are, and adapters learn in their place."""
    if config.init == "random_frozen":
        return True
    return config.backbone != "tiny" and config.init == "pretrained" and config.lora_rank > 0


def check_precision(config: BackboneConfig) -> None:
    """Raise UserError for a precision that these weights cannot have, or whose package is missing."""
    if config.precision == "float32":
        return
    if not is_frozen(config):
        raise UserError(
            f"model.precision={config.precision} is for weights that stay frozen, and this backbone's own weights are trained; set "
            "model.precision=float32, or name a pretrained backbone with model.lora_rank above 0"
        )
    if config.precision != "int8":
        return
    if config.init != "pretrained":
        raise UserError("model.precision=int8 is made of stored weights: model.init must be pretrained")
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "model.precision=int8 needs bitsandbytes: pip install 'recbench[int8]', or set model.precision=bfloat16"
        )
