"""What a protocol asks of a model, as one object: how it is validated and tested, and what is said of its data.

``ranking``: which items come next, through the one ranking kernel. ``clicks``: how likely each row of impressions is a click.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder
from recbench.data.clicks.split import ClickSplit
from recbench.data.split import Split
from recbench.data.split_audit import audit_line
from recbench.experiment import clicks, evaluate
from recbench.experiment.asking import rank_cases
from recbench.experiment.attack_figures import attack_figures
from recbench.experiment.context import RunContext
from recbench.experiment.oracle_class import oracle_figures
from recbench.experiment.shuffled import shuffled_figures
from recbench.models.base import Recommender


class Task(Protocol):
    """config: of the run that is asked."""

    def validate(self, model: Recommender, config: RunConfig) -> dict[str, float]:
        """Validation metrics by plain name with the protocol's prefix."""

    def test(self, model: Recommender, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
        """Test figures of a run, and its file of ranks or predictions."""

    @property
    def n_validation(self) -> int:
        """Cases or rows that a validation asks about."""

    def ask(self, model: Recommender, config: RunConfig, chosen: np.ndarray) -> None:
        """Ask about the given ones of these alone, to see how long it takes."""

    def audit_line(self) -> str:
        """What a reader must know of the data."""


@dataclass(frozen=True)
class Ranking:
    """Which items come next."""

    stage: RunContext
    split: Split

    def validate(self, model: Recommender, config: RunConfig) -> dict[str, float]:
        return evaluate.validate(model, self.stage.data, self.split, config)

    def test(self, model: Recommender, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
        asked = model, self.stage.data, self.split, config
        if not model.ranks:
            return evaluate.report(*asked, folder)
        figures = evaluate.test(*asked, folder)
        figures |= oracle_figures(*asked)
        figures |= attack_figures(*asked)
        return figures | (shuffled_figures(*asked) if config.evaluation.shuffled_histories else {})

    @property
    def n_validation(self) -> int:
        return len(self.split.validation)

    def ask(self, model: Recommender, config: RunConfig, chosen: np.ndarray) -> None:
        rank_cases(model, self.stage.data, self.split, self.split.validation.select(chosen), config)

    def audit_line(self) -> str:
        return audit_line(self.split.audit)


@dataclass(frozen=True)
class Clicks:
    """How likely each row of impressions is a click."""

    split: ClickSplit

    def validate(self, model: Recommender, config: RunConfig) -> dict[str, float]:
        return clicks.validate(model, self.split, config)

    def test(self, model: Recommender, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
        return clicks.test(model, self.split, config, folder)

    @property
    def n_validation(self) -> int:
        return len(self.split.validation_rows)

    def ask(self, model: Recommender, config: RunConfig, chosen: np.ndarray) -> None:
        clicks.predict(model, self.split, self.split.validation_rows[chosen], config)

    def audit_line(self) -> str:
        return clicks.audit_line(self.split.audit)


def task_of(stage: RunContext) -> Task:
    """What the protocol of these data and this split asks."""
    return Clicks(stage.split) if isinstance(stage.split, ClickSplit) else Ranking(stage, stage.split)
