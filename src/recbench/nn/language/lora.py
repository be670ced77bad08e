"""Low-rank adapters in a frozen backbone, through peft [Hu et al., ICLR 2022]."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import nn

from recbench.core.errors import UserError

if TYPE_CHECKING:
    from recbench.nn.language.backbone_config import BackboneConfig

#: The feed-forward projections of each family, which the paper adapts; others name theirs in ``model.lora_targets``.
FEEDFORWARD = (
    ("gate_proj", "up_proj", "down_proj"),
    ("gate_up_proj", "down_proj"),
    ("intermediate.dense", "output.dense"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("mlp.c_fc", "mlp.c_proj"),
    ("fc1", "fc2"),
)
#: In ``model.lora_targets``: every linear layer, those of attention among them, as LC-Rec's authors train.
ALL = "all"


def with_lora(model: Any, config: BackboneConfig) -> Any:
    """Freeze the model and add adapters (float32, whatever the model's precision) to the chosen linear layers.

    Raises UserError if a chosen layer is not there, listing those that are.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    chosen = _chosen(list(linear), config.lora_targets)
    if not chosen:
        present = sorted({name.split(".")[-1] if name[-1].isalpha() else name for name in linear})
        asked = config.lora_targets or "a known feed-forward layout"
        raise UserError(
            f"the backbone '{config.backbone}' does not have {asked}; its linear layers, for model.lora_targets: {', '.join(present)}"
        )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=chosen,
        bias="none",
        fan_in_fan_out=isinstance(linear[chosen[0]], Conv1D),
    )
    with warnings.catch_warnings():
        # peft asks transformers by an old name; nothing that a user could change.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, lora)


def _chosen(linear: list[str], asked: list[str]) -> list[str]:
    """Full names of the layers to adapt: those asked for, or the first feed-forward layout that is there. Empty if one is missing."""
    if asked == [ALL]:
        return linear
    for targets in (asked,) if asked else FEEDFORWARD:
        # A BERT calls the projection that ends attention "output.dense" as well.
        names = linear if asked else [name for name in linear if "attention" not in name]
        found = [[name for name in names if f".{name}".endswith(f".{target}")] for target in targets]
        if all(found):
            return [name for group in found for name in group]
    return []
