"""What happens after each epoch of a training: validation, the best weights, the history, the checkpoint to resume from.

Every epoch seeds its random numbers from (seed, epoch) and ends with a checkpoint, so that a training that was killed goes on as if
nothing had happened.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, replacing
from recbench.data.epoch_sampler import EpochSampler
from recbench.evaluation.cost.meters import CPU_JOULES, Meters, spent_figures
from recbench.evaluation.ranking import ScoreError
from recbench.models.base import Recommender
from recbench.models.weights import save_tensors
from recbench.training.learner import Learner
from recbench.training.processes import ranks as processes
from recbench.training.strategies import Whole, whole_state

if TYPE_CHECKING:
    from recbench.core.epoch_bar import Progress

logger = logging.getLogger(__name__)

Validate = Callable[[Recommender], Mapping[str, float]]

#: Added to the seed of an epoch for each process before this one, so that their dropout and negatives are not the same.
RANK_SEEDS = 2_654_435_761


class BestEpoch(Callback):
    """After each epoch: validate if it is time to, keep the best weights, stop when patience is over. Without ``validate`` the last are kept."""

    def __init__(
        self,
        folder: RunFolder,
        seed: int,
        sampler: EpochSampler,
        validate: Validate | None,
        monitor: str,
        config: TrainingConfig,
        progress: Progress,
        keep_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.seed, self.sampler, self.validate = folder, seed, sampler, validate
        self.monitor, self.progress = monitor, progress
        self.patience, self.every = config.patience, config.validate_every
        self.keep_last = keep_last
        self.meters = Meters(device)
        self.best, self.best_epoch = -math.inf, -1
        self.history: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        best = {"best": self.best, "best_epoch": self.best_epoch, "history": self.history}
        return {**best, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.history = state["best"], state["best_epoch"], list(state["history"])
        if "sampler" in state:  # not in checkpoints of before
            self.sampler.load_state_dict(state["sampler"])

    def on_train_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        # Killed between its last epoch and its end: nothing is left to train.
        if self._patience_is_over():
            trainer.should_stop = True
        assert isinstance(learner, Learner)
        # Lightning leaves every module as it was made; here ``train`` decides, also in the first epoch, for what it keeps still.
        learner.train()
        if learner.student.starts_trained and self.validate is not None and not self.history and self.best == -math.inf:
            self._keep_start(learner)

    def _keep_start(self, learner: Learner) -> None:
        """Validate the weights that a training goes on from, and keep them until an epoch beats them."""
        self.best = self._measure(learner).get(self.monitor, self.best)
        logger.info("before the first epoch: validation %s %.4f", self.monitor, self.best)
        state = whole_state(learner.student)
        if processes.here().leads:
            save_tensors(state, self.folder.weights)

    def _patience_is_over(self) -> bool:
        """Whether the last validation came ``patience`` epochs or more after the best one."""
        validated = [epoch["epoch"] for epoch in self.history if f"validation/{self.monitor}" in epoch]
        return bool(validated) and validated[-1] - self.best_epoch >= self.patience

    def on_train_epoch_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        # A sequence of seeds that no other run of a neighbouring seed shares, nor another process of this one.
        torch.manual_seed(self.seed * 1_000_003 + epoch + processes.here().rank * RANK_SEEDS)
        self.sampler.set_epoch(epoch)
        self.started, self.counters = time.perf_counter(), self.meters.read()
        assert isinstance(learner, Learner)
        learner.start_epoch(epoch, self.seed)
        self.progress.epoch_starts(epoch, len(self.sampler))

    def on_train_batch_end(self, trainer: pl.Trainer, learner: pl.LightningModule, *args: Any) -> None:
        assert isinstance(learner, Learner)
        self.progress.step(learner.sums, learner.steps)

    def on_train_epoch_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        assert isinstance(learner, Learner)
        trained = time.perf_counter()
        spent = of_all_processes(self.meters.spent(self.counters, self.meters.read()))
        terms = learner.take_means()
        epoch = trainer.current_epoch
        is_last = epoch + 1 == trainer.max_epochs
        is_due = self.validate is not None and ((epoch + 1) % self.every == 0 or is_last)
        measured = self._measure(learner) if is_due else {}
        done = time.perf_counter()
        self.history.append(
            {
                "epoch": epoch,
                **{f"train/{name}": value for name, value in terms.items()},
                **{f"validation/{name}": value for name, value in measured.items()},
                "seconds/train": trained - self.started,
                "seconds/validation": done - trained,
                **{f"spent/{name}": value for name, value in spent.items()},
            }
        )
        value = measured.get(self.monitor)
        is_kept = is_last if value is None else value > self.best or self.keep_last
        if is_kept:
            self.best, self.best_epoch = self.best if value is None else value, epoch
            state = whole_state(learner.student)
            if processes.here().leads:
                save_tensors(state, self.folder.weights)
        if processes.here().leads:
            self.folder.write_history(self.history)
        self.progress.epoch_ends(epoch, terms["loss"], value, self.best, self.best_epoch)
        if value is not None and self._patience_is_over():
            waited = epoch - self.best_epoch
            logger.info(
                "no better validation %s for %d epochs: stopping after epoch %d", self.monitor, waited, epoch + 1
            )
            trainer.should_stop = True

    def _measure(self, learner: Learner) -> dict[str, float]:
        assert self.validate is not None
        learner.student.eval()
        with Whole(learner):
            try:
                measured = dict(self.validate(learner.student))
            except ScoreError as error:
                raise UserError(self._unrankable(learner, error)) from error
        learner.train()
        return measured

    def _unrankable(self, learner: Learner, error: ScoreError) -> str:
        """Why a model cannot be validated: its loss diverged within the epoch, perhaps by its last step, or its scores are no scores."""
        epoch, lr = f"epoch {learner.current_epoch + 1}", f"training.lr={learner.config.lr:g}"
        mend = "a smaller training.lr or training.gradient_clip=1 may help"
        loader: Any = learner.trainer.train_dataloader
        batch = loader.dataset[next(iter(self.sampler))].to(learner.device)
        with torch.no_grad():
            loss = float(learner.student.training_loss(batch))
        if math.isfinite(loss):
            return f"the model's scores cannot be ranked after {epoch}: {error} ({lr}; the loss is {loss:g}); {mend}"
        return f"the loss became {loss} in {epoch} ({lr}), and the scores with it; {mend}"

    def on_train_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        self.progress.close()


class ResumePoint(Callback):
    """Stores Lightning's own state after each epoch. Separate, and last, so that it sees what the other callbacks made of the epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        if not processes.here().leads:
            trainer.save_checkpoint(
                self.path
            )  # gives its part of the state; Lightning writes in the first process only
            return
        with replacing(self.path) as temporary:
            trainer.save_checkpoint(temporary)


