"""What each stored run says, and of which data and protocol."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recbench.core.errors import UserError
from recbench.report.board import Place
from recbench.report.collect import StoredRun


@dataclass(frozen=True)
class View:
    """The figures of one run in one place."""

    place: Place
    run: StoredRun
    figures: Mapping[str, float]
    main: bool


def views(run: StoredRun) -> list[View]:
    """What a run says: of its own protocol, and of those under which its weights were asked again."""
    data, fingerprint = data_label(run.config), str(run.provenance.get("data_fingerprint") or "unknown")
    place = Place(data, fingerprint, str(run.provenance.get("split_hash") or "unknown"), str(run.metrics["protocol"]))
    costs = {
        name.removeprefix("cost/"): value for name, value in _numbers(run.metrics).items() if name.startswith("cost/")
    }
    own = {name: value for name, value in _numbers(run.metrics).items() if name.startswith(("test/", "tokenizer/"))}
    found = [View(place, run, _plain(own) | costs, True)]
    for asked in run.asked:
        protocol = next((str(value) for name, value in asked.items() if name.endswith("protocol")), None)
        figures = {name: value for name, value in _numbers(asked).items() if name.startswith("test/")}
        if protocol and figures and protocol != place.protocol:
            found.append(View(replace(place, protocol=protocol), run, _plain(figures) | costs, False))
    return found


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _plain(figures: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("test/"): value for name, value in figures.items()}


def data_label(config: Mapping[str, Any]) -> str:
    """Words by which a person knows the data of a stored config."""
    return _data_label(json.dumps(config.get("data", {}), sort_keys=True, default=str))


@functools.cache  # a hundred runs have the same few data
def _data_label(stored: str) -> str:
    from recbench.config.schemas import known_option

    data = json.loads(stored)
    try:
        from omegaconf import OmegaConf

        typed: Any = OmegaConf.to_object(known_option("data", data["name"], data))
        return str(typed.title())
    except (UserError, KeyError):  # a source that this version does not know
        return " ".join(str(data[key]) for key in ("name", "version", "category") if data.get(key)) or "unknown data"
