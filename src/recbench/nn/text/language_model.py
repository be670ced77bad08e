"""Item vectors by a language model through transformers: the mean of its last states over the real tokens of a text.

Any encoder of sentence-transformers or T5's own, by hub name or as a folder. Of a T5 the encoder alone is built. Layers that a
sentence-transformers folder has behind the pooling (``2_Dense`` of the Sentence-T5s) are not applied.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbench.core.errors import UserError
from recbench.data.text_config import TextConfig
from recbench.nn.language.pretrained import few_words, first_line, first_position

logger = logging.getLogger(__name__)

#: What is fetched of a hub repository: configs, tokenizer, weights as safetensors.
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
#: What of a folder decides the vectors.
DECISIVE = ("config.json", "*.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "*.model")
#: transformers' names for models of which the encoder alone is wanted -> its class.
T5_ENCODERS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}


def model_folder(name: str) -> Path:
    """The folder of a model: a local one, or the hub's in its cache, fetched if it is not there. Raises UserError if that fails."""
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise UserError(f"data.text.encoder={name} holds no config.json; {_how(name)}")
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with few_words():
            return Path(snapshot_download(name, allow_patterns=WANTED))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(f"cannot get the text encoder '{name}' ({first_line(error)}); {_how(name)}") from error


def _how(name: str) -> str:
    return (
        "without a network, put config.json, the tokenizer's files and the safetensors weights into a folder and set "
        "data.text.encoder to its path, or use data.text.encoder=tfidf_svd"
    )


def decisive_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide its vectors, by name."""
    return sorted({path for pattern in DECISIVE for path in folder.glob(pattern)})


@torch.no_grad()
def encoded(texts: Sequence[str], config: TextConfig, device: torch.device) -> np.ndarray:
    """[N, D] float32; 0 for a text without a token. Texts are cut at ``config.max_tokens``.

    Raises UserError if the model cannot be read, reads fewer positions, or gives a state that is not finite.
    """
    tokenizer, model = _read(model_folder(config.encoder), config)
    model = model.to(device).eval()
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    order = [i for i in order if texts[i].strip()]
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    said = 0
    for first in range(0, len(order), config.batch_size):
        chosen = order[first : first + config.batch_size]
        taken = tokenizer(
            [texts[i] for i in chosen],
            padding=True,
            truncation=True,
            max_length=config.max_tokens,
            return_tensors="pt",
        )
        real = taken["attention_mask"].to(device)
        states = model(input_ids=taken["input_ids"].to(device), attention_mask=real).last_hidden_state.float()
        mean = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        out[chosen] = mean.cpu().numpy()
        if 10 * (first + len(chosen)) // len(order) > said:
            said = 10 * (first + len(chosen)) // len(order)
            logger.info("text: %d of %d items encoded", first + len(chosen), len(order))
    if not np.isfinite(out).all():
        raise UserError(f"the text encoder '{config.encoder}' gives NaN or infinity; set data.text.precision=float32")
    return out


def _read(folder: Path, config: TextConfig) -> tuple[Any, Any]:
    """(tokenizer, model without its head)."""
    import transformers

    try:
        with few_words():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            kind = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
            build = getattr(transformers, T5_ENCODERS.get(kind, "AutoModel"))
            model, found = build.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=getattr(torch, config.precision),
                output_loading_info=True,
            )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"cannot read the text encoder '{config.encoder}' ({first_line(error)}); {_how(config.encoder)}"
        ) from error
    lost = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if lost:
        raise UserError(f"the text encoder '{config.encoder}' holds no weights for {', '.join(lost[:3])}")
    if getattr(model.config, "is_encoder_decoder", False) and kind not in T5_ENCODERS:
        model = model.get_encoder()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions and positions - first_position(model) < config.max_tokens:
        raise UserError(
            f"the text encoder '{config.encoder}' reads {positions - first_position(model)} positions; lower data.text.max_tokens={config.max_tokens}"
        )
    return tokenizer, model
