"""``import recbench``: light, complete, typed, and no name that a room could take."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from inspect import getdoc, isclass, isfunction, ismodule, signature
from pathlib import Path

import pytest

import recbench

FUNCTIONS = ("run", "sweep", "results", "load", "load_data", "compare_runs", "run_study")


def python(source):
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_nothing_heavy():
    """Neither does asking what there is, nor naming UserError."""
    loaded = python(
        "import sys, json; before = set(sys.modules)\n"
        "import recbench; dir(recbench); recbench.UserError, recbench.__version__\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    heavy = {"torch", "hydra", "omegaconf", "numpy", "polars", "mlflow", "pytorch_lightning", "transformers", "rich"}
    assert heavy & set(loaded) == set()


def test_no_module_takes_the_place_of_a_function():
    """Importing ``recbench.x`` sets the attribute ``x``: so no function may be called like a module at the top of the package."""
    rooms = {module.name for module in pkgutil.iter_modules(recbench.__path__)}
    assert rooms & set(recbench.__all__) == set()
    for module in pkgutil.walk_packages(recbench.__path__, "recbench."):
        if module.name != "recbench.__main__":  # it runs the command line
            importlib.import_module(module.name)
    assert [name for name in FUNCTIONS if not isfunction(getattr(recbench, name))] == []
    assert [name for name in recbench.__all__ if ismodule(getattr(recbench, name))] == []


@pytest.mark.parametrize("name", recbench.__all__)
def test_every_name_is_there_and_documented(name):
    found = getattr(recbench, name)
    assert name in dir(recbench)
    assert len(getdoc(found)) > 40
    if isfunction(found):
        hints = signature(found)
        assert all(part.annotation is not part.empty for part in hints.parameters.values())
        assert hints.return_annotation is not hints.empty
    if isclass(found):
        public = [part for part in vars(found).items() if not part[0].startswith("_") and isfunction(part[1])]
        assert [name for name, part in public if not getdoc(part)] == []


def test_functions_are_all_that_is_promised():
    assert {name for name in recbench.__all__ if isfunction(getattr(recbench, name))} == set(FUNCTIONS)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="recbench' has no attribute 'runn'"):
        _ = recbench.runn
    with pytest.raises(ImportError):
        from recbench import runn  # noqa: F401


def test_the_package_says_that_it_is_typed():
    assert (Path(find_spec("recbench").submodule_search_locations[0]) / "py.typed").is_file()


def test_the_version_is_that_of_the_distribution():
    assert recbench.__version__ == distribution("recbench").version
