"""What a named language model is made of: a hash of its files, wherever they lie, and a name that holds no place on a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.gguf import gguf_file
from recbench.nn.language.pretrained import files_of, hub_folder

#: The files that decide what a model writes. Not among them: generation_config.json, which is never read.
DECISIVE = (
    "config.json",
    "*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
#: What to do where a model cannot be fetched.
WITHOUT_A_NETWORK = (
    "without a network, set model.backbone to a folder that holds it (recbench language-model makes one)"
)


def model_content(config: BackboneConfig, file_hash: Callable[[Path], str]) -> str:
    """16 hexadecimal digits: of the weights, the tokenizer, and of what is built of them. file_hash(path): the SHA-256 of a file.

    Raises UserError for a model that cannot be had.
    """
    digest = hashlib.blake2b(digest_size=8)
    if config.backbone == "tiny":
        sizes = {key: value for key, value in asdict(config).items() if key.startswith("tiny_")}
        digest.update(repr(sorted(sizes.items())).encode())
    for path in _files(config.backbone):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    digest.update(f"{config.n_layers} {config.precision}".encode())
    return digest.hexdigest()


def plain_model_name(name: str) -> str:
    """A hub's name as it is, of a folder or a file its last part.

    >>> plain_model_name("HuggingFaceTB/SmolLM2-135M"), plain_model_name("~/models/mine.gguf")
    ('HuggingFaceTB/SmolLM2-135M', 'mine.gguf')
    """
    path = Path(name).expanduser()
    return path.name if path.exists() or path.is_absolute() or name.startswith(("~", ".")) else name


def _files(name: str) -> list[Path]:
    if name == "tiny":
        return []
    path = gguf_file(name)
    if path is not None:
        return [path]
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = hub_folder(name, DECISIVE, "language model", WITHOUT_A_NETWORK)
    return files_of(folder, DECISIVE)
