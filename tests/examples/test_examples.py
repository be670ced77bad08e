"""Every package in ``examples/`` is built and installed as a wheel beside the wheel of recbench, in a fresh environment, and passes its own tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))
KINDS = {"models", "data_sources", "protocols", "metrics", "distillation", "auxiliaries", "commands"}

pytestmark = pytest.mark.slow


def call(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def entries(example):
    return tomllib.loads((example / "pyproject.toml").read_text())["project"]["entry-points"]


def test_there_is_an_example_of_every_kind():
    assert {group for example in EXAMPLES for group in entries(example)} == {f"recbench.{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """(python, its environment variables): recbench and all examples installed from wheels, our dependencies borrowed from here."""
    place = tmp_path_factory.mktemp("examples")
    for source in (ROOT, *EXAMPLES):
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place / "wheels", source)
    venv.create(place / "env", with_pip=False)
    python = place / "env" / "bin" / "python"
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    wheels = sorted((place / "wheels").glob("*.whl"))
    call(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", packages, *wheels)  # fmt: skip
    # A folder named in a .pth file is searched last, and its own .pth files, among them the one of an editable install, are not read.
    folders = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("\n".join(folders))
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return python, {**variables, "OMP_NUM_THREADS": "1", "RECBENCH_CACHE": str(place / "cache")}, packages


@pytest.fixture(scope="module")
def outcomes(environment, tmp_path_factory):
    """folder of an example -> the outcomes of its tests. One process for all, because imports are what costs."""
    python, variables, packages = environment
    place = tmp_path_factory.mktemp("tests")
    for example in EXAMPLES:
        shutil.copytree(example / "tests", place / example.name, ignore=shutil.ignore_patterns("__pycache__"))
    where = call(python, "-c", "import recbench; print(recbench.__file__)", cwd=place, env=variables).strip()
    assert Path(where) == packages / "recbench" / "__init__.py"
    words = (
        "-m",
        "pytest",
        "-rA",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "--no-header",
    )
    done = subprocess.run([python, *words, "."], cwd=place, env=variables, capture_output=True, text=True)
    found = {example.name: [] for example in EXAMPLES}
    for outcome, name in re.findall(
        r"^(PASSED|FAILED|ERROR|SKIPPED)[^\n]*? ([a-z_]+)/test_", done.stdout, re.MULTILINE
    ):
        found[name].append(outcome)
    return found, done.stdout


@pytest.mark.parametrize("example", [path.name for path in EXAMPLES])
def test_it_passes_its_own_tests_where_it_is_installed(outcomes, example):
    found, said = outcomes
    assert found[example], said[-3000:]
    assert set(found[example]) == {"PASSED"}, said[-6000:]
