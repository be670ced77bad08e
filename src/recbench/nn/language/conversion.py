"""A GGUF file turned once into a folder as transformers stores models: config, tokenizer, and the weights in bfloat16 as safetensors.

Such a folder opens in a fraction of the time, since transformers maps it into memory and takes the first layers only. Its ``source.json`` says
which file it was made of, so that a run on it has the same key wherever the folder lies.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from recbench.core.disk import disk_errors, whole_folder
from recbench.core.errors import UserError, first_line
from recbench.nn.language.gguf import check_file, gguf_file, load_first_layers, read_gguf_config, weight_kinds
from recbench.nn.language.pretrained import few_words, read_tokenizer

SOURCE = "source.json"
PRECISION = "bfloat16"


def convert(file: Path, folder: Path) -> dict[str, Any]:
    """Write the model of a GGUF file to ``folder``, which appears when it is complete. Returns what ``source.json`` says.

    Raises UserError for a file that is not there, cut off, or of a kind that transformers does not read.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    if not file.is_file():
        raise UserError(f"{file} is not there; give a GGUF file")
    check_file(file)
    about = {
        "file": file.name,
        "sha256": _sha256(file),
        "bytes": file.stat().st_size,
        "weights": weight_kinds(file),
        "precision": PRECISION,
    }
    with disk_errors(folder, "cache_dir"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as working:
            working.mkdir()
            try:
                with few_words():
                    with no_init_weights():
                        model = AutoModelForCausalLM.from_config(
                            read_gguf_config(file), dtype=getattr(torch, PRECISION), trust_remote_code=False
                        )
                    model.tie_weights()
                    load_first_layers(model, file, tokens=True)
                    model.save_pretrained(working)
                    read_tokenizer(str(file)).save_pretrained(working)
            except (ValueError, NotImplementedError, ImportError) as error:
                raise UserError(f"{file} cannot be converted ({first_line(error)})") from error
            (working / SOURCE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def read_source(folder: Path) -> dict[str, Any] | None:
    """What ``source.json`` of a converted folder says; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "sha256" in found else None


def identity(name: str, file_hash: Any) -> str:
    """What stands for a backbone in the key of a run: of a GGUF file, or a folder made of one, its content, wherever it lies; else its name.

    ``file_hash(path)`` gives the SHA-256 of a file.
    """
    path = gguf_file(name)
    if path is not None:
        return f"gguf:{file_hash(path)}"
    about = read_source(Path(name).expanduser())
    return name if about is None else f"gguf:{about['sha256']}:{about['precision']}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
