"""Commands speak through a handler on the stderr of their test, which is gone after it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_messages() -> Iterator[None]:
    package = logging.getLogger("recbench")
    kept = list(package.handlers), package.level, package.propagate
    package.handlers.clear()
    yield
    package.handlers[:], package.propagate = kept[0], kept[2]
    package.setLevel(kept[1])
