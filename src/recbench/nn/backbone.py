"""A language model's first layers as a sequence encoder: item vectors in, a state after each layer out.

``tiny`` is a small Llama-style decoder with random weights that needs no download; any other name is read through transformers. Only
the first ``n_layers`` layers are built. The input is right-padded and attention causal, so a real position never sees a pad and
no attention mask is passed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from recbench.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class BackboneConfig:
    """Which backbone, how deep, and which of its weights learn."""

    backbone: str = "tiny"
    n_layers: int = 4
    init: str = "pretrained"
    tiny_hidden_size: int = 128
    tiny_n_heads: int = 4
    tiny_feedforward_size: int = 256
    lora_rank: int = 16
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_targets: list[str] = field(default_factory=list)


class Backbone(nn.Module):
    """[B, L, width] -> states after the input and after each layer, the last one after the final norm."""

    def __init__(self, config: BackboneConfig, max_length: int) -> None:
        super().__init__()
        if config.n_layers < 1:
            raise UserError(f"model.n_layers must be at least 1, not {config.n_layers}")
        if config.init not in ("pretrained", "random"):
            raise UserError(f"unknown model.init '{config.init}'; known: pretrained, random")
        if config.backbone == "tiny":
            self.frozen = False
            self.model = _tiny(config, max_length)
        else:
            self.frozen = config.init == "pretrained" and config.lora_rank > 0
            self.model = _from_transformers(config, max_length)
            if self.frozen:
                self.model = _with_lora(self.model, config)
        # Vectors go in, never tokens: the token table would get no gradient.
        self.model.get_input_embeddings().requires_grad_(False)
        self.width: int = self.model.config.hidden_size

    def forward(self, vectors: Tensor) -> list[Tensor]:
        output = self.model(inputs_embeds=vectors, output_hidden_states=True, use_cache=False)
        return list(output.hidden_states)


def _tiny(config: BackboneConfig, max_length: int) -> Any:
    from transformers import LlamaConfig, LlamaModel

    if config.tiny_hidden_size % (2 * config.tiny_n_heads):
        raise UserError(
            f"model.tiny_hidden_size={config.tiny_hidden_size} must be a multiple of twice model.tiny_n_heads={config.tiny_n_heads}"
        )
    return LlamaModel(
        LlamaConfig(
            vocab_size=1,  # no text goes in, so no token table is needed
            hidden_size=config.tiny_hidden_size,
            intermediate_size=config.tiny_feedforward_size,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.tiny_n_heads,
            num_key_value_heads=config.tiny_n_heads,
            max_position_embeddings=max(max_length, 32),
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _from_transformers(config: BackboneConfig, max_length: int) -> Any:
    """The first layers of a named model. Raises UserError if it cannot be had, is too shallow or too short."""
    from transformers import AutoConfig, AutoModel

    try:
        full = AutoConfig.from_pretrained(config.backbone)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the backbone '{config.backbone}' ({str(error).strip().splitlines()[0]}); "
            "without a network, put config.json and the safetensors weights into a folder and set model.backbone to its path"
        ) from error
    depth = getattr(full, "num_hidden_layers", None)
    if depth is None:
        raise UserError(
            f"the backbone '{config.backbone}' ({full.model_type}) has no layer count; name a decoder or a BERT-like encoder"
        )
    if config.n_layers > depth:
        raise UserError(
            f"the backbone '{config.backbone}' has {depth} layers, fewer than model.n_layers={config.n_layers}"
        )
    positions = getattr(full, "max_position_embeddings", None)
    if positions and positions < max_length:
        raise UserError(
            f"the backbone '{config.backbone}' reads {positions} positions, fewer than training.max_length={max_length}"
        )
    # A BERT-like encoder becomes causal as a decoder; its weights were trained without that mask.
    changes: dict[str, Any] = {"num_hidden_layers": config.n_layers}
    if hasattr(full, "is_decoder"):
        changes["is_decoder"] = True
    if config.init == "random":
        full.update(changes)
        return AutoModel.from_config(full)
    try:
        with _few_words():
            model, found = AutoModel.from_pretrained(
                config.backbone, use_safetensors=True, dtype="float32", output_loading_info=True, **changes
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights of '{config.backbone}' cannot be read ({str(error).strip().splitlines()[0]}); "
            "they must lie beside config.json as safetensors"
        ) from error
    if found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"]))
        logger.warning("'%s' holds no weights for %s; they start at random", config.backbone, missing)
    return model


@contextmanager
def _few_words() -> Iterator[None]:
    """Keep transformers from listing every weight of the layers that are left out, and from drawing bars into a file."""
    from transformers.utils import logging as speech

    level, bars = speech.get_verbosity(), speech.is_progress_bar_enabled()
    speech.set_verbosity_error()
    if not sys.stderr.isatty():
        speech.disable_progress_bar()
    try:
        yield
    finally:
        speech.set_verbosity(level)
        if bars:
            speech.enable_progress_bar()


#: The feed-forward projections of each family, which the paper adapts; others name theirs in ``model.lora_targets``.
FEEDFORWARD = (
    ("gate_proj", "up_proj", "down_proj"),
    ("intermediate.dense", "output.dense"),
    ("dense_h_to_4h", "dense_4h_to_h"),
)


def _with_lora(model: Any, config: BackboneConfig) -> Any:
    """Freeze the model and add low-rank adapters to the chosen linear layers. Raises UserError if none is found, listing what is."""
    from peft import LoraConfig, get_peft_model

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    present = sorted({name.split(".")[-1] if name[-1].isalpha() else name for name in linear})
    families = (config.lora_targets,) if config.lora_targets else FEEDFORWARD
    for targets in families:
        if targets and all(any(name.endswith(target) for name in linear) for target in targets):
            lora = LoraConfig(
                r=config.lora_rank,
                lora_alpha=config.lora_alpha,
                lora_dropout=config.lora_dropout,
                target_modules=list(targets),
                bias="none",
            )
            return get_peft_model(model, lora)
    asked = config.lora_targets or "a known feed-forward layout"
    raise UserError(
        f"the backbone '{config.backbone}' does not have {asked}; its linear layers, for model.lora_targets: {', '.join(present)}"
    )
