"""Fitting a model: Lightning's trainer, one thin learner for every model, and the choice of the best epoch on validation.

Every epoch seeds its random numbers from (seed, epoch) and ends with a checkpoint, so that a training that was killed goes on as if
nothing had happened.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader

from recbench.config import HardwareConfig, TrainingConfig
from recbench.contrastive.base import Auxiliary, build_auxiliaries
from recbench.data.batches import Batch, EpochSampler, WindowDataset, training_windows
from recbench.errors import UserError
from recbench.evaluation.meters import CPU_JOULES, Meters, spent_figures
from recbench.losses import CatalogueLoss, has_fast_bfloat16
from recbench.models.base import Recommender, SequenceModel, TrainingData
from recbench.processes import ranks as processes
from recbench.processes.lightning import (
    Compiled,
    SameBuffers,
    Whole,
    compiler_problem,
    environment_of,
    shard,
    strategy_of,
    whole_state,
)
from recbench.processes.ranks import device_of
from recbench.runs import RunFolder, replacing
from recbench.weights import check_checkpoint, load_weights, save_tensors, save_weights

if TYPE_CHECKING:
    from recbench.distillation.base import Objective
    from recbench.distillation.teacher import Lessons, Teaching
    from recbench.progress import Progress

logger = logging.getLogger(__name__)

Validate = Callable[[Recommender], Mapping[str, float]]


#: Added to the seed of an epoch for each process before this one, so that their dropout and negatives are not the same.
RANK_SEEDS = 2_654_435_761


class Learner(pl.LightningModule):
    """A student, perhaps with a distillation objective and what its teacher says, and with auxiliaries, as Lightning sees it.

    The own parameters of objective and auxiliaries are trained and stand in the checkpoint that a training resumes from, but not among the
    student's weights. The teacher is no part of this module: it is neither trained nor stored.
    """

    def __init__(
        self,
        student: Recommender,
        config: TrainingConfig,
        total_steps: int,
        objective: Objective | None = None,
        lessons: Lessons | None = None,
        auxiliaries: Sequence[Auxiliary] = (),
    ) -> None:
        super().__init__()
        self.student, self.objective, self.config, self.total_steps = student, objective, config, total_steps
        self.lessons = lessons
        self.auxiliaries = cast("Sequence[Auxiliary]", nn.ModuleList(auxiliaries))
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        for auxiliary in self.auxiliaries:
            auxiliary.draw(batch)
        losses = self._losses(batch)
        if batch.weight != 1.0:
            losses = {name: value * batch.weight for name, value in losses.items()}
        self._count(losses)
        return losses["loss"]

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and, where it is a sum, its terms by name."""
        own, terms = self._taught_terms(batch)
        for auxiliary in self.auxiliaries:
            assert isinstance(self.student, SequenceModel)
            terms.update(auxiliary.terms(self.student))
        if not terms:
            return {"loss": own}
        return {"loss": torch.stack([own, *terms.values()]).sum(), "recommendation": own, **terms}

    def _taught_terms(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(the student's own loss, the objective's terms), from one forward pass."""
        if self.objective is None:
            return self.student.training_loss(batch), {}
        assert isinstance(self.student, SequenceModel)
        taught = self.lessons(batch) if self.lessons is not None else {}
        states = self.student.hidden_states(batch)
        own = self.student.loss_from_states(states, batch)
        return own, dict(self.objective.terms(self.student, states, taught, batch))

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        again = False
        for auxiliary in self.auxiliaries:
            assert isinstance(self.student, SequenceModel)
            again |= auxiliary.after_step(self.student)
        if again:
            self._step_again(batch)

    def _step_again(self, batch: Batch) -> None:
        """One more step by the same loss on the same batch, which the epoch's means and the schedule do not count."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        optimizer.zero_grad()
        self._losses(batch)["loss"].backward()
        if self.config.gradient_clip:
            moved = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(moved, self.config.gradient_clip)
        optimizer.step()

    def _count(self, terms: Mapping[str, Tensor]) -> None:
        """Add to the epoch's sums without waiting for the device."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        self.steps += 1

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not isinstance(self, FSDPModule):
            shard(self, self.trainer.strategy.device_mesh["data_parallel"])

    def take_means(self) -> dict[str, float]:
        """Mean of each loss term over the epoch and the processes. Raises UserError if one is not finite."""
        means = processes.mean({name: float(value) / max(self.steps, 1) for name, value in self.sums.items()})
        self.sums, self.steps = {}, 0
        for name, value in reversed(means.items()):  # the sum stands first: a term that spoils it is named before it
            if not math.isfinite(value):
                raise UserError(
                    f"the loss term '{name}' became {value}; a smaller training.lr or training.gradient_clip=1 may help"
                )
        return means

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.parameters() if p.requires_grad]
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
        # Without a penalty the two are the same.
        kind, penalty = (
            (torch.optim.Adam, self.config.l2) if self.config.l2 else (torch.optim.AdamW, self.config.weight_decay)
        )
        optimizer = kind(parameters, lr=self.config.lr, weight_decay=penalty, fused=fused)
        if self.config.schedule == "constant" and not self.config.warmup_steps:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.config.warmup_steps) if self.config.warmup_steps else 1.0
        if self.config.schedule == "cosine":
            return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(self.total_steps, 1))))
        if self.config.schedule == "step":
            epoch = step * self.config.max_epochs // max(self.total_steps, 1)
            return warm * 0.1 ** (epoch // self.config.step_epochs)
        return warm

    def on_fit_start(self) -> None:
        if self.lessons is not None:
            self.lessons.to(self.device)


class BestEpoch(Callback):
    """After each epoch: validate, keep the best weights, store a checkpoint to resume from, stop when patience is over."""

    def __init__(
        self,
        folder: RunFolder,
        seed: int,
        sampler: EpochSampler,
        validate: Validate,
        monitor: str,
        patience: int,
        progress: Progress,
        keep_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.seed, self.sampler, self.validate = folder, seed, sampler, validate
        self.monitor, self.patience, self.progress = monitor, patience, progress
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
        if self.history and self._patience_is_over(self.history[-1]["epoch"]):
            trainer.should_stop = True

    def _patience_is_over(self, epoch: int) -> bool:
        return epoch - self.best_epoch >= self.patience

    def on_train_epoch_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        # A sequence of seeds that no other run of a neighbouring seed shares, nor another process of this one.
        torch.manual_seed(self.seed * 1_000_003 + epoch + processes.here().rank * RANK_SEEDS)
        self.sampler.set_epoch(epoch)
        self.started, self.counters = time.perf_counter(), self.meters.read()
        self.progress.epoch_starts(epoch, len(self.sampler))

    def on_train_batch_end(self, trainer: pl.Trainer, learner: pl.LightningModule, *args: Any) -> None:
        assert isinstance(learner, Learner)
        self.progress.step(learner.sums, learner.steps)

    def on_train_epoch_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        assert isinstance(learner, Learner)
        trained = time.perf_counter()
        spent = of_all_processes(self.meters.spent(self.counters, self.meters.read()))
        terms = learner.take_means()
        learner.student.eval()
        with Whole(learner):
            measured = dict(self.validate(learner.student))
        learner.train()
        done = time.perf_counter()
        epoch = trainer.current_epoch
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
        value = measured[self.monitor]
        if value > self.best or self.keep_last:
            self.best, self.best_epoch = value, epoch
            state = whole_state(learner.student)
            if processes.here().leads:
                save_tensors(state, self.folder.weights)
        if processes.here().leads:
            self.folder.write_history(self.history)
        self.progress.epoch_ends(epoch, terms["loss"], value, self.best, self.best_epoch)
        if self._patience_is_over(epoch):
            logger.info(
                "no better validation %s for %d epochs: stopping after epoch %d", self.monitor, self.patience, epoch
            )
            trainer.should_stop = True

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


def fit(
    model: Recommender,
    train: TrainingData,
    folder: RunFolder,
    config: TrainingConfig,
    hardware: HardwareConfig,
    seed: int,
    validate: Validate,
    monitor: str,
    progress: Progress,
    teaching: Teaching | None = None,
    keep_last: bool = False,
    watchers: Sequence[Callback] = (),
) -> dict[str, float]:
    """Train a model and leave it with its best epoch's weights. Returns figures on the training itself (seconds, epochs).

    watchers: callbacks that see every epoch after it is stored, such as a search's that may give it up.
    keep_last: the last epoch's weights are kept and all epochs are trained, for protocols whose validation chooses nothing.
    Continues from ``folder.resume_checkpoint`` if an earlier attempt left one. With ``max_epochs`` 0 the weights are stored as they are.
    Raises UserError if there is nothing to train on, or if the loss diverges.
    """
    windows = training_windows(train.start, train.end, config.max_length)
    if windows.n_targets == 0:
        raise UserError(
            "no user has two training events, so there is nothing to train on; loosen the filters or the protocol's cut"
        )
    ranks = processes.here()
    if config.max_epochs == 0:
        if ranks.leads:
            save_weights(model, folder.weights)
        processes.barrier()
        return {
            "cost/train_seconds": 0.0,
            "cost/train_cpu_seconds": 0.0,
            "cost/epochs": 0,
            "cost/targets_per_epoch": windows.n_targets,
        }
    check_parts(model, ranks)
    sampler = EpochSampler(windows, config.batch_size, seed, ranks.rank, ranks.world)
    dataset = WindowDataset(train.data, windows)
    set_logits_precision(model, hardware)
    # What FSDP cuts into parts stays cut; the model that was given takes the weights in the end.
    trained = copy.deepcopy(model) if hardware.strategy == "fsdp" and ranks.world > 1 else model
    best = BestEpoch(
        folder, seed, sampler, validate, monitor, config.patience, progress, keep_last, device_of(hardware, ranks.local)
    )
    callbacks = [*compiled(trained, hardware), SameBuffers(), best, ResumePoint(folder.resume_checkpoint), *watchers]
    trainer = make_trainer(config, hardware, callbacks)
    objective, lessons = None, None
    if teaching is not None:
        objective = teaching.objective
        with processes.first_before_others():
            lessons = teaching.lessons(dataset, config.max_length, trainer.strategy.root_device)
    auxiliaries = build_auxiliaries(trained, dataset)
    learner = Learner(trained, config, config.max_epochs * len(sampler), objective, lessons, auxiliaries)
    resume = folder.resume_checkpoint if processes.from_first(folder.resume_checkpoint.is_file()) else None
    if resume is not None:
        check_checkpoint(resume)
        logger.info("continuing %s from its last checkpoint", folder.key)
    # With a generator of its own the loader draws nothing from ours, which it would do at another moment in a resumed epoch.
    loader = DataLoader(dataset, sampler=sampler, batch_size=None, generator=torch.Generator())
    with warnings.catch_warnings():
        # The data are memory-mapped: worker processes would only copy what the page cache already holds.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*in eval mode.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            trainer.fit(learner, loader, ckpt_path=str(resume) if resume else None, weights_only=True)
        except SystemExit as end:
            # What Lightning makes of Ctrl+C.
            if trainer.interrupted:
                raise KeyboardInterrupt from end
            raise
    load_weights(model, folder.weights)
    return {**_training_figures(best, windows.n_targets), **(teaching.figures if teaching is not None else {})}


def of_all_processes(spent: Mapping[str, float]) -> dict[str, float]:
    """What all processes spent together; but the CPU's energy is counted for the whole chip, so it is the first one's."""
    everyone = processes.gather(dict(spent))
    return {
        name: value if name == CPU_JOULES else sum(each.get(name, 0.0) for each in everyone)
        for name, value in everyone[0].items()
    }


def _training_figures(best: BestEpoch, n_targets: int) -> dict[str, float]:
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


def make_trainer(config: TrainingConfig, hardware: HardwareConfig, callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's trainer with its own logging, checkpoints and progress switched off: those are ours."""
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    ranks = processes.here()
    warnings.filterwarnings("ignore", message=".*srun.*")  # how processes are started is not for Lightning to say
    try:
        return pl.Trainer(
            accelerator=hardware.accelerator,
            devices=1,
            strategy=strategy_of(hardware, ranks, device_of(hardware, ranks.local)),
            plugins=environment_of(ranks),
            precision="bf16-mixed" if hardware.precision == "bf16-mixed" else "32-true",
            max_epochs=config.max_epochs,
            gradient_clip_val=config.gradient_clip or None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
    except Exception as error:
        if type(error).__name__ == "MisconfigurationException":
            raise UserError(f"hardware={hardware.name} is not to be had here: {str(error).splitlines()[0]}") from error
        raise


def check_parts(model: Recommender, ranks: processes.Ranks) -> None:
    """Raise UserError for several processes where a batch cut into parts would not have the loss of the whole one."""
    reason = model.needs_whole_batch()
    if ranks.world > 1 and reason:
        raise UserError(f"{reason}, so it is trained by one process: set hardware.devices=1")


def compiled(model: Recommender, hardware: HardwareConfig) -> list[Callback]:
    """What runs the layers compiled where that is asked for and possible."""
    if not hardware.compile:
        return []
    problem = compiler_problem(device_of(hardware, processes.here().local))
    if problem is not None:
        logger.warning("hardware.compile: torch.compile does not work here (%s); training goes on without it", problem)
        return []
    return [Compiled(model)]


def set_logits_precision(model: nn.Module, hardware: HardwareConfig) -> None:
    """Let the catalogue product run in bfloat16 where asked for, or where the hardware has it natively."""
    fast = hardware.logits == "bfloat16" or (hardware.logits == "auto" and has_fast_bfloat16(device_of(hardware).type))
    for module in model.modules():
        if isinstance(module, CatalogueLoss):
            module.bfloat16_logits = fast
