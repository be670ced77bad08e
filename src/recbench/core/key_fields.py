"""Which fields of a config enter a key, of a run as of prepared data. A field says so in its metadata; the default is that it does.

``LATER``: it came when runs and prepared data were there already. At its default it stays out, so that what was made before keeps its key.
``NO_KEY``: it changes no result beyond rounding, such as where something is kept, and always stays out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, Field
from typing import Any

LATER = {"later": True}
NO_KEY = {"no_key": True}


def enters_no_key(part: Field[Any], value: Any) -> bool:
    """Whether a field with this value is to be left out: it is marked NO_KEY, or LATER and at its default."""
    if part.metadata.get("no_key"):
        return True
    if not part.metadata.get("later"):
        return False
    return bool(value == (part.default if part.default_factory is MISSING else part.default_factory()))


def key_values(config: Any) -> dict[str, Any]:
    """The fields of a config dataclass as they enter a key, those of a dataclass within it too."""
    values = dataclasses.asdict(config)
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if enters_no_key(entry, value):
            del values[entry.name]
        elif dataclasses.is_dataclass(value):
            values[entry.name] = key_values(value)
    return values
