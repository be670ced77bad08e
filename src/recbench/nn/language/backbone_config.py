"""The settings of a language model's first layers as a sequence encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

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
