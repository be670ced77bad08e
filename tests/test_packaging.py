"""The wheel: it carries ``conf/`` and runs where no checkout is near."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from recbench.config.schemas import GROUPS

ROOT = Path(__file__).resolve().parents[1]


def call(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (made,) = folder.glob("recbench-*.whl")
    return made


def test_the_wheel_carries_code_configuration_and_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    of_the_checkout = {f"recbench/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "recbench/conf/config.yaml" in of_the_checkout
    assert {name for name in names if name.endswith(".yaml")} == of_the_checkout
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "recbench/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "benchmarks", "conf/")) for name in names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """(python, environment) of an interpreter that has the wheel and our dependencies, but not this checkout."""
    place = tmp_path_factory.mktemp("installed")
    call(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", place / "site", wheel
    )  # fmt: skip
    venv.create(place / "env", with_pip=False)
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, but its own .pth files, among them the one of an editable install, are not read.
    folders = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("\n".join(folders))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return place / "env" / "bin" / "python", {**environment, "PYTHONPATH": str(place / "site")}, place / "site"


def test_an_installed_package_runs_from_any_folder(installed, tiny, tmp_path):
    python, environment, site = installed
    where = call(
        python, "-c", "import recbench; print(recbench.__file__)", cwd=tmp_path, env=environment
    ).stdout.strip()
    assert Path(where) == site / "recbench" / "__init__.py"
    done = call(python, "-m", "recbench", *tiny, "model=popularity", "tracking=off", cwd=tmp_path, env=environment)
    assert "popularity" in done.stdout
    assert "best achievable" in done.stdout
    (folder,) = (tmp_path / "runs").glob("popularity-*")
    assert (folder / "metrics.json").is_file()
    # It says that it is no checkout, rather than name a commit of the folder that it happens to lie in.
    assert '"commit": null' in (folder / "provenance.json").read_text()


def test_an_installed_package_offers_every_option(installed, tmp_path):
    python, environment, _ = installed
    shown = call(python, "-m", "recbench", "--help", cwd=tmp_path, env=environment).stdout
    options = [path.stem for group in GROUPS for path in (ROOT / "conf" / group).glob("*.yaml")]
    assert [option for option in options if option not in shown] == []
