"""How long a training step of a config takes here, measured on its data: for estimates of hours before anything is trained."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset
from recbench.data.training_rows import epoch_sampler
from recbench.evaluation.cost.efficiency import wait_for
from recbench.experiment.build import build_model
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.device import device_of, prepare_device
from recbench.experiment.task import task_of
from recbench.models.base import ModelContext, Recommender
from recbench.models.closed_form import ClosedForm
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup
from recbench.models.tokenizers.random_ids import RandomIds, RandomIdsConfig
from recbench.models.tokenizers.tokenizer import ItemTokenizer
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.training.fit import rows_of
from recbench.training.learner import Learner

#: Timed steps, and seconds of them after which no further one begins. The first step, which allocates, compiles and may make a graph for all
#: that follow, is none of them unless it is the only one of an epoch.
STEPS, ENOUGH_SECONDS = 3, 2.0
#: Users whose validation is timed, at most.
CASES = 256


@dataclass(frozen=True)
class StepTime:
    """step: seconds of a training step; steps: of an epoch; validation: seconds of ranking all validation cases once."""

    step: float
    steps: int
    validation: float

    def seconds(self, epochs: int, validate_every: int = 1) -> float:
        """Of so many epochs with their validations."""
        return epochs * self.steps * self.step + epochs / validate_every * self.validation


def time_step(config: RunConfig, stage: RunContext) -> StepTime | None:
    """The time of a step, with fresh weights and random codes for what the run needs; None for a run without epochs, as of what is computed.

    With a teacher its forward pass is timed too; the objective's own terms are not. Raises UserError where the model cannot be built.
    """
    if config.compression.name != "none" or not lookup(config.model.name).model.trains_by_gradient:
        return None
    prepare_device(config.hardware, config.seed)
    device = device_of(config.hardware)
    if config.training.max_epochs == 0 or config.training.keep_weights:
        return None
    model = _fresh(config, stage)
    try:
        dataset = rows_of(model, stage.train, config.training)
    except UserError:  # the run will say so
        return None
    teacher_part = dependency_configs(config).get("teacher")
    teacher = None if teacher_part is None else _fresh(teacher_part, stage).eval()
    how = config.training
    sampler = epoch_sampler(dataset, how.rows, how.batch_size, config.seed, steps=how.epoch_steps)
    sampler.set_epoch(0)
    auxiliaries = build_auxiliaries(model, dataset) if isinstance(dataset, WindowDataset) else []
    learner = Learner(model, config.training, len(sampler), auxiliaries=auxiliaries).to(device)
    learner.start_epoch(0, config.seed)
    found = learner.configure_optimizers()
    optimizer = found["optimizer"] if isinstance(found, dict) else found
    seconds: list[float] = []
    for _, index in zip(range(STEPS + 1), sampler, strict=False):
        seconds.append(_step(learner, optimizer, dataset[index].to(device), teacher, device))
        if sum(seconds[1:]) > ENOUGH_SECONDS:
            break
    timed = sorted(seconds[1:] or seconds)
    return StepTime(timed[len(timed) // 2], len(sampler), _validation(model, stage, config))


def _step(
    learner: Learner, optimizer: torch.optim.Optimizer, batch: Any, teacher: Recommender | None, device: torch.device
) -> float:
    wait_for(device)
    started = time.perf_counter()
    if teacher is not None:
        with torch.no_grad():
            teacher.hidden_states(batch)
    learner.train()
    optimizer.zero_grad()
    learner.training_step(batch, 0).backward()
    optimizer.step()
    wait_for(device)
    return time.perf_counter() - started


def _fresh(config: RunConfig, stage: RunContext) -> Recommender:
    """The model of a config with fresh weights, on its device."""
    return build_model(config, stage, _stand_ins(config, stage)).to(device_of(config.hardware))


def _stand_ins(config: RunConfig, stage: RunContext) -> dict[str, Recommender]:
    """What the model needs, without its training: random codes, as many and as large as those that the run's tokenizers will make, fresh weights
    of what learns by gradient, and whatever is computed."""
    found: dict[str, Recommender] = {}
    own = parts_of(lookup(config.model.name).model, config.model)
    for role, part in dependency_configs(config).items():
        if role not in own:  # a teacher, or scores of training rows
            continue
        kind = lookup(part.model.name).model
        if issubclass(kind, ItemTokenizer):
            sizes = {name: getattr(part.model, name) for name in ("levels", "codebook_size", "collisions")}
            found[role] = RandomIds(RandomIdsConfig(**sizes), ModelContext(stage.data.n_items, stage.data.n_users, 1))
        else:
            found[role] = _fresh(part, stage)
        if isinstance(made := found[role], ClosedForm):
            made.fit_to(stage.train)
    return found


def _validation(model: Recommender, stage: RunContext, config: RunConfig) -> float:
    """Seconds of ranking all validation cases, or of the logits of all validation rows, from some of them."""
    task = task_of(stage)
    n = min(CASES, task.n_validation)
    if n == 0 or not (model.ranks or config.protocol.asks_clicks):
        return 0.0
    chosen = torch.linspace(0, task.n_validation - 1, n).long().numpy()
    started = time.perf_counter()
    with torch.no_grad():
        task.ask(model, config, chosen)
    return (time.perf_counter() - started) / n * task.n_validation
