"""The data sources by name. A source's module is imported when it is asked for, and imports no heavy library then."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from recbench.core.errors import UserError, nearest
from recbench.data.schema import DataConfig, RawData

#: name -> (module, name of its config class)
SOURCES = {
    "amazon": ("recbench.data.sources.amazon", "AmazonConfig"),
    "diginetica": ("recbench.data.sources.diginetica", "DigineticaConfig"),
    "retailrocket": ("recbench.data.sources.retailrocket", "RetailrocketConfig"),
    "session_file": ("recbench.data.sources.session_file", "SessionFileConfig"),
    "movielens": ("recbench.data.sources.movielens", "MovieLensConfig"),
    "synthetic": ("recbench.data.sources.synthetic", "SyntheticConfig"),
    "table": ("recbench.data.sources.table", "TableConfig"),
    "yoochoose": ("recbench.data.sources.yoochoose", "YoochooseConfig"),
}


class Source(NamedTuple):
    """A source: its config class, and what it can do (see ``recbench.data.schema``)."""

    config: type[DataConfig]
    read: Callable[[Any, Path, Path], RawData]
    locate: Callable[[Any, Path], dict[str, dict[str, Any]]] | None


def source_names() -> list[str]:
    return sorted(SOURCES)


def config_class(name: str) -> type[DataConfig]:
    """The config class of the source called ``name``. Raises UserError, with the nearest name, for an unknown one."""
    return lookup(name).config


def lookup(name: str) -> Source:
    """The source called ``name``. Raises UserError, with the nearest name, for an unknown one."""
    if name not in SOURCES:
        raise UserError(f"unknown data source '{name}'; {nearest(name, source_names())}")
    module_name, config_name = SOURCES[name]
    module = importlib.import_module(module_name)
    return Source(getattr(module, config_name), module.read, getattr(module, "locate", None))
