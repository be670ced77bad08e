"""Models by name, found without importing them: the table below says which module holds which name.

Another package adds models through the entry-point group ``recbench.models``: each entry is ``name = "package.module"``, a module
that registers that name when it is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from recbench.models.base import Recommender

#: Our own models by family, each in a module of its own name. Kept as strings so that listing names costs no import.
FAMILIES = {
    "counting": ("popularity", "recent_popularity", "markov", "itemknn", "ease"),
    "sequential": ("sasrec", "gru4rec", "bert4rec", "hstu", "lrurec", "mamba4rec", "tim4rec"),
    "session": ("srgnn", "gcsan", "tagnn", "gcegnn", "hicg"),
    "language": ("slmrec", "e4srec", "llmgr"),
    "generative": ("tiger", "lcrec", "rpg"),
    "tokenizers": ("rq_kmeans", "rvq", "rqvae", "opq", "sequential_ids", "collaborative_ids", "random_ids"),
}
#: name -> module that registers it.
BUILT_IN = {name: f"recbench.models.{family}.{name}" for family, names in FAMILIES.items() for name in names}


class Entry(NamedTuple):
    """What the registry holds of a model: its config dataclass and its class."""

    config: type
    model: type[Recommender]


_entries: dict[str, Entry] = {}


def register(name: str, config: type) -> Callable[[type], type]:
    """Class decorator: ``@register("sasrec", SASRecConfig)`` makes a Recommender known by name.

    Raises ValueError if the name is taken by another class.
    """

    def decorate(model: type) -> type:
        known = _entries.get(name)
        if known is not None and known.model.__qualname__ != model.__qualname__:
            raise ValueError(f"the model name '{name}' is registered twice: {known.model} and {model}")
        _entries[name] = Entry(config, model)
        return model

    return decorate


@cache
def _modules() -> dict[str, str]:
    outside = {point.name: point.value for point in entry_points(group="recbench.models")}
    return {**outside, **BUILT_IN}


def model_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({**_modules(), **_entries})


def lookup(name: str) -> Entry:
    """The entry of a model, importing its module on first use. Raises UserError, with a hint, for an unknown name."""
    if name not in _entries:
        if name not in _modules():
            raise UserError(f"unknown model '{name}'; {nearest(name, model_names())}")
        importlib.import_module(_modules()[name])
    return _entries[name]
