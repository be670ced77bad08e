"""Data whose titles tell what comes next, for models that read titles."""

from __future__ import annotations

import pytest

from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from tests.fixtures.titles import CLUSTERED


@pytest.fixture(scope="module")
def prepared_of(own_cache):
    """prepared_of(sizes) -> (data, split) of generated histories."""

    def made(sizes):
        data = prepare(SyntheticConfig(**sizes), own_cache)
        return data, make_split(data, LeaveOneOutConfig(), None)

    return made


@pytest.fixture(scope="module")
def clustered(prepared_of):
    return prepared_of(CLUSTERED)
