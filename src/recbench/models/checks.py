"""What configs of models are checked for: numbers within their bounds, words that are known. All raise UserError that names the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recbench.core.errors import UserError, nearest


def check_counts(config: Any, *names: str) -> None:
    """Raise UserError for a number of a model config that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise UserError(f"model.{name} must be at least 1, not {getattr(config, name)}")


def check_sizes(config: Any, *sizes: str) -> None:
    """Raise UserError for a size of a model config that is below 1, or a dropout outside [0, 1)."""
    check_counts(config, *sizes)
    if not 0 <= config.dropout < 1:
        raise UserError(f"model.dropout must lie between 0 and 1, not {config.dropout:g}")


def check_heads(config: Any) -> None:
    """Raise UserError for a hidden size that cannot be split evenly among the heads of attention."""
    if config.hidden_size % config.n_heads:
        raise UserError(f"model.hidden_size={config.hidden_size} is not a multiple of model.n_heads={config.n_heads}")


def check_choices(config: Any, choices: Mapping[str, tuple[str, ...]], where: str = "model") -> None:
    """Raise UserError for a key of a model config, or of a part of it that lies at ``where``, that has none of its known values."""
    for key, known in choices.items():
        if (value := getattr(config, key)) not in known:
            raise UserError(f"unknown {where}.{key} '{value}'; {nearest(value, known)}")


def check_number(
    key: str,
    value: float,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise UserError for a number that is not finite or lies outside its bounds; ``above`` and ``below`` are not reached themselves."""
    if math.isfinite(value) and least <= value <= most and above < value < below:
        return
    bounds = [("at least", least), ("above", above), ("at most", most), ("below", below)]
    said = " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))
    raise UserError(f"{key} must be a number {said}, not {value:g}")


def check_share(key: str, value: float, below: bool = False) -> None:
    """Raise UserError for a number outside 0 .. 1; below: 1 itself is refused too."""
    if not (0 <= value < 1 if below else 0 <= value <= 1):
        raise UserError(f"model.{key}={value:g} must lie between 0 and {'below ' if below else ''}1")
