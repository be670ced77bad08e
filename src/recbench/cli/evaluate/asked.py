"""What a run is asked: its own config, with the words of the command line laid over data, protocol and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from omegaconf import OmegaConf

from recbench.config.compose import composed, plain_mistakes
from recbench.config.run import RunConfig
from recbench.config.schemas import with_schema
from recbench.core.errors import UserError

#: What may be asked of a finished run; everything else was decided when it was made.
GROUPS = ("data", "protocol", "evaluation", "hardware")


def asked_config(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """The run's config with the words applied. ``data=NAME`` and ``protocol=NAME`` begin from that option's own values, other words change
    single keys of what the run has. Raises UserError for words that a finished run cannot be asked, and as the command line would."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if not value or not key:
            raise UserError(f"cannot read '{word}'; write key=value, as in protocol=temporal")
        if key.partition(".")[0] not in GROUPS:
            raise UserError(
                f"'{word}' would change a finished run; {', '.join(GROUPS[:-1])} and {GROUPS[-1]} can be asked anew, as in protocol=temporal"
            )
    chosen = {word.partition("=")[0] for word in words if "." not in word.partition("=")[0]}
    own = [f"{group}={getattr(config, group).name}" for group in ("data", "protocol") if group not in chosen]
    hardware = [] if "hardware" in chosen else ["hardware=cpu"]
    with plain_mistakes():
        everything = composed(("model=popularity", "tracking=off", *own, *hardware, *words))
        typed = RunConfig.from_hydra(everything)
        parts: dict[str, Any] = {"hardware": typed.hardware}
        for group in ("data", "protocol", "evaluation"):
            if group in chosen:
                parts[group] = getattr(typed, group)
                continue
            stored = getattr(config, group)
            node = (
                OmegaConf.structured(stored)
                if group == "evaluation"
                else with_schema(group, stored.name, asdict(stored))
            )
            for word in words:
                key = word.lstrip("+").partition("=")[0]
                if key.startswith(f"{group}."):
                    OmegaConf.update(node, key.removeprefix(f"{group}."), OmegaConf.select(everything, key))
            parts[group] = OmegaConf.to_object(node)
    asked = replace(config, **parts)
    asked.check()
    return asked
