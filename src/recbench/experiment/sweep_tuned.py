"""Before a sweep starts: whether some of its models have values from a tuned file and others have none, which its table would not show fairly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from recbench.config.schemas import option_values
from recbench.config.tuned import is_shipped
from recbench.core.errors import UserError
from recbench.models.registry import lookup
from recbench.report.notes import unequal

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Groups whose choice decides which file is read by itself.
DECIDING = ("model", "data")


def tuned_alike(config: DictConfig) -> str | None:
    """The warning for a sweep, from its Hydra config, of which the groups that vary are known by their words; None where there is none to give."""
    chosen = options(config.hydra.overrides.task, ("tuned", *DECIDING))
    for group in DECIDING:
        chosen.setdefault(group, [str(config.hydra.runtime.choices.get(group))])
    if "tuned" in chosen:  # a file by name, or off, is the same for all
        return None
    pairs = list(product(*(chosen[group] for group in DECIDING)))
    with_file = [pair for pair in pairs if is_shipped("-".join(pair))]
    plain = [pair for pair in pairs if pair not in with_file and _is_trained(pair[0])]
    # Two data sets share no table.
    within = [pair for pair in plain if any(pair[1] == data for _, data in with_file)]
    several = len(chosen["data"]) > 1
    return unequal([f"{model} on {data}" if several else model for model, data in within]) if within else None


def options(words: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Group -> the options that the words of a command name for it, one or several of a sweep; without those that are not named."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found: dict[str, list[str]] = {}
    for word in OverridesParser.create().parse_overrides(list(words)):
        if word.key_or_group in groups and not word.is_delete():
            swept = word.is_discrete_sweep()
            found[word.key_or_group] = list(word.sweep_string_iterator()) if swept else [str(word.value())]
    return found


def _is_trained(option: str) -> bool:
    """Whether an option of ``model`` stands for a model with epochs; what is wrong with it is for its job to say."""
    try:
        return lookup(str(option_values("model", option).get("name", option))).model.trains_by_gradient
    except (UserError, OSError):
        return False
