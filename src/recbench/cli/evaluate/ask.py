"""A finished run tested on what it is asked; the answer is a folder of its own, and the run stays as it is."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbench.cli.evaluate.asked import asked_config
from recbench.cli.evaluate.known_targets import known_targets
from recbench.cli.recommend.model_of_run import Opened
from recbench.config.run import RunConfig
from recbench.core import run_folder
from recbench.core.run_folder import RunFolder
from recbench.data.renumbered import renumbered
from recbench.data.split import make_split, protocol_view
from recbench.data.store import prepare
from recbench.experiment import evaluate
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import check_lists, check_requirements
from recbench.experiment.device import prepare_device
from recbench.experiment.list_figures import check_list_metrics
from recbench.experiment.provenance import provenance

logger = logging.getLogger(__name__)

#: The folder beside the runs that holds evaluations.
PLACE = "evaluations"


@dataclass(frozen=True)
class Answer:
    """folder: made like a run's, so that recbench compare reads it; reused: it was there already."""

    folder: RunFolder
    metrics: dict[str, Any]
    reused: bool


def ask(opened: Opened, runs_dir: Path, words: list[str], skip_unknown: bool = False) -> Answer:
    """Test the run on the data, protocol and metrics of the words. runs_dir: where the run lies.

    The same question finds its answer again. Raises UserError for words that cannot be asked and for data of other items.
    """
    config = asked_config(opened.config, words)
    stage, counts = asked_stage(opened, config, skip_unknown)
    check_requirements(config, stage.data)
    check_lists(config, stage)
    check_list_metrics(config, stage.data)
    folder = run_folder.open_folder(runs_dir / PLACE, _key(opened.key, config, stage))
    config = replace(config, runs_dir=folder.path.parent)
    with run_folder.locked(folder):
        reused = folder.finished
        if not reused:
            with run_folder.recording(folder):
                _answer(opened, config, stage, counts, folder)
    return Answer(folder, folder.read("metrics.json"), reused)


def asked_stage(opened: Opened, config: RunConfig, skip_unknown: bool) -> tuple[RunContext, dict[str, int]]:
    """Data, under the item numbers of the run, and split of a question; and how the items of both compare."""
    own = opened.stage.data
    data = prepare(config.data, config.cache_dir)
    if config.protocol.name == "sessions":
        # Its view takes items out and numbers the others anew, so it comes first.
        data, counts = renumbered(protocol_view(data, config.protocol), own, skip_unknown)
    else:
        data, counts = renumbered(data, own, skip_unknown)
        data = protocol_view(data, config.protocol)
    return RunContext(data, make_split(data, config.protocol, data.folder)), counts


def _key(run: str, config: RunConfig, stage: RunContext) -> str:
    parts = {
        "run": run,
        "data": stage.data.fingerprint,
        "protocol": stage.split.protocol_id,
        "split": stage.split.split_hash,
        "cutoffs": sorted(config.evaluation.cutoffs),
        "metrics": sorted(config.evaluation.metrics),
    }
    return f"{run}-{hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=4).hexdigest()}"


def _answer(opened: Opened, config: RunConfig, stage: RunContext, counts: dict[str, int], folder: RunFolder) -> None:
    folder.write("config.yaml", config.as_dict())
    folder.write("provenance.json", provenance(config, stage.data, stage.split, {}) | {"evaluated_run": opened.key})
    prepare_device(config.hardware, config.seed)
    figures = evaluate.test_figures(opened.model, stage.data, stage.split, config, folder)
    folder.write(
        "metrics.json",
        {
            **figures,
            **known_targets(opened.stage, stage.data, stage.split.test),
            **{f"catalogue/{name}": value for name, value in counts.items()},
            "evaluated_run": opened.key,
            "protocol": stage.split.protocol_id,
            "audit": stage.split.audit,
            "oracle": stage.data.manifest.get("extra", {}).get("oracle", {}),
            "dependencies": {},
        },
    )
    folder.set_state("finished", reason=f"evaluated {opened.key}")
