"""Vectors of items by kind (image, audio, text): read from files, or made by a source that knows some, in the numbers of prepared data.

    data.features.image=image.npy data.features.audio=audio.parquet data.features.text=titles data.features.shuffle=1

``text=titles`` is no file: those vectors are made of the items' texts (``recbench.nn.text.vectors``) by whoever builds the model. Where no key is
set, a source that knows vectors gives its own, as ``data=synthetic`` does. An item without a vector has 0; a file without a vector for any item,
with NaN, or with a number of rows that does not fit is refused. The vectors lie beside the prepared data under a hash of the files' content.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.data.beside import kept_arrays
from recbench.data.download import hash_file
from recbench.data.impressions import beside_values
from recbench.data.local_files import local_features
from recbench.data.schema import DataConfig, base_of
from recbench.data.sources import lookup
from recbench.data.vector_file import ready_files, ready_vectors

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

log = logging.getLogger(__name__)

#: Raised whenever the same files would give other vectors.
FEATURES_VERSION = 1


def has_features(config: DataConfig) -> bool:
    """Whether these data have vectors of items, apart from what texts could become."""
    return (
        config.features.reads_titles or bool(config.features.files()) or "item_features" in lookup(config.name).beside
    )


def features_key(config: DataConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the vectors besides the items, less those made of texts: part of the key of every run that reads them.

    Raises UserError for a file that is not there.
    """
    config = local_features(config, cache_dir)
    parts: dict[str, Any] = {"version": FEATURES_VERSION, "shuffle": config.features.shuffle}
    files = config.features.files()
    if not files and not config.features.reads_titles:
        return {**parts, "made_by": beside_values(config)}
    for kind in files:
        parts[kind] = [
            hash_file(path, cache_dir)["sha256"] for path in ready_files(*_place(config, kind), by_number=True)
        ]
    return parts


def item_features(data: PreparedData, config: DataConfig, cache_dir: Path) -> dict[str, np.ndarray]:
    """Kind -> [n_items + 1, D] float32, row 0 the pad's. Without those of ``text=titles``.

    Raises UserError for files that cannot be used. ``data.features.shuffle`` is the caller's matter (``shuffled_rows``), as texts are dealt out too.
    """
    files = config.features.files()
    if not files and config.features.reads_titles:
        return {}
    asked = {**features_key(config, cache_dir), "shuffle": None}

    def make() -> dict[str, np.ndarray]:
        if not files:
            made = lookup(config.name).beside["item_features"](config)
            return {kind: _padded(_in_order(data, *found)) for kind, found in made.items()}
        found, here = {}, local_features(config, cache_dir)
        for kind in files:
            path, key = _place(here, kind)
            vectors, absent = ready_vectors(data, path, key, by_number=True)
            log.info("%s: %s of %s items have no vector in %s", key, f"{absent:,}", f"{data.n_items:,}", path.name)
            found[kind] = _padded(vectors)
        return found

    return kept_arrays(data, "features", asked, make)


def shuffled_rows(n_items: int, seed: int | None) -> np.ndarray | None:
    """[n_items + 1] the item whose vectors each item gets, and 0 for the pad; None where they stay as they are."""
    if seed is None:
        return None
    return np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(n_items)])


def _place(config: DataConfig, kind: str) -> tuple[Path, str]:
    """(file of a kind, its key)."""
    return base_of(config) / Path(config.features.files()[kind]).expanduser(), f"data.features.{kind}"


def _in_order(data: PreparedData, ids: list[str], vectors: np.ndarray) -> np.ndarray:
    place = {name: row for row, name in enumerate(ids)}
    rows = np.array([place.get(name, -1) for name in data.item_table().sort("item_id")["item"].to_list()])
    return np.where(rows[:, None] >= 0, vectors[rows], 0.0).astype(np.float32)


def _padded(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors.astype(np.float32)])
