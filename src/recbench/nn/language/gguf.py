"""Language models stored as one GGUF file, the form of llama.cpp: config, tokenizer and the first layers, through the package ``gguf``.

A GGUF file holds a whole model, most often with weights of a few bits. Its tensors are mapped into memory and turned into floating point one by
one as they are asked for, so that a layer that is not built is never read. transformers knows what the fields and tensors of a family are called
in it, and how their rows are ordered; its own loader turns all tensors of the file into floating point first.
"""

from __future__ import annotations

import copy
import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recbench.core.errors import UserError, first_line

ENDING = ".gguf"
#: What may be missing of a file: the vectors of tokens where no text goes in.
TOKENS = "token_embd.weight"


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a backbone's name means: the file itself, or the only one of a folder without config.json; None for another name.

    Raises UserError for a file that is not there, and for a folder with several.
    """
    path = Path(name).expanduser()
    if name.endswith(ENDING):
        if not path.is_file():
            raise UserError(f"model.backbone={name} is not there; give a GGUF file, or a folder that holds one")
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(path.glob(f"*{ENDING}"))
    if len(found) > 1:
        raise UserError(f"model.backbone={name} holds {len(found)} GGUF files; name one, as in {found[0]}")
    return found[0] if found else None


def source_of(name: str) -> tuple[str, dict[str, str]]:
    """(name or folder, further words) as ``from_pretrained`` of transformers takes them. Raises UserError as ``gguf_file``."""
    path = gguf_file(name)
    if path is None:
        local = Path(name).expanduser()
        return str(local) if local.is_dir() else name, {}
    check_file(path)
    return str(path.parent), {"gguf_file": path.name}


def check_file(path: Path) -> None:
    """Raise UserError, in one line, where the package is missing or the file is no GGUF, or ends too early."""
    if find_spec("gguf") is None:
        raise UserError(f"{path.name} needs the package gguf: pip install 'recbench[gguf]'")
    status = path.stat()
    _read(path, status.st_size, status.st_mtime_ns)


def read_gguf_config(path: Path) -> Any:
    """The transformers config of the model in a file. Raises UserError as ``check_file``."""
    check_file(path)
    status = path.stat()
    return copy.deepcopy(_read(path, status.st_size, status.st_mtime_ns)[0])


@functools.lru_cache(maxsize=4)
def _read(path: Path, size: int, changed: int) -> tuple[Any, dict[str, Any]]:
    """(transformers' config, its plain values). Cached, because all the words of the vocabulary are read for it, in seconds."""
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"{path} is no GGUF file (its first bytes are not 'GGUF'); fetch it again")
    try:
        values = load_gguf_checkpoint(str(path))["config"]
    except Exception as error:  # the reader stumbles over a cut or damaged file in any way
        raise UserError(
            f"{path} cannot be read as GGUF ({first_line(error)[:200]}); it may be cut off: fetch it again"
        ) from error
    try:
        found = AutoConfig.for_model(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: transformers does not know its kind of model ({first_line(error)[:200]})") from error
    return found, values


def load_first_layers(model: nn.Module, path: Path, tokens: bool) -> None:
    """Fill a model of the file's kind, which may have fewer layers, with the file's weights, in the precision of the model.

    ``tokens``: whether the vectors of tokens are read as well; they stay as they are otherwise. Raises UserError where the file lacks a weight
    or holds one of another shape.
    """
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    status = path.stat()
    values = _read(path, status.st_size, status.st_mtime_ns)[1]
    try:
        reader = GGUFReader(str(path))
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as GGUF ({first_line(error)[:200]}); it may be cut off: fetch it again"
        ) from error
    kind = str(reader.fields["general.architecture"].contents())
    processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(config=values)
    names = get_gguf_hf_weights_map(model, processor)
    wanted = {name: own for name, own in names.items() if tokens or name != TOKENS}
    targets = dict(model.named_parameters())
    missing = {own for own in wanted.values() if own in targets}
    for tensor in reader.tensors:
        if tensor.name not in wanted:
            continue
        done = processor.process(
            weights=_floats(tensor, path),
            name=tensor.name,
            tensor_key_mapping=names,
            parsed_parameters={"config": values, "tensors": {}},
        )
        own = wanted.get(done.name)
        if own not in targets:
            continue
        weights = torch.from_numpy(np.require(done.weights, requirements=["C", "W"]))
        if weights.shape != targets[own].shape:
            raise UserError(
                f"{path}: {tensor.name} is {tuple(weights.shape)} where the model has {tuple(targets[own].shape)}; fetch the file again"
            )
        with torch.no_grad():
            targets[own].copy_(weights)
        missing.discard(own)
    if missing:
        raise UserError(f"{path} holds no weights for {', '.join(sorted(missing)[:3])}; fetch the file again")


def _floats(tensor: Any, path: Path) -> np.ndarray:
    """A tensor of the file in float32."""
    from gguf import dequantize

    try:
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise UserError(
            f"{path}: weights of type {tensor.tensor_type.name} cannot be read by the package gguf"
        ) from error


def output_weights(path: Path) -> torch.Tensor | None:
    """[vocabulary, H] float32: what scores the next token; None where the file has nothing beside the vectors of tokens."""
    from gguf import GGUFReader

    for tensor in GGUFReader(str(path)).tensors:
        if tensor.name == "output.weight":
            return torch.from_numpy(_floats(tensor, path))
    return None


def weight_kinds(path: Path) -> dict[str, int]:
    """How many tensors the file has of each type, as in {"Q4_1": 210, "F32": 61}."""
    from gguf import GGUFReader

    found: dict[str, int] = {}
    for tensor in GGUFReader(str(path)).tensors:
        found[tensor.tensor_type.name] = found.get(tensor.tensor_type.name, 0) + 1
    return found
