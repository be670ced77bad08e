"""What a person calls a run: its model, what sets it apart at a glance, and its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbench.posthoc.compression.configs import config_class

#: Models whose depth is what their studies compare.
NAMED_BY_DEPTH = ("slmrec", "e4srec")
#: Words that a name says already, by themselves or through what they choose.
TOLD = ("model", "seed", "distillation", "compression", "model.auxiliary")
#: Words that change no result.
SILENT = ("tracking", "hardware", "runs_dir", "cache_dir", "hydra")


def run_name(config: Mapping[str, Any], varied: Sequence[str] = ()) -> str:
    """The name of a run by its stored config. varied: words of the command line that tell it from its neighbours in a sweep.

    >>> run_name({"model": {"name": "sasrec"}, "seed": 2})
    'sasrec seed 2'
    >>> config = {"model": {"name": "slmrec", "n_layers": 4}, "distillation": {"name": "logits"}, "seed": 1}
    >>> run_name(config, ["seed=1", "training.lr=0.01"])
    'slmrec (4 layers, logits distillation, lr=0.01) seed 1'
    """
    model, distillation = config["model"], config.get("distillation", {}).get("name", "none")
    compression = config.get("compression", {"name": "none"})
    by_depth = "n_layers" in model and model["name"] in NAMED_BY_DEPTH
    told = (*TOLD, "model.n_layers") if by_depth else TOLD
    details = (
        f"{model['n_layers']} layers" if by_depth else "",
        *model.get("auxiliary", []),
        f"{distillation} distillation" if distillation != "none" else "",
        config_class(compression["name"])(**compression).label,
        *(_short(word) for word in varied if _key(word) not in told and not is_silent(word)),
    )
    detail = ", ".join(filter(None, details))
    return model["name"] + (f" ({detail})" if detail else "") + f" seed {config['seed']}"


def is_silent(word: str) -> bool:
    """Whether a word of the command line says how and where a run computes, and not what.

    >>> is_silent("hardware.threads=2"), is_silent("hydra/launcher=joblib"), is_silent("training.lr=1")
    (True, True, False)
    """
    return _key(word).replace("/", ".").partition(".")[0] in SILENT


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _short(word: str) -> str:
    """``training.lr=0.01`` as ``lr=0.01``."""
    return _key(word).rpartition(".")[2] + "=" + word.partition("=")[2]
