"""A data config whose addresses (s3://, gs://, az://, hf://) are replaced by files of this disk, fetched when they are asked for.

Each function fetches what one reader reads: the events, the vectors, the graph, the users, the texts' vectors. A run's folder keeps the address.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.data.schema import DataConfig
from recbench.data.sources import lookup
from recbench.data.sources.object_store import base_address, is_address, local_files, mirrored, under
from recbench.data.text_config import TextConfig

#: Settings that name files of events and items, of those sources that have them.
FILES = ("path", "items_path", "train", "test")


def local_config(config: DataConfig, cache_dir: Path) -> DataConfig:
    """With the files of events and items on this disk. Raises UserError for an address that cannot be reached, or that the source does not take."""
    base = base_address(config)
    if base is not None and (wants := lookup(config.name).raw_files):
        return replace(config, raw_dir=str(mirrored(base, wants(config), cache_dir, "data.raw_dir")))
    named = {part.name for part in fields(config)}
    changed = {
        name: local_files(getattr(config, name), base, cache_dir, f"data.{name}")
        for name in FILES
        if name in named and isinstance(getattr(config, name), str | list | tuple)
    }
    parts: Any = getattr(config, "parts", None)
    if parts is not None:
        files = {name: local_files(f, base, cache_dir, f"data.parts.{name}") for name, f in parts.files().items()}
        changed["parts"] = replace(parts, **files)
    meta = getattr(config, "meta", None)
    if meta is not None and (base is not None or is_address(meta)):
        raise UserError("data.meta names files that lie beside it: copy their folder to this machine and name it there")
    if base is not None and not any(name in named for name in FILES):
        raise UserError(
            f"data={config.name} does not say which files it reads, so data.raw_dir cannot be an address; copy the folder to this machine"
        )
    return replace(config, raw_dir=None if base is not None else config.raw_dir, **changed)


def local_features(config: DataConfig, cache_dir: Path) -> DataConfig:
    """With the vectors of items on this disk, and the ids beside them."""
    files: dict[str, Any] = {
        kind: _with_ids(path, base_address(config), cache_dir, f"data.features.{kind}")
        for kind, path in config.features.files().items()
    }
    return replace(config, features=replace(config.features, **files))


def local_knowledge(config: DataConfig, cache_dir: Path) -> DataConfig:
    """With the triples, and what says which entity an item is, on this disk."""
    asked, base = config.knowledge, base_address(config)
    path = local_files(asked.path, base, cache_dir, "data.knowledge.path")
    items = local_files(asked.items, base, cache_dir, "data.knowledge.items")
    return replace(config, knowledge=replace(asked, path=path, items=items))


def local_users(config: DataConfig, cache_dir: Path) -> DataConfig:
    """With the table of users on this disk; with the source's own files, where it is these that tell of the users."""
    if not config.users.path:
        return local_config(config, cache_dir) if "user_file" in lookup(config.name).beside else config
    path = local_files(config.users.path, base_address(config), cache_dir, "data.users.path")
    return replace(config, users=replace(config.users, path=path))


def local_texts(config: TextConfig, cache_dir: Path) -> TextConfig:
    """With the vectors of texts on this disk."""
    if not is_address(config.path):
        return config
    return replace(config, path=_with_ids(str(config.path), None, cache_dir, "data.text.path"))


def _with_ids(path: str, base: str | None, cache_dir: Path, key: str) -> str:
    """A file of vectors; of a .npy also the file of the same name with the ids, where there is one."""
    address = under(base, path)
    if not is_address(address):
        return path
    folder, _, name = address.rpartition("/")
    ids = name.removesuffix(".gz").removesuffix(".npy") + ".txt"
    beside = [[[[ids]]]] if ".npy" in name else []
    return str(mirrored(folder, [[[[name]]], *beside], cache_dir, key) / name)
