"""Config fields that came when runs and prepared data were there already.

Such a field says so with ``field(default=..., metadata=LATER)``. At its default it enters no key, neither of prepared data nor of a run, so that
what was made before there was such a field keeps its key.
"""

from __future__ import annotations

from dataclasses import MISSING, Field
from typing import Any

LATER = {"later": True}


def enters_no_key(part: Field[Any], value: Any) -> bool:
    """Whether a field with this value is to be left out: it is marked LATER and at its default."""
    if not part.metadata.get("later"):
        return False
    return bool(value == (part.default if part.default_factory is MISSING else part.default_factory()))
