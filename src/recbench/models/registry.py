"""Models by name, found without importing them: the table below says which module holds which name.

Another package adds models through the entry-point group ``recbench.models``: each entry is ``name = "package.module"``, a module
that registers that name when it is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from recbench.core.errors import UserError, nearest
from recbench.core.plug_ins import PlugIns

if TYPE_CHECKING:
    from recbench.models.base import Recommender

#: Our own models by family, each in a module of its own name. Kept as strings so that listing names costs no import.
FAMILIES = {
    "counting": ("popularity", "recent_popularity", "markov", "itemknn", "ease", "next_number"),
    "collaborative": ("gfcf", "ials", "bpr_mf", "lightgcn", "multivae", "freedom", "bm3", "dgvae", "kgat", "diffkg"),
    "sequential": ("sasrec", "gru4rec", "bert4rec", "hstu", "lrurec", "mamba4rec", "tim4rec", "dt4rec", "onepiece"),
    "session": ("srgnn", "gcsan", "tagnn", "gcegnn", "hicg"),
    "target": ("din", "tin", "dare", "qin"),
    "clicks": ("click_rate", "lr", "fm", "deepfm", "dcn_v2", "apem", "ihas_search", "ihas", "reloop2"),
    "language": (
        "slmrec",
        "e4srec",
        "rec_lora",
        "llmgr",
        "prompted",
        "llamarec",
        "x_cross",
        "mllm_msr",
        "lite_llm4rec",
        "hllm",
        "bigrec",
        "recformer",
        "easyrec",
        "notellm2",
        "text_table",
    ),
    "generative": ("tiger", "p5", "lcrec", "rpg", "preference"),
    "selection": (
        "select_random",
        "select_holdout",
        "select_dealrec",
        "select_denoise",
        "select_propensity",
        "select_reward",
    ),
    "tokenizers": ("rq_kmeans", "rvq", "rqvae", "opq", "sequential_ids", "collaborative_ids", "random_ids"),
}
#: name -> module that registers it.
BUILT_IN = {name: f"recbench.models.{family}.{name}" for family, names in FAMILIES.items() for name in names}
PLUG_INS = PlugIns("recbench.models", "model", BUILT_IN)


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


def model_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({*BUILT_IN, *PLUG_INS.names(), *_entries})


def lookup(name: str) -> Entry:
    """The entry of a model, importing its module on first use.

    Raises UserError, with a hint, for an unknown name, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name not in _entries:
        if name in BUILT_IN:
            importlib.import_module(BUILT_IN[name])
        elif name in PLUG_INS:
            PLUG_INS.load(name)
            if name not in _entries:
                raise PLUG_INS.refusal(name, "registers no model of that name")
        else:
            raise UserError(f"unknown model '{name}'; {nearest(name, model_names())}")
    return _entries[name]
