"""The data sources by name. A source's module is imported when it is asked for, and imports no heavy library then.

Another package adds sources through the entry-point group ``recbench.data_sources``: each entry is ``name = "package.module:Config"``, the
config class in a module that has ``read`` and perhaps ``locate`` (``recbench.data.schema``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from recbench.core.errors import UserError, nearest
from recbench.core.plug_ins import PlugIns
from recbench.data.schema import DataConfig, RawData
from recbench.data.sources.object_store import Wants

#: name -> (module, name of its config class)
SOURCES = {
    "amazon": ("recbench.data.sources.amazon", "AmazonConfig"),
    "diginetica": ("recbench.data.sources.diginetica", "DigineticaConfig"),
    "retailrocket": ("recbench.data.sources.retailrocket", "RetailrocketConfig"),
    "session_file": ("recbench.data.sources.session_file", "SessionFileConfig"),
    "impressions": ("recbench.data.sources.impressions", "ImpressionsConfig"),
    "movielens": ("recbench.data.sources.movielens", "MovieLensConfig"),
    "synthetic": ("recbench.data.sources.synthetic", "SyntheticConfig"),
    "table": ("recbench.data.sources.table", "TableConfig"),
    "yoochoose": ("recbench.data.sources.yoochoose", "YoochooseConfig"),
}
#: What a module may offer beside the events (see ``recbench.data.schema``).
BESIDE_EVENTS = ("item_features", "knowledge", "user_table", "user_file", "impressions")
PLUG_INS = PlugIns("recbench.data_sources", "data source", SOURCES)


class Source(NamedTuple):
    """A source: its config class, and what it can do (see ``recbench.data.schema``)."""

    config: type[DataConfig]
    read: Callable[[Any, Path, Path], RawData]
    locate: Callable[[Any, Path], dict[str, dict[str, Any]]] | None
    #: Of the rules by which it reads: ``READING`` of its module, which is raised where files may be read otherwise than before.
    reading: int = 1
    #: Those of BESIDE_EVENTS that its module has, by name.
    beside: Mapping[str, Callable[..., Any]] = MappingProxyType({})
    #: Which files of ``data.raw_dir`` it reads, where it says so: they are fetched where that is an address.
    raw_files: Callable[[Any], Wants] | None = None


def source_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({*SOURCES, *PLUG_INS.names()})


def config_class(name: str) -> type[DataConfig]:
    """The config class of the source called ``name``. Raises UserError, with the nearest name, for an unknown one."""
    return lookup(name).config


def lookup(name: str) -> Source:
    """The source called ``name``.

    Raises UserError, with the nearest name, for an unknown one, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name in SOURCES:
        module_name, config_name = SOURCES[name]
        module = importlib.import_module(module_name)
        config = getattr(module, config_name)
    elif name in PLUG_INS:
        config = PLUG_INS.load(name)
        module = importlib.import_module(PLUG_INS.point(name).module)
        if not (isinstance(config, type) and issubclass(config, DataConfig) and hasattr(module, "read")):
            raise PLUG_INS.refusal(name, "is no DataConfig in a module with a function read")
    else:
        raise UserError(f"unknown data source '{name}'; {nearest(name, source_names())}")
    beside = {kind: getattr(module, kind) for kind in BESIDE_EVENTS if hasattr(module, kind)}
    return Source(
        config,
        module.read,
        getattr(module, "locate", None),
        getattr(module, "READING", 1),
        beside,
        getattr(module, "raw_files", None),
    )
