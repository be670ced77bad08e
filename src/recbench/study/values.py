"""The values of a study file, one kind after another: overrides, seeds, searches, and YAML itself; strict, and told in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbench.core.errors import UserError, nearest

#: An override: perhaps Hydra's plus signs, a key, a value.
WORD = re.compile(r"\+{0,2}([\w./@]+)=.*", re.DOTALL)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UserError if it cannot be read, holds something else, or one key twice."""

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which YAML would silently drop the first."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [
                self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"
            ]
            twice = sorted({str(name) for name in names if names.count(name) > 1})
            if twice:
                raise UserError(
                    f"{path}: '{twice[0]}' stands twice (line {node.start_mark.line + 1} and below); give it another name"
                )
            return super().construct_mapping(node, deep)

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold keys such as question and rows")
    return found


def refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise UserError for a key that is not known, with the nearest that is."""
    for key in given:
        if key not in known:
            raise UserError(f"unknown {where} '{key}'; {nearest(str(key), sorted(known))}")


def as_mapping(given: Any, where: str) -> dict[str, Any]:
    """A mapping, empty for nothing. Raises UserError for anything else."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UserError(f"{where} must hold names with values below them, not {given!r}")
    return given


def as_words(given: Any, where: str) -> tuple[str, ...]:
    """A flat tuple of overrides out of nested lists. Raises UserError for what is none."""
    if given is None:
        return ()
    if isinstance(given, list):
        return tuple(word for part in given for word in as_words(part, where))
    if not isinstance(given, str) or not WORD.fullmatch(given):
        raise UserError(
            f"{where}: {given!r} is no override; write key=value, in quotes where it holds ': ' or begins with a brace"
        )
    return (given,)


def as_seeds(given: Any, where: str) -> tuple[int, ...]:
    """Seeds, each once. Raises UserError for what is no whole number from 0."""
    seeds = given if isinstance(given, list) else [given]
    if not seeds or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in seeds):
        raise UserError(f"{where} must be whole numbers from 0, as in [1, 2, 3], not {given!r}")
    return tuple(dict.fromkeys(seeds))


def as_search(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Key -> values to try, as text. Raises UserError for a key without a list of values."""
    found = {}
    for key, values in as_mapping(given, where).items():
        if not isinstance(values, list) or not values or any(isinstance(v, list | dict) for v in values):
            raise UserError(f"{where}.{key} must be a list of values to try, as in [1e-3, 3e-3], not {values!r}")
        found[str(key)] = tuple(dict.fromkeys(as_text(value) for value in values))
    if "seed" in found:
        raise UserError(f"{where}: a seed is not searched; give the seeds as 'seeds'")
    return found


def as_text(value: Any) -> str:
    """A YAML scalar in the words of the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def key_of(word: str) -> str:
    """The key that an override sets."""
    return word.lstrip("+").split("=", 1)[0]


def last_of_each(words: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides less those that a later one of the same key replaces; Hydra would refuse two choices of one group."""
    last = {key_of(word): i for i, word in enumerate(words)}
    return tuple(word for i, word in enumerate(words) if last[key_of(word)] == i)


def as_names(given: Any, what: str) -> tuple[str, ...]:
    """A name or a list of names. Raises UserError for anything else.

    >>> as_names("plain", "reference"), as_names(["a", "b"], "reference"), as_names(None, "reference")
    (('plain',), ('a', 'b'), ())
    """
    found = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{what} must be a row or a list of rows, not {given!r}")
    return tuple(found)


def as_flag(raw: Mapping[str, Any], key: str) -> bool:
    """True or false; false where nothing is said. Raises UserError for anything else."""
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{key} must be true or false, not {value!r}")
    return value
