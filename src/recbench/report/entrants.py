"""Run folders as entrants of a comparison: runs of one configuration but for the seed stand for one, named by what tells it apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import key_values
from recbench.core.run_folder import finished_run
from recbench.evaluation.statistics.compare import Entrant

#: The key by which runs of a resampled day differ.
RESAMPLED = "training.resample_day"
#: The parts of ``data`` that are not its events -> what a model that reads them needs. Runs on one split may differ in them: such as by titles
#: that are dealt out anew.
BESIDE_EVENTS = {"text": {"text", "text_vectors", "features"}, "features": {"features"}, "knowledge": {"knowledge"}}


def entrants_of(folders: Sequence[Path]) -> list[Entrant]:
    """One entrant a configuration, in order of first appearance. Raises UserError for what is no finished run, and for two runs of one seed."""
    entrants = []
    for name, by_seed in _by_seed(folders):
        for first, *more in by_seed.values():
            if more:
                raise UserError(f"{first} and {more[0]} are the same configuration and seed; leave one of them out")
        entrants.append(Entrant(name, tuple(first for first, *_ in by_seed.values())))
    return entrants


def day_pairs(folders: Sequence[Path]) -> dict[str, list[tuple[Path, ...]]]:
    """Name of a configuration -> runs of one seed each that differ in nothing but ``training.resample_day``; where there are two or more."""
    found = _by_seed(folders, without=(RESAMPLED,))
    pairs = {name: [tuple(runs) for runs in by_seed.values() if len(runs) > 1] for name, by_seed in found}
    return {name: runs for name, runs in pairs.items() if runs}


def _by_seed(folders: Sequence[Path], without: Sequence[str] = ()) -> list[tuple[str, dict[int | None, list[Path]]]]:
    """(name of a configuration, seed -> its runs); ``without``: keys in which runs of one configuration may differ."""
    found: dict[str, dict[int | None, list[Path]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for path in dict.fromkeys(Path(folder).resolve() for folder in folders):
        values, seed = _configuration(path)
        values = {key: value for key, value in values.items() if key not in without}
        stored = json.dumps(values, sort_keys=True, default=str)
        found.setdefault(stored, {}).setdefault(seed, []).append(path)
        settings[stored] = values
    return list(zip(_names(list(settings.values())), found.values(), strict=True))


def find_reference(wanted: str, entrants: Sequence[Entrant]) -> str:
    """The name of the entrant that is called so, that has a run of this key or folder, or that alone begins so. Raises UserError for none."""
    for entrant in entrants:
        if wanted == entrant.name or any(Path(wanted).name == path.name for path in entrant.runs):
            return entrant.name
    begun = [entrant.name for entrant in entrants if entrant.name.split(" ")[0] == wanted]
    if len(begun) == 1:
        return begun[0]
    raise UserError(f"unknown reference '{wanted}'; {nearest(wanted, [entrant.name for entrant in entrants])}")


def _configuration(path: Path) -> tuple[dict[str, Any], int | None]:
    """(what a run was asked to do but for its seed, as flat keys; the seed)."""
    from recbench.config.run import RunConfig
    from recbench.models.laid_over import needs_of
    from recbench.models.registry import lookup

    folder = finished_run(path)
    stored = folder.config()
    if stored["model"].get("imported"):  # results of another framework: its name is all that is known of it
        return {"model.name": stored["model"]["name"]}, stored["seed"]
    config = RunConfig.from_dict(stored)
    model = lookup(config.model.name).model
    trained, needs = model.trains_by_gradient, needs_of(model, config.model)
    # As it enters a run's key: a field that a config of before does not have is the same as that field at its default.
    parts = {
        "model": key_values(config.model),
        "training": key_values(config.training) if trained else {"max_length": config.training.max_length},
        **({} if config.training.resample_day is None else {RESAMPLED: config.training.resample_day}),
        "distillation": key_values(config.distillation),
        "compression": asdict(config.compression),
        "protocol": asdict(config.protocol),
        "data": {name: asdict(getattr(config.data, name)) for name, read in BESIDE_EVENTS.items() if read & needs},
    }
    if trained and config.evaluation.monitor != config.evaluation.usual_monitor:
        parts["evaluation"] = {"monitor": config.evaluation.monitor}
    return dict(_flat(parts)), config.seed


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model, and where a model stands for several entrants, what is unlike most of them."""
    names = []
    for own in settings:
        rivals = [other for other in settings if other["model.name"] == own["model.name"]]
        odd = {id(other): _unlike(other, rivals) for other in rivals}
        short = {place: _without_details(keys) for place, keys in odd.items()}
        told = short if len({_said(other, short[id(other)]) for other in rivals}) == len(rivals) else odd
        names.append(" ".join(filter(None, [own["model.name"], _said(own, told[id(own)])])))
    return names


def _unlike(own: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which a configuration differs from most of its rivals."""
    keys = []
    for key, value in own.items():
        said = [repr(other.get(key)) for other in rivals]
        usual = max(dict.fromkeys(said), key=said.count)
        if repr(value) != usual or key == RESAMPLED:  # which the usual run does not have
            keys.append(key)
    return keys


def _without_details(keys: Sequence[str]) -> list[str]:
    """Less the keys of a group whose very choice is told."""
    groups = tuple(key.removesuffix("name") for key in keys if key.endswith(".name"))
    return [key for key in keys if key.endswith(".name") or not key.startswith(groups)]


def _said(own: Mapping[str, Any], keys: Sequence[str]) -> str:
    return " ".join(f"{_short(key)}={_value(own[key])}" for key in keys if key in own)


def _short(key: str) -> str:
    return key.removeprefix("model.").removesuffix(".name")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
