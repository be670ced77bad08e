"""The vector of each item's text, made once and kept beside the prepared data under a hash of all that decides it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recbench.core.disk import disk_errors, write_atomically
from recbench.core.errors import UserError
from recbench.data.download import hash_file
from recbench.data.local_files import local_texts
from recbench.data.text_config import FILE, TFIDF, TextConfig
from recbench.data.vector_file import HOW, ready_files, ready_vectors
from recbench.nn.text.language_model import decisive_files, encoded, model_folder
from recbench.nn.text.template import template_texts
from recbench.nn.text.tfidf import tfidf_svd

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

logger = logging.getLogger(__name__)

#: Raised whenever the same settings would give other vectors.
VECTORS_VERSION = 1


def text_key(config: TextConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the vectors besides the items: part of the key of every run that reads them.

    Models and files enter by the hashes of their content, so that it makes no difference where they lie. Raises UserError if one is not to
    be had.
    """
    parts: dict[str, Any] = {"version": VECTORS_VERSION, "normalise": config.normalise}
    if config.encoder == FILE:
        config = local_texts(config, cache_dir)
        return {**parts, "files": [_sha(path, cache_dir) for path in ready_files(str(config.path))]}
    parts["template"] = config.template
    if config.encoder == TFIDF:
        return {**parts, "encoder": TFIDF, "width": config.width}
    files = {path.name: _sha(path, cache_dir) for path in decisive_files(model_folder(config.encoder))}
    return {**parts, "files": files, "precision": config.precision, "max_tokens": config.max_tokens}


def _sha(path: Path, cache_dir: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path} is not there; give {HOW}")
    return str(hash_file(path, cache_dir)["sha256"])


def text_vectors(data: PreparedData, config: TextConfig, cache_dir: Path, device: torch.device) -> Tensor:
    """[n_items + 1, D] float32; row 0, and that of an item without text, is 0; others have length 1 if ``config.normalise``.

    Raises UserError for an encoder or a file that cannot be found or fetched.
    """
    key = text_key(config, cache_dir)
    texts: list[str] = []
    if config.encoder != FILE:
        texts, missing = template_texts(data, config.template)
        holes = ", ".join(f"{count:,} without {name}" for name, count in missing.items() if name != "text" and count)
        logger.info(
            "text: %s items, %s without any text%s",
            f"{data.n_items:,}",
            f"{missing['text']:,}",
            f" ({holes})" if holes else "",
        )
    path = data.folder / "text" / f"{_hash(key, texts, data)}.npy"
    if path.is_file():
        return torch.from_numpy(np.load(path, allow_pickle=False))
    started = time.perf_counter()
    if config.encoder == FILE:
        found, absent = ready_vectors(data, str(local_texts(config, cache_dir).path))
        logger.info("text: %s of %s items have no vector in the file", f"{absent:,}", f"{data.n_items:,}")
    else:
        found = tfidf_svd(texts, config.width) if config.encoder == TFIDF else encoded(texts, config, device)
    if config.normalise:
        length = np.linalg.norm(found, axis=1, keepdims=True)
        found = np.divide(found, length, out=np.zeros_like(found), where=length > 0)
    table = np.concatenate([np.zeros((1, found.shape[1]), dtype=np.float32), found.astype(np.float32)])
    _keep(path, table)
    logger.info("text: %d vectors of width %d in %.1f s", *found.shape, time.perf_counter() - started)
    return torch.from_numpy(table)


def _hash(key: dict[str, Any], texts: list[str], data: PreparedData) -> str:
    """Of the settings and the texts; of vectors from a file, the items."""
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=12)
    digest.update(json.dumps(texts or data.fingerprint).encode())
    return digest.hexdigest()


def _keep(path: Path, table: np.ndarray) -> None:
    """Written beside its place and renamed, so that a reader never sees half of it."""
    with disk_errors(path.parent, "cache_dir"):
        path.parent.mkdir(exist_ok=True)
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.save(file, table)
