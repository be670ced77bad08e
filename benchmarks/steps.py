"""A training step of any model as a run would make it, on weights that nobody trained: what ``benchmarks.profile`` measures.

Runs that a model stands on (item tables, tokenizers, teachers) are built but not trained: an item table is as large whatever stands in it. What is
computed in one go, such as a tokenizer, is computed. A teacher is asked for the few batches beforehand, as a run with ``distillation.mode=offline``
asks it once for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch, WindowDataset, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.data.training import TrainingData
from recbench.models.base import Recommender
from recbench.models.closed_form import ClosedForm
from recbench.training.learner import Learner

if TYPE_CHECKING:
    from recbench.config.run import RunConfig
    from recbench.experiment.context import RunContext

Section = Callable[[str], Any]


class Known:
    """What a teacher said of each of a few batches, beforehand. Stands where a run reads it from disk."""

    def __init__(self, ask: Callable[[Batch], dict[str, Tensor]], batches: list[Batch]) -> None:
        self.said = {_address(batch): ask(batch) for batch in batches}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return self.said[_address(batch)]

    def to(self, device: torch.device) -> None:
        self.said = {key: {n: t.to(device) for n, t in value.items()} for key, value in self.said.items()}


def _address(batch: Batch) -> bytes:
    assert batch.windows is not None
    return batch.windows.numpy().tobytes()


def untrained(config: RunConfig, stage: RunContext) -> Recommender:
    """The model of a config with all that it stands on, none of it trained."""
    from recbench.experiment.build import build_model
    from recbench.experiment.dependencies import dependency_configs

    needed = {name: untrained(part, stage) for name, part in dependency_configs(config).items() if name != "teacher"}
    model = build_model(config, stage, needed)
    if isinstance(model, ClosedForm):
        model.fit_to(TrainingData.of(stage.data, stage.split))
    return model


@dataclass
class Steps:
    """``take(i, section)`` makes step i; ``section(kind)`` marks the parts that are no operation of the model."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    dataset: WindowDataset
    plan: list[Any]
    device: torch.device

    @property
    def model(self) -> nn.Module:
        return self.learner.student

    def targets(self, index: int) -> int:
        return int(self.dataset.windows.length[self.plan[index]].sum())

    def take(self, index: int, data: Section, optimiser: Section) -> None:
        """What Lightning does for a batch, without Lightning."""
        with data("data"):
            batch = self.dataset[self.plan[index]]
            if self.device.type != "cpu":
                windows = batch.windows
                batch = batch.to(self.device, non_blocking=True)
                batch.windows = windows
        self.optimizer.zero_grad()
        loss = self.learner.training_step(batch, index)
        loss.backward()
        clip = self.learner.config.gradient_clip
        with optimiser("optimiser"):
            if clip:
                nn.utils.clip_grad_norm_(self.learner.parameters(), clip)
            self.optimizer.step()


def steps_of(config: RunConfig, stage: RunContext, n: int, device: torch.device) -> Steps:
    """The first ``n`` steps of the first epoch of a run. Raises UserError as the run would."""
    from recbench.experiment.dependencies import check_requirements, dependency_configs
    from recbench.objectives.contrastive.base import build_auxiliaries
    from recbench.objectives.distillation.base import build_objective
    from recbench.objectives.distillation.teacher import OnlineLessons
    from recbench.training.fit import set_logits_precision

    check_requirements(config, stage.data)
    student = untrained(config, stage)
    set_logits_precision(student, config.hardware)
    training, train = config.training, TrainingData.of(stage.data, stage.split)
    windows = training_windows(train.start, train.end, training.max_length)
    dataset = WindowDataset(train.data, windows)
    sampler = EpochSampler(windows, training.batch_size, config.seed)
    plan = sampler.plan(0)[:n]
    objective, lessons = None, None
    if config.distillation.name != "none":
        wanted = dependency_configs(config).get("teacher")
        teacher = untrained(wanted, stage) if wanted is not None else None
        objective = build_objective(config.distillation, student, teacher)
        if teacher is not None:
            lessons = Known(OnlineLessons(objective, teacher), [dataset[index] for index in plan])
    learner = Learner(student, training, len(sampler), objective, lessons, build_auxiliaries(student, dataset))
    learner.to(device).train()
    if lessons is not None:
        lessons.to(device)
    made = learner.configure_optimizers()
    return Steps(learner, made["optimizer"] if isinstance(made, dict) else made, dataset, plan, device)
