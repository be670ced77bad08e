"""Runs to rows: what differs by the seed alone is one row, and a row is called by what sets it apart from its neighbours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.report.collect import StoredRun, deciding

#: Keys in a name, where fewer than all that differ are enough to tell rows apart.
MOST_KEYS = 4


@dataclass(frozen=True)
class Row:
    """One line of a table: a name and its finished runs, one a seed. told: heading -> text of further columns."""

    name: str
    runs: tuple[StoredRun, ...]
    told: Mapping[str, str] = field(default_factory=dict)


def rows_of(runs: Sequence[StoredRun]) -> list[Row]:
    """Rows of finished runs in the order of the runs; two rows never have one name."""
    configs = _comparable(runs)
    groups: dict[str, list[int]] = {}
    for i, (run, config) in enumerate(zip(runs, configs, strict=True)):
        # Of two runs with one config and seed (made by versions that key differently) each is a row of its own.
        signature = json.dumps(config, sort_keys=True, default=str)
        place = next(
            name
            for name in (signature, f"{signature} {run.key}")
            if run.seed not in [runs[j].seed for j in groups.get(name, [])]
        )
        groups.setdefault(place, []).append(i)
    members = list(groups.values())
    named = dict.fromkeys(word for run in runs for word in run.chosen_words())
    names = _names([configs[group[0]] for group in members], list(named))
    # Equal configs that are two rows all the same are told apart by their runs.
    names = [
        name if names.count(name) == 1 else f"{name} {runs[group[0]].key}"
        for name, group in zip(names, members, strict=True)
    ]
    return [
        Row(name, tuple(sorted((runs[i] for i in group), key=lambda run: str(run.seed).zfill(12))))
        for name, group in zip(names, members, strict=True)
    ]


def _comparable(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """Flat configs with the same keys for the same choices: those of older versions get the defaults of what came later."""
    found = [deciding(run.config) for run in runs]
    keys: dict[str, set[frozenset[str]]] = {}
    kinds = [
        json.dumps([part.get(k) for k in ("model", "data", "protocol", "distillation", "compression")])
        for part in found
    ]
    for kind, part in zip(kinds, found, strict=True):
        keys.setdefault(kind, set()).add(frozenset(part))
    return [
        part if len(keys[kind]) == 1 else _completed(run) for run, kind, part in zip(runs, kinds, found, strict=True)
    ]


def _completed(run: StoredRun) -> dict[str, Any]:
    from recbench.config.run import RunConfig

    try:
        return deciding(RunConfig.from_dict(run.config).as_dict())
    except (UserError, KeyError, TypeError, AttributeError):
        return deciding(run.config)  # of a model or a key that is not known here any more


def _names(configs: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> list[str]:
    """Names that are all different. chosen: keys that a command named; of keys that vary together these are told."""
    bases = [_base(config) for config in configs]
    names = []
    for base, config in zip(bases, configs, strict=True):
        alike = [other for name, other in zip(bases, configs, strict=True) if name == base]
        names.append(" ".join([base, *_differences(config, alike, chosen)]))
    return [
        name if names.count(name) == 1 else f"{name} #{_short_hash(config)}"
        for name, config in zip(names, configs, strict=True)
    ]


def _base(config: Mapping[str, Any]) -> str:
    extra = [config.get(group) for group in ("distillation", "compression")]
    return " + ".join(
        [str(config.get("model", "unknown")), *(str(name) for name in extra if name not in (None, "none"))]
    )


def _differences(config: Mapping[str, Any], alike: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> list[str]:
    """``key=value`` of what is not the same in all rows of one base."""
    keys = _telling(alike, chosen)
    return [f"{_short_key(key)}={_value(config[key])}" for key in keys if key in config]


def _telling(alike: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> list[str]:
    """The keys that tell rows apart. Of keys that vary together one is enough; of many keys, those without which two rows would be alike."""
    kept: dict[tuple[int, ...], str] = {}
    for key in dict.fromkeys(key for other in alike for key in other):
        values = [json.dumps(other.get(key, "absent"), default=str) for other in alike]
        pattern = tuple(values.index(value) for value in values)
        if len(set(pattern)) > 1 and (pattern not in kept or (key in chosen and kept[pattern] not in chosen)):
            kept[pattern] = key
    patterns = list(kept)
    if len(patterns) > MOST_KEYS:
        distinct = len(set(zip(*patterns, strict=True)))
        # Keys that nobody named go first, and among those the last ones.
        places = {pattern: place for place, pattern in enumerate(patterns)}
        for pattern in sorted(patterns, key=lambda pattern: (kept[pattern] in chosen, -places[pattern])):
            rest = [other for other in patterns if other != pattern]
            if len(patterns) > MOST_KEYS and len(set(zip(*rest, strict=True))) == distinct:
                patterns = rest
    return [kept[pattern] for pattern in patterns]


def _short_key(key: str) -> str:
    return key.removeprefix("model.").removeprefix("training.")


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(_value, value)) or "none"
    text = str(value)
    return Path(text).name if "/" in text else text


def _short_hash(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
