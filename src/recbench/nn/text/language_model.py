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
from torch.nn.utils.rnn import pad_sequence

from recbench.core.errors import UserError, first_line
from recbench.core.pace import Pace
from recbench.data.text_config import TextConfig
from recbench.nn.bfloat16 import as_float32, is_emulated
from recbench.nn.language.pretrained import few_words, files_of, first_position, hub_folder
from recbench.nn.text.length_buckets import by_length, tokens_at_once

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
    return hub_folder(name, WANTED, "text encoder", _how(name))


def _how(name: str) -> str:
    return (
        "without a network, put config.json, the tokenizer's files and the safetensors weights into a folder and set "
        "data.text.encoder to its path, or use data.text.encoder=tfidf_svd"
    )


def decisive_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide its vectors, by name."""
    return files_of(folder, DECISIVE)


@torch.no_grad()
def encoded(texts: Sequence[str], config: TextConfig, device: torch.device) -> np.ndarray:
    """[N, D] float32; 0 for a text without a token. Texts are cut at ``config.max_tokens``.

    Raises UserError if the model cannot be read, reads fewer positions, or gives a state that is not finite.
    """
    tokenizer, model = _read(model_folder(config.encoder), config)
    model = model.to(device).eval()
    if is_emulated(device.type, model.dtype):
        as_float32(model)
    # Each different text once, those of like length together.
    different = sorted({text for text in texts if text.strip()})
    taken = _tokens(tokenizer, different, config.max_tokens)
    vectors = np.zeros((len(different), model.config.hidden_size), dtype=np.float32)
    lengths = torch.tensor([len(ids) for ids in taken], dtype=torch.int64)
    done, read, pace = 0, 0, Pace(int(lengths.sum()))
    at_once = min(config.batch_size * config.max_tokens, tokens_at_once(device))
    for chosen in by_length(lengths, at_once):
        ids = pad_sequence([torch.tensor(taken[i]) for i in chosen.tolist()], batch_first=True)
        real = (torch.arange(ids.shape[1]) < lengths[chosen, None]).to(device)
        ids = ids.to(device).masked_fill(~real, tokenizer.pad_token_id or 0)
        states = model(input_ids=ids, attention_mask=real.long()).last_hidden_state.float()
        mean = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        vectors[chosen.numpy()] = mean.cpu().numpy()
        done, read = done + len(chosen), read + int(lengths[chosen].sum())
        if pace.due(read):
            left = pace.left(read)
            logger.info("%s of %s different texts encoded, about %s left", f"{done:,}", f"{len(different):,}", left)
    place = {text: row for row, text in enumerate(different)}
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    named = [row for row, text in enumerate(texts) if text in place]
    out[named] = vectors[[place[texts[row]] for row in named]]
    if not np.isfinite(out).all():
        raise UserError(f"the text encoder '{config.encoder}' gives NaN or infinity; set data.text.precision=float32")
    return out


def _tokens(tokenizer: Any, texts: list[str], most: int) -> list[list[int]]:
    """The tokens of each text, cut at ``most``, with whatever the tokenizer puts around them."""
    if not texts:
        return []
    return [ids or [0] for ids in tokenizer(texts, truncation=True, max_length=most)["input_ids"]]


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
