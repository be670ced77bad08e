"""How Lightning trains with processes that exist already: it is told who they are and starts none itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError, first_line
from recbench.training.processes.ranks import Ranks

if TYPE_CHECKING:
    from recbench.models.base import Recommender


class GivenRanks(ClusterEnvironment):
    """The ranks as they are. Lightning's own guesses would start processes, or requeue Slurm jobs, which is not its business here."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise RuntimeError("the process group was made before")

    @property
    def main_port(self) -> int:
        raise RuntimeError("the process group was made before")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.ranks.world

    def set_world_size(self, size: int) -> None:
        pass  # as given

    def global_rank(self) -> int:
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        pass  # as given

    def local_rank(self) -> int:
        return self.ranks.local

    def node_rank(self) -> int:
        return 0


def strategy_of(hardware: HardwareConfig, ranks: Ranks, device: torch.device) -> Strategy | str:
    """Lightning's strategy for these processes, of which this one computes on ``device``."""
    if ranks.world == 1:
        return "auto"
    # Lightning takes the device at the place of the local rank; which one that is was decided when the processes met.
    devices = [device] * (ranks.local + 1)
    environment = GivenRanks(ranks)
    if hardware.strategy == "fsdp":
        sharded = ModelParallelStrategy(ranks.world, 1, save_distributed_checkpoint=False)
        sharded.parallel_devices, sharded.cluster_environment = devices, environment
        return sharded
    # A model may leave a parameter out of a step, as one of a later stage.
    return DDPStrategy(parallel_devices=devices, cluster_environment=environment, find_unused_parameters=True)


def environment_of(ranks: Ranks) -> list[Any]:
    """Lightning's plugins; a process alone needs one too, inside a Slurm job."""
    return [GivenRanks(ranks)] if ranks.world == 1 else []


def shard(learner: nn.Module, mesh: Any) -> None:
    """Leave each process a part of every trained parameter, which it gathers for a step and updates alone (FSDP 2).

    One unit: within a step the parameters are whole. What lies in parts is the gradient, the optimiser's state, and the parameter between
    steps. What is frozen stays whole with each. Raises UserError for a parameter that cannot be cut.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    frozen = {parameter for parameter in learner.parameters() if not parameter.requires_grad}
    scalars = [name for name, p in learner.named_parameters() if p.requires_grad and p.ndim == 0]
    if scalars:
        raise UserError(f"hardware.strategy=fsdp cannot cut the scalar {scalars[0]} into parts; use hardware=ddp")
    fully_shard(learner, mesh=mesh, ignored_params=frozen)
    register_fsdp_forward_method(learner, "training_step")


def is_cut(learner: nn.Module) -> bool:
    """Whether each process has a part of it. Only what cuts imports the library, which takes half a second."""
    library = sys.modules.get("torch.distributed.fsdp")
    return library is not None and isinstance(learner, library.FSDPModule)


class Whole:
    """A learner whose parameters are whole within the block, for validation. Does nothing for one that was not cut."""

    def __init__(self, learner: nn.Module) -> None:
        self.parts: Any = learner if is_cut(learner) else None

    def __enter__(self) -> None:
        if self.parts is not None:
            self.parts.unshard()

    def __exit__(self, *_: Any) -> None:
        if self.parts is not None:
            self.parts.reshard()


def whole_state(model: Recommender) -> dict[str, Tensor]:
    """What the model stores, each tensor whole. To be called by all processes."""
    state = model.stored_state()
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}


class SameBuffers(Callback):
    """Before validation all processes take the first one's buffers, should a model have kept something of its batches in one."""

    def on_train_epoch_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in learner.buffers():
                torch.distributed.broadcast(buffer, 0)


class Compiled(Callback):
    """The layers (``hidden_states``) run compiled during training, and as they are elsewhere, so that figures come from one code."""

    def __init__(self, model: Recommender) -> None:
        self.model, self.compiled = model, torch.compile(model.hidden_states, dynamic=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        # What the compiler cannot take runs as it is, instead of ending the training.
        torch._dynamo.config.suppress_errors = True
        self.model.__dict__["hidden_states"] = self.compiled

    def on_train_epoch_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        self.release()

    def on_exception(self, trainer: pl.Trainer, learner: pl.LightningModule, exception: BaseException) -> None:
        self.release()

    def release(self) -> None:
        torch._dynamo.config.suppress_errors = False
        self.model.__dict__.pop("hidden_states", None)


def compiler_problem(device: torch.device) -> str | None:
    """Why torch.compile does not work here, in a line; None if it does."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1)(torch.zeros(2, device=device))
    except Exception as error:
        return first_line(error)[:150]
    return None