def of_all_processes(spent: Mapping[str, float]) -> dict[str, float]:
    """What all processes spent together; but the CPU's energy is counted for the whole chip, so it is the first one's."""
    everyone = processes.gather(dict(spent))
    return {
        name: value if name == CPU_JOULES else sum(each.get(name, 0.0) for each in everyone)
        for name, value in everyone[0].items()
    }


def training_figures(best: BestEpoch, n_targets: int) -> dict[str, float]:
    """What the whole training cost, from its history; also of one that was resumed."""
    seconds = [epoch["seconds/train"] for epoch in best.history]
    # Not of a training that an older recbench began, which left them out.
    names = [name for name in best.history[0] if name.startswith("spent/")]
    spent = {
        name.removeprefix("spent/"): sum(epoch[name] for epoch in best.history)
        for name in names
        if all(name in epoch for epoch in best.history)
    }
    return {
        **spent_figures(spent, sum(seconds), best.meters.device, processes.here().world),
        "cost/train_seconds": sum(seconds),
        "cost/validation_seconds": sum(epoch["seconds/validation"] for epoch in best.history),
        "cost/epochs": len(seconds),
        "cost/best_epoch": best.best_epoch,
        "cost/seconds_per_epoch": sorted(seconds)[len(seconds) // 2],
        "cost/targets_per_epoch": n_targets,
    }
