"""What the settings of several probes are checked for."""

from __future__ import annotations

from typing import Any

from recbench.core.errors import UserError


def check_least(settings: Any, **least: int) -> None:
    """Raise UserError for a number of the settings that is below its least value."""
    for key, value in least.items():
        if getattr(settings, key) < value:
            raise UserError(f"{key}={getattr(settings, key)} must be at least {value}")
