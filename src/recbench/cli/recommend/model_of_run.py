"""A finished run, ready to answer: its model with its weights, and the data by whose numbers it knows users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbench.core.errors import UserError

if TYPE_CHECKING:
    from recbench.config.run import RunConfig
    from recbench.core.run_folder import RunFolder
    from recbench.experiment.context import RunContext
    from recbench.models.base import Recommender


@dataclass(frozen=True)
class Opened:
    """key: of the run; model: in evaluation mode and frozen, on the CPU or where it was asked for; metrics: its figures."""

    key: str
    config: RunConfig
    stage: RunContext
    model: Recommender
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.config.model.name)

    @property
    def needs(self) -> frozenset[str]:
        """What its histories must hold beside the items: "timestamps", "behaviours"."""
        return type(self.model).requires & {"timestamps", "behaviours"}


def open_model(path: Path, cache_dir: Path | None = None, raw_dir: Path | None = None, device: str = "cpu") -> Opened:
    """The model of the run folder ``path``. cache_dir, raw_dir: where the data are by now, if not where the run found them.

    Raises UserError if it is no finished run, ranks nothing, or the data are not those that it was trained on.
    """
    from recbench.core.run_folder import finished_run
    from recbench.experiment.build import load_model
    from recbench.experiment.context import Run
    from recbench.models.registry import lookup

    folder = finished_run(path)
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch {torch.__version__} finds no GPU here; leave it out")
    config = config_of_run(folder, cache_dir, raw_dir)
    if not lookup(config.model.name).model.ranks:
        raise UserError(f"'{config.model.name}' is an item tokenizer and ranks nothing; name the run of a recommender")
    stage = stage_of_run(folder, config)
    metrics = folder.read("metrics.json")
    model = load_model(Run(folder, config, metrics, {}, reused=True), stage)
    return Opened(folder.key, config, stage, model.to(device), metrics)


def config_of_run(folder: RunFolder, cache_dir: Path | None = None, raw_dir: Path | None = None) -> RunConfig:
    """The config of a finished run, to be used on the CPU: where a run was trained says nothing about where it answers."""
    from recbench.config.run import RunConfig
    from recbench.config.settings import HardwareConfig

    config = replace(RunConfig.from_dict(folder.config()), hardware=HardwareConfig(name="cpu", accelerator="cpu"))
    if cache_dir is not None:
        config = replace(config, cache_dir=cache_dir.expanduser().absolute())
    if raw_dir is not None:
        config.data.raw_dir = str(raw_dir.expanduser().absolute())
    return config


def stage_of_run(folder: RunFolder, config: RunConfig) -> RunContext:
    """Data and split of a finished run. Raises UserError if the data are not those that it was trained on."""
    from recbench.experiment.context import RunContext

    stage = RunContext.of(config)
    trained_on = folder.read("provenance.json").get("data_fingerprint", stage.data.judged_fingerprint)
    if trained_on != stage.data.judged_fingerprint:
        raise UserError(
            f"the data in {stage.data.folder} are not those that {folder.key} was trained on, so its item numbers would mean other items; "
            "name the raw files of the run with --raw-dir (in Python: raw_dir=)"
        )
    return stage
