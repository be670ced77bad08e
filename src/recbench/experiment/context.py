"""What a run is when it is finished, and what it stands on while it is made: data and split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder
from recbench.data.attack import attacked
from recbench.data.resampled import resampled
from recbench.data.split import make_split, protocol_view
from recbench.data.store import PreparedData, prepare
from recbench.data.training import TrainingData

#: What another process of a run is started as.
FOLLOWER = "recbench.experiment.follower"


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, its figures, and the runs it stands on."""

    folder: RunFolder
    config: RunConfig
    metrics: dict[str, Any]
    dependencies: Mapping[str, Run]
    reused: bool

    @property
    def validation(self) -> float | None:
        """The validation figure that decides when its training stops, and which run of a search is the best; None if it has none."""
        monitor = self.config.evaluation.monitor
        return self.metrics.get(f"validation/{self.config.protocol.metric_prefix}{monitor}")


@dataclass
class RunContext:
    """Data and split of a run; shared by the run and its dependencies, so that both are read once."""

    data: PreparedData
    split: Any  # a Split, or a ClickSplit under protocol=clicks
    made: dict[str, Run] = field(default_factory=dict)  # by key
    _choosing: RunContext | None = None

    @classmethod
    def of(cls, config: RunConfig) -> RunContext:
        if config.protocol.asks_clicks:
            from recbench.data.clicks.build import click_split

            clicks = click_split(config.data, config.protocol, config.cache_dir)
            return cls(clicks.clicks.log, clicks)
        data = protocol_view(prepare(config.data, config.cache_dir), config.protocol)
        split = make_split(data, config.protocol, data.folder)
        return cls(*resampled(*attacked(data, split, config.attack), config.training.resample_day))

    @classmethod
    def among(cls, stages: dict[str, RunContext], config: RunConfig) -> RunContext:
        """That of a config from the ``stages`` kept so far, by all that decides it; made and kept there if it is a new one."""
        deciding = [asdict(part) for part in (config.data, config.protocol, config.attack)]
        name = json.dumps([*deciding, config.training.resample_day, str(config.cache_dir)], sort_keys=True, default=str)
        if name not in stages:
            stages[name] = cls.of(config)
        return stages[name]

    @property
    def train(self) -> TrainingData:
        """What a model may learn from."""
        train: TrainingData = self.split.training(self.data)
        return train

    def of_part(self, config: RunConfig) -> RunContext:
        """Data and split of a run that another one of this context needs: the same, but for the run that chooses the epochs of
        ``protocol.fit_on_validation``, whose training leaves validation out."""
        if not self.split.validation_in_training or config.protocol.fit_on_validation:
            return self
        if self._choosing is None:
            self._choosing = RunContext.of(config)
        return self._choosing
