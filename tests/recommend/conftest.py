"""Every model that ranks, built small, as an opened run on the tiny data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from recbench.config import compose_model
from recbench.stage import Stage


def contract() -> ModuleType:
    """The contract tests, for their sizes and their way to build a model."""
    path = Path(__file__).resolve().parents[1] / "models" / "test_contract.py"
    spec = importlib.util.spec_from_file_location("models_contract", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def opened_of(tiny_data, tiny_split, run_config, tmp_path_factory):
    """opened_of("sasrec") -> Opened, with fresh weights where it would be trained."""
    from dataclasses import replace

    from recbench.recommend.opened import Opened

    known = contract()

    def build(name, **keys):
        sizes = {**known.SIZES.get(name, {}), **keys}
        model = known.build(name, tiny_data, tiny_split, sizes).requires_grad_(False)
        config = run_config(
            tmp_path_factory.getbasetemp(), "model=popularity", f"training.max_length={known.MAX_LENGTH}"
        )
        config = replace(config, model=compose_model({"model": name, **sizes}, "model", "none")[0])
        return Opened(f"{name}-0", config, Stage(tiny_data, tiny_split), model)

    return build
