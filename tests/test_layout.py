"""The house in order: rooms on floors, imports that point down, no circles, no loose modules."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import recbench

PACKAGE = Path(recbench.__file__).parent

#: The rooms from the ground up; rooms of one floor do not import each other.
FLOORS = (
    {"core"},
    {"data"},
    {"nn", "evaluation"},
    {"models"},
    {"objectives", "posthoc"},
    {"config"},
    {"training", "tracking"},
    {"report"},
    {"experiment"},
    {"study"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def import_statements(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Every import of a file, wherever in it and for whatever purpose."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def imports_of(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports."""
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES or node.module in MODULES:
                    yield inner if inner in MODULES else node.module


@functools.cache
def imports() -> dict[str, set[str]]:
    """By module; without the package itself, which is imported for its place and imports its face lazily."""
    return {name: set(imports_of(path)) - {name, "recbench"} for name, path in MODULES.items() if name != "recbench"}


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def test_there_are_fourteen_rooms_and_no_loose_module():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "conf")}
    assert folders == set(FLOOR)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_imports_point_down():
    up = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if room_of(name) in FLOOR and room_of(other) in FLOOR and room_of(name) != room_of(other)
        if FLOOR[room_of(other)] >= FLOOR[room_of(name)]
    ]
    assert not up


def test_no_modules_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter(imports()).static_order())
    except CycleError as circle:
        raise AssertionError(" -> ".join(circle.args[1])) from None


def test_no_private_name_crosses_modules():
    taken = [
        f"{name}: {alias.name} of {node.module}"
        for name, path in MODULES.items()
        for node in import_statements(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recbench")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not taken


def test_the_product_holds_no_test_tools():
    mocked = [name for name, path in MODULES.items() if "unittest" in path.read_text(encoding="utf-8")]
    assert not mocked
