"""The API page: what ``recbench`` and ``recbench.models`` offer, read from the imports that their ``__init__`` shows to type checkers.

Both packages are lazy: a name is imported when it is asked for. What they name under ``if TYPE_CHECKING`` is what they promise.
"""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"
PACKAGES = {
    "recbench": "What `import recbench` offers to people. Nothing heavy is imported before a function is called.",
    "recbench.models": "What packages with models of their own may import. This is the only stable import for them.",
}
#: Where a package names nothing yet: the modules that hold what it will.
OTHERWISE = {"recbench.models": ("recbench.models.base", "recbench.models.sequence_model", "recbench.models.registry")}


def offered(package: str) -> list[str]:
    """Full names of what a package offers, in the order of its ``__all__`` where that is a plain list. A stub beside it says more than it does."""
    folder = SOURCES / package.replace(".", "/")
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    stub = folder / "__init__.pyi"
    imports = ast.parse(stub.read_text(encoding="utf-8")).body if stub.is_file() else _for_type_checkers(tree)
    homes = {
        alias.asname or alias.name: f"{part.module}.{alias.name}"
        for part in imports
        if isinstance(part, ast.ImportFrom) and part.module and part.module != "__future__"
        for alias in part.names
    }
    return [homes[name] for name in _listed(tree) or homes if name in homes] or list(OTHERWISE.get(package, ()))


def _for_type_checkers(tree: ast.Module) -> list[ast.stmt]:
    return [
        part
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
    ]


def _listed(tree: ast.Module) -> list[str]:
    """The names of a plain ``__all__``; none where it is computed."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value)) if isinstance(node.value, ast.List | ast.Tuple) else []
    return []


def page() -> str:
    """One section a package, one entry a name."""
    parts = []
    for package, says in PACKAGES.items():
        names = offered(package)
        if names:
            parts.append(f"## {package}\n\n{says}")
            parts += [f"::: {name}" for name in names]
    return "\n\n".join(parts)
