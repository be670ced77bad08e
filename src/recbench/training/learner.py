"""A model as Lightning trains it: one thin module for every model, with its losses, its optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn

from recbench.config.settings import TrainingConfig
from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.nn.optimizers import uncompiled
from recbench.training.processes import ranks as processes
from recbench.training.row_adam import RowAdam
from recbench.training.strategies import is_cut, shard

if TYPE_CHECKING:
    from recbench.objectives.distillation.teacher import Lessons


class TaughtTerms(Protocol):
    """What the learner asks of a distillation objective; whether the student fits it was checked when it was built."""

    def terms(
        self, student: Any, states: list[Tensor], taught: dict[str, Tensor], batch: Batch
    ) -> Mapping[str, Tensor]: ...


class FurtherTerms(Protocol):
    """What the learner asks of an auxiliary; whether the student fits it was checked when it was built."""

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None: ...

    def draw(self, batch: Batch) -> None: ...

    def own_loss(self, model: Any, batch: Any) -> Tensor | None: ...

    def terms(self, model: Any) -> dict[str, Tensor]: ...

    def after_step(self, model: Any) -> bool: ...


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
        objective: TaughtTerms | None = None,
        lessons: Lessons | None = None,
        auxiliaries: Sequence[FurtherTerms] = (),
    ) -> None:
        super().__init__()
        self.student, self.objective, self.config, self.total_steps = student, objective, config, total_steps
        self.lessons = lessons
        self.auxiliaries = cast("Sequence[FurtherTerms]", nn.ModuleList(cast("Sequence[nn.Module]", auxiliaries)))
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def start_epoch(self, epoch: int, seed: int) -> None:
        """Let the model and the auxiliaries draw what they draw once an epoch."""
        parts: list[Any] = [self.student, *self.auxiliaries]
        for number, part in enumerate(parts):
            part.start_epoch(epoch, torch.Generator().manual_seed((seed * 1_000_003 + epoch) * 17 + number))

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
            terms.update(auxiliary.terms(self.student))
        if not terms:
            return {"loss": own}
        return {"loss": torch.stack([own, *terms.values()]).sum(), "recommendation": own, **terms}

    def _taught_terms(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(the student's own loss, the objective's terms), from one forward pass."""
        if self.objective is None:
            made = (auxiliary.own_loss(self.student, batch) for auxiliary in self.auxiliaries)
            found = next((loss for loss in made if loss is not None), None)
            return (self.student.training_loss(batch) if found is None else found), {}
        taught = self.lessons(batch) if self.lessons is not None else {}
        states = self.student.hidden_states(batch)
        own = self.student.loss_from_states(states, batch)
        return own, dict(self.objective.terms(self.student, states, taught, batch))

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        again = False
        for auxiliary in self.auxiliaries:
            again |= auxiliary.after_step(self.student)
        if again:
            self._step_again(batch)

    def _step_again(self, batch: Batch) -> None:
        """One more step by the same loss on the same batch, which the epoch's means and the schedule do not count."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
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
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not is_cut(self):
            shard(self, self.trainer.strategy.device_mesh["data_parallel"])

    def take_means(self) -> dict[str, float]:
        """Mean of each loss term over the epoch and the processes. Raises UserError if one is not finite."""
        means = processes.mean({name: float(value) / max(self.steps, 1) for name, value in self.sums.items()})
        self.sums, self.steps = {}, 0
        for name, value in reversed(means.items()):  # the sum stands first: a term that spoils it is named before it
            if not math.isfinite(value):
                raise UserError(
                    f"the loss term '{name}' became {value} in epoch {self.current_epoch + 1} (training.lr={self.config.lr:g}); "
                    "a smaller training.lr or training.gradient_clip=1 may help"
                )
        return means

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self.config.schedule == "constant" and not self.config.warmup_steps:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        devices = {p.device.type for p in parameters}
        sparse = self.config.embedding_gradients == "sparse"
        if self.config.optimizer == "adagrad":
            fused = devices == {"cpu"} and not sparse  # all that torch has of it
            return uncompiled(torch.optim.Adagrad)(
                parameters, lr=self.config.lr, weight_decay=self.config.l2, fused=fused
            )
        # Without a penalty Adam and AdamW are the same.
        kind: type[torch.optim.Adam] = torch.optim.AdamW
        penalty = self.config.weight_decay
        if self.config.l2:
            kind, penalty = torch.optim.Adam, self.config.l2
        elif sparse:
            kind = RowAdam
        return uncompiled(kind)(parameters, lr=self.config.lr, weight_decay=penalty, fused=devices <= {"cpu", "cuda"})

    def _lr_factor(self, step: int) -> float:
        if self.config.schedule == "inverse_sqrt":
            return math.sqrt(self.config.warmup_steps / max(step + 1, self.config.warmup_steps))
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
