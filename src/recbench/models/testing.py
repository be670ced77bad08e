"""The contract tests of a model, for whoever writes one. With pytest, three lines test a model of another package:

    from recbench.models.testing import contract_tests

    globals().update(contract_tests("mine", keys={"hidden_size": 16}))

or, where more is to be said, ``class TestMine(ModelContract)`` with ``name = "mine"``. The tests themselves are in
``recbench.experiment.model_contract``, because they train a whole run; they are fetched when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

_CONTRACT = "recbench.experiment.model_contract"
# So that a failed check shows the values that it compared.
pytest.register_assert_rewrite(f"{_CONTRACT}.contract")

__all__ = ["ModelContract", "contract_tests"]  # noqa: F822 (found by __getattr__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'recbench.models.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{_CONTRACT}.contract"), name)
