"""What other packages add to recbench, found through entry points: names are listed without an import, code is loaded when it is asked for.

A package names its parts in its ``pyproject.toml``, one table for each kind::

    [project.entry-points."recbench.models"]
    mine = "my_package.my_model"

What an entry must name is told beside each kind (``docs/extending.md`` shows them all).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recbench.core.errors import UserError


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, in the order of their names. Read once in a process: it looks at every installed package."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, package_of(point))))


def package_of(point: EntryPoint) -> str:
    """Name of the package that brings an entry point."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


class PlugIns:
    """The plug-ins of one kind.

    group: the entry-point group. what: what one is called in a message. own: recbench's own names of this kind, which no package may take.
    """

    def __init__(self, group: str, what: str, own: Collection[str]) -> None:
        self.group, self.what, self.own = group, what, own

    def names(self) -> list[str]:
        """The names that other packages add, sorted. Nothing is imported."""
        return sorted({point.name for point in installed(self.group)} - set(self.own))

    def __contains__(self, name: object) -> bool:
        return any(point.name == name for point in installed(self.group)) and name not in self.own

    def clashes(self) -> list[tuple[str, str]]:
        """(name, package) of what other packages bring under one of recbench's own names, and which is therefore never asked."""
        return [(point.name, package_of(point)) for point in installed(self.group) if point.name in self.own]

    def refuse_clash(self, name: str) -> None:
        """Raise UserError, naming the packages, where a name means two things: one of ours and another's, or those of two packages."""
        packages = list(dict.fromkeys(package_of(point) for point in installed(self.group) if point.name == name))
        if packages and name in self.own:
            raise UserError(
                f"the package {packages[0]} brings a {self.what} called '{name}', which is a name of recbench's own; "
                f"rename it there, or pip uninstall {packages[0]}"
            )
        if len(packages) > 1:
            raise UserError(
                f"the packages {' and '.join(packages)} each bring a {self.what} called '{name}'; pip uninstall one of them"
            )

    def point(self, name: str) -> EntryPoint:
        """The entry point of that name. Raises KeyError if there is none, and UserError for a name that means two things."""
        self.refuse_clash(name)
        for point in installed(self.group):
            if point.name == name:
                return point
        raise KeyError(name)

    def load(self, name: str) -> Any:
        """Import what the entry point names. Raises UserError, naming the package, if that fails."""
        point = self.point(name)
        try:
            return point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"
            raise UserError(
                f"the {self.what} '{name}' of the package {package_of(point)} cannot be loaded ({reason}); "
                f"mend that package, or pip uninstall {package_of(point)}"
            ) from error

    def refusal(self, name: str, why: str) -> UserError:
        """The error for a plug-in that was loaded and is not what it should be. why: ends the sentence, as in 'has no function read'."""
        point = self.point(name)
        return UserError(
            f"the {self.what} '{name}' of the package {package_of(point)} {why} (its entry is {point.value})"
        )

    def origin(self, name: str) -> str | None:
        """``package version`` for a name that another package brings; None for one of ours."""
        if name not in self:
            return None
        point = self.point(name)
        return f"{package_of(point)} {point.dist.version if point.dist is not None else '?'}"
