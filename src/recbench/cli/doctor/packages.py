"""Installed packages beside what recbench asks for, what was tested, and what each model and extra needs."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import recbench
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup, model_names

OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Need:
    """A distribution that is asked for. found: its version, None where it is missing; fits: found, and new enough."""

    name: str
    asked: str
    found: str | None
    fits: bool


@dataclass
class Extra:
    """A group of optional packages, and what mends it where some are missing."""

    name: str
    needs: list[Need]
    command: str = ""

    @property
    def missing(self) -> list[str]:
        return [need.name for need in self.needs if not need.fits]


@dataclass
class ModelReport:
    """A registered model. reads: what its data must offer; problem: why it cannot be used here, "" if it can; command: what mends it."""

    name: str
    reads: list[str] = field(default_factory=list)
    problem: str = ""
    command: str = ""


def core() -> list[Need]:
    """What recbench does not run without."""
    return [check(line) for line in requirements()[0]]


def extras() -> list[Extra]:
    """Every optional group that has something to do with use; not the tools of its developers."""
    found = []
    for name, lines in sorted(requirements()[1].items()):
        if name == "dev":
            continue
        extra = Extra(name, [check(line) for line in lines if not line.startswith("recbench[")])
        if extra.missing:
            extra.command = install(*(line for line in lines if check(line).name in extra.missing))
        found.append(extra)
    return found


def models() -> list[ModelReport]:
    """Every registered model, imported to see that it can be."""
    found = []
    for name in model_names():
        report = ModelReport(name)
        try:
            report.reads = sorted(_reads(name))
        except ImportError as error:
            report.problem = str(error).splitlines()[0]
            report.command = install(distribution(error.name)) if error.name else install()
        except Exception as error:  # a model of another package may break in any way; the others are still told of
            report.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        found.append(report)
    return found


def _reads(name: str) -> set[str]:
    """What data must offer for a model with its default config, and for the runs that it stands on."""
    entry = lookup(name)
    found = set(entry.model.requires)
    for keys in parts_of(entry.model, entry.config()).values():
        if keys.get("model") in model_names():
            found |= _reads(keys["model"])
    return {"text" if need == "text_vectors" else need for need in found}


def newer_or_older() -> dict[str, tuple[str, str]]:
    """{name: (installed, tested)} of what recbench itself asks for and where the two differ; of torch's builds the number alone counts."""
    tested = constraints()
    different = {}
    for need in core():
        known = tested.get(need.name)
        if known is not None and need.found is not None and need.found.split("+")[0] != known:
            different[need.name] = (need.found, known)
    return different


def check(requirement: str) -> Need:
    """A line such as ``torch>=2.6`` beside what is installed.

    >>> check("surely-not-there>=1").found is None
    True
    """
    name, asked = _split(requirement)
    try:
        found: str | None = version(name)
    except PackageNotFoundError:
        found = None
    least = re.search(r">=\s*([\d.]+)", asked)
    fits = found is not None and (least is None or _number(found) >= _number(least[1]))
    return Need(name, asked, found, fits)


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """(needed, optional by extra): of the checkout where there is one, else of the installed package."""
    project = Path(recbench.__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        said = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return list(said["dependencies"]), {name: list(lines) for name, lines in said["optional-dependencies"].items()}
    needed: list[str] = []
    optional: dict[str, list[str]] = {}
    for line in requires("recbench") or []:
        asked, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", marker)
        (optional.setdefault(extra[1], []) if extra else needed).append(asked.strip())
    return needed, optional


def constraints() -> dict[str, str]:
    """{name: tested version}; {} where the file is not to be found."""
    path = constraints_file()
    if path is None:
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {_plain(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def constraints_file() -> Path | None:
    """At the top of a checkout, or inside an installed package."""
    package = Path(recbench.__file__).resolve().parent
    return next((p for folder in (package.parents[1], package) if (p := folder / "constraints.txt").is_file()), None)


def install(*lines: str) -> str:
    """The command that installs something, in the versions that were tested where the list of them is at hand."""
    path = constraints_file()
    known = []
    if path is not None:
        known = [f"--constraint {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"]
    what = [f"'{line}'" for line in lines] or ["recbench"]
    return " ".join([Path(sys.executable).name, "-m pip install", *known, *what])


#: Modules whose distribution has another name.
DISTRIBUTIONS: Mapping[str, str] = {"sklearn": "scikit-learn", "yaml": "pyyaml", "hydra": "hydra-core"}


def distribution(module: str) -> str:
    """The name to install for a module that cannot be imported."""
    top = module.split(".")[0]
    return DISTRIBUTIONS.get(top, top.replace("_", "-"))


def _split(requirement: str) -> tuple[str, str]:
    found = re.match(r"\s*([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)", requirement)
    assert found is not None, requirement
    return _plain(found[1]), found[2].strip()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])
