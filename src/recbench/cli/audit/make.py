"""The audit of one data set under one protocol: figures, floors and probes put together, and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recbench.cli.audit import facts, page
from recbench.cli.audit.findings import findings
from recbench.cli.audit.probe import order_probe
from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import replacing
from recbench.experiment.context import Run, RunContext
from recbench.experiment.dependencies import check_requirements
from recbench.experiment.run import run
from recbench.models.registry import lookup

#: Models that look at nothing of the user: what everything personal must beat.
FLOORS = ("popularity", "recent_popularity")
#: From a model's name to the config that the command line would give it on these data.
Compose = Callable[[str], RunConfig]


def make_audit(compose: Compose, probes: Sequence[str]) -> tuple[dict[str, Any], RunContext, list[Run]]:
    """(the audit as plain values, its data and split, the runs behind it). Runs are found by key, or made.

    Raises UserError for a probe that ranks nothing, and whatever preparing data and making runs raises.
    """
    for name in probes:
        if not lookup(name).model.ranks:
            raise UserError(f"--probe {name} ranks nothing; choose one that reads order, such as markov or sasrec")
    first = compose(FLOORS[0])
    if first.attack.name != "none":
        raise UserError(
            f"an audit is of the clean data, whose floors fake users would move: leave out attack={first.attack.name}"
        )
    stage = RunContext.of(first)
    floors, made = _floors(compose, stage)
    probed = [run(compose(name), stage) for name in probes]
    data, split = stage.data, stage.split
    found: dict[str, Any] = {
        "title": first.data.title(),
        "data": facts.data_facts(data),
        "protocol": split.protocol_id,
        "seen_items": split.seen_items,
        "split_hash": split.split_hash,
        "split": split.audit,
        "time": facts.time_facts(data),
        "cold": facts.cold_facts(data, split),
        "repeats": facts.repeat_facts(data, split),
        "cases": facts.case_facts(data, split, first.training.max_length) | {"max_length": first.training.max_length},
        "timeline": facts.timeline(data, split),
        "lengths": facts.length_facts(split),
        "floors": floors,
        "floor_metric": f"{split.metric_prefix}{first.evaluation.monitor}",
        "probes": [order_probe(probe, stage) for probe in probed],
    }
    found["findings"] = [finding._asdict() for finding in findings(found)]
    return found, stage, [*made, *probed]


def _floors(compose: Compose, stage: RunContext) -> tuple[list[dict[str, Any]], list[Run]]:
    """An entry a floor: model, run and test metrics, or the reason why it is absent; and the runs."""
    entries: list[dict[str, Any]] = []
    made: list[Run] = []
    for name in FLOORS:
        config = compose(name)
        try:
            check_requirements(config, stage.data)
        except UserError as error:
            entries.append({"model": name, "absent": str(error)})
            continue
        floor = run(config, stage)
        metrics = {key.removeprefix("test/"): value for key, value in floor.metrics.items() if key.startswith("test/")}
        entries.append({"model": name, "run": floor.folder.key, "metrics": metrics})
        made.append(floor)
    return entries, made


def default_folder(stage: RunContext) -> Path:
    """``audit/<protocol id>`` under the prepared data: an audit belongs to these data, not to a working folder."""
    return stage.data.folder / "audit" / stage.split.protocol_id


def write_audit(found: dict[str, Any], folder: Path) -> list[Path]:
    """audit.json, audit.md and audit.html in a folder that is there. Raises UserError where it cannot be written."""
    texts = {
        "audit.json": json.dumps(found, indent=1) + "\n",
        "audit.md": page.markdown(found),
        "audit.html": page.html(found),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
