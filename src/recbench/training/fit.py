"""Fitting a model: Lightning's trainer around a ``Learner``, with what happens after each epoch (``recbench.training.epochs``)."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from recbench.config.settings import HardwareConfig, TrainingConfig
from recbench.core import garbage
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.batches import WindowDataset
from recbench.data.clicks.rows import ClickDataset, ClickTraining
from recbench.data.selected import Selected
from recbench.data.training import TrainingData
from recbench.data.training_rows import epoch_sampler, training_rows
from recbench.models.base import Recommender
from recbench.models.collaborative.entities import EntityModel
from recbench.models.sequence_model import SequenceModel
from recbench.models.weights import check_checkpoint, load_weights, save_weights
from recbench.nn.bfloat16 import has_fast_bfloat16
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.training.convergence import cut_off
from recbench.training.epochs import BestEpoch, ResumePoint, Validate, training_figures
from recbench.training.learner import Learner
from recbench.training.processes import ranks as processes
from recbench.training.processes.ranks import device_of
from recbench.training.row_adam import look_up_sparsely
from recbench.training.sparsity import Sparsity
from recbench.training.strategies import Compiled, SameBuffers, compiler_problem, environment_of, strategy_of

if TYPE_CHECKING:
    from recbench.core.epoch_bar import Progress
    from recbench.objectives.distillation.teacher import Teaching

logger = logging.getLogger(__name__)


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
    epochs: int | None = None,
    selected: Selected | None = None,
) -> dict[str, float]:
    """Train a model and leave it with its best epoch's weights. Returns figures on the training itself (seconds, epochs).

    watchers: callbacks that see every epoch after it is stored, such as a search's that may give it up.
    keep_last: the last epoch's weights are kept and all epochs are trained, for protocols whose validation chooses nothing.
    selected: which training events are targets, and how much each counts; all alike if None.
    epochs: train for so many in place of ``max_epochs``, which goes on to say how fast a schedule falls, and do not validate at all.
    Continues from ``folder.resume_checkpoint`` if an earlier attempt left one. With ``max_epochs`` 0, or ``keep_weights``, the weights are stored as
    they are.
    Raises UserError if there is nothing to train on, or if the loss diverges.
    """
    dataset = rows_of(model, train, config)
    windows = dataset.windows
    steps = config.epoch_steps
    if config.equal_steps and selected is not None:
        steps = steps or -(-windows.n_targets // config.batch_size)
    if selected is not None:
        windows = selected.left(windows)
        dataset = WindowDataset(train.data, windows, target_weights=selected.weight)
    n_targets = int(windows.counts.sum())
    ranks = processes.here()
    if config.max_epochs == 0 or config.keep_weights:
        if ranks.leads:
            save_weights(model, folder.weights)
        processes.barrier()
        return {
            "cost/train_seconds": 0.0,
            "cost/train_cpu_seconds": 0.0,
            "cost/epochs": 0,
            "cost/targets_per_epoch": n_targets,
        }
    check_parts(model, ranks)
    check_rows(model, config)
    sampler = epoch_sampler(dataset, config.rows, config.batch_size, seed, ranks.rank, ranks.world, steps)
    set_logits_precision(model, hardware)
    if config.embedding_gradients == "sparse":
        set_sparse_gradients(model, ranks)
    # What FSDP cuts into parts stays cut; the model that was given takes the weights in the end.
    trained = copy.deepcopy(model) if hardware.strategy == "fsdp" and ranks.world > 1 else model
    chooses = None if epochs is not None else validate
    best = BestEpoch(
        folder, seed, sampler, chooses, monitor, config, progress, keep_last, device_of(hardware, ranks.local)
    )
    thin = None
    if config.sparsity.density < 1:
        if ranks.world > 1:
            raise UserError("training.sparsity is for one process: set hardware.devices=1")
        thin = Sparsity(config.sparsity, trained, seed, config.max_epochs * len(sampler))
    callbacks: list[Callback] = [] if thin is None else [thin]
    callbacks += [*compiled(trained, hardware), SameBuffers(), best, ResumePoint(folder.resume_checkpoint), *watchers]
    trainer = make_trainer(config, hardware, callbacks, epochs)
    objective, lessons = None, None
    if teaching is not None:
        assert isinstance(dataset, WindowDataset)
        objective = teaching.objective
        with processes.first_before_others():
            lessons = teaching.lessons(dataset, config.max_length, trainer.strategy.root_device)
    auxiliaries = build_auxiliaries(trained, dataset) if isinstance(dataset, WindowDataset) else []
    learner = Learner(trained, config, config.max_epochs * len(sampler), objective, lessons, auxiliaries)
    resume = folder.resume_checkpoint if processes.from_first(folder.resume_checkpoint.is_file()) else None
    if resume is not None:
        check_checkpoint(resume)
        logger.info("continuing %s from its last checkpoint", folder.key)
    # With a generator of its own the loader draws nothing from ours, which it would do at another moment in a resumed epoch.
    loader = DataLoader(dataset, sampler=sampler, batch_size=None, generator=torch.Generator())
    garbage.look_as_ever()
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
                # The one that came, which may be a signal's.
                came = end.__context__
                raise (came if isinstance(came, KeyboardInterrupt) else KeyboardInterrupt()) from end
            raise
    load_weights(model, folder.weights)
    figures = training_figures(
        best, n_targets * len(sampler) // max(1, -(-n_targets // config.batch_size)) if steps else n_targets
    )
    if ranks.leads and not keep_last and cut_off(asdict(config), figures):
        logger.warning(
            "training.max_epochs=%d ended %s before validation had stopped rising (best epoch %d, patience %d): it may not be trained to its end",
            config.max_epochs, folder.key, best.best_epoch + 1, config.patience,
        )  # fmt: skip
    figures |= {} if thin is None else thin.figures()
    return {**figures, **(teaching.figures if teaching is not None else {})}


def rows_of(model: Recommender, train: TrainingData, config: TrainingConfig) -> WindowDataset | ClickDataset:
    """What an epoch walks through: the rows that the model trains on, or those of impressions for a model that learns from these."""
    if isinstance(train, ClickTraining) and model.learns_clicks:
        return ClickDataset(train, config.max_length if model.reads_histories else 0)
    return training_rows(train, model.trains_on, config.max_length)


def make_trainer(
    config: TrainingConfig, hardware: HardwareConfig, callbacks: list[Callback], epochs: int | None = None
) -> pl.Trainer:
    """Lightning's trainer with its own logging, checkpoints and progress switched off: those are ours. epochs: in place of ``max_epochs``."""
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
            max_epochs=epochs or config.max_epochs,
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
            raise UserError(f"hardware={hardware.name} is not available here: {str(error).splitlines()[0]}") from error
        raise


def check_parts(model: Recommender, ranks: processes.Ranks) -> None:
    """Raise UserError for several processes where a batch cut into parts would not have the loss of the whole one."""
    reason = model.needs_whole_batch()
    if ranks.world > 1 and reason:
        raise UserError(f"{reason}, so it is trained by one process: set hardware.devices=1")


def check_rows(model: Recommender, config: TrainingConfig) -> None:
    """Raise UserError for a way to draw rows that the model's rows do not have."""
    if config.rows != "events" and model.trains_on != "events":
        raise UserError(
            f"training.rows={config.rows} is for models that are trained on single events, not on {model.trains_on}; leave it out"
        )


def set_sparse_gradients(model: Recommender, ranks: processes.Ranks) -> None:
    """Have the gradients of the item tables hold the rows that a step looked up. Raises UserError where they would be dense all the same."""
    problem = ""
    if ranks.world > 1:
        problem = "is for one process: set hardware.devices=1"
    elif isinstance(model, EntityModel):
        if not model.reads_rows_only:
            problem = "does not fit this model, each step of which moves every vector along its graph"
        elif model.config.auxiliary:
            problem = "does not fit model.auxiliary, which reads the whole tables"
    elif not isinstance(model, SequenceModel) or not hasattr(model, "loss"):
        problem = "is for models that score item vectors"
    elif model.loss.config.loss == "softmax":
        problem = "is of no use with model.loss=softmax, which moves every item: set model.loss=sampled_softmax"
    elif not any(isinstance(m, nn.Embedding) and m.weight is model.item_vectors() for m in model.modules()):
        problem = "does not fit this model, which computes the vectors that it scores from its item table"
    if problem:
        raise UserError(f"training.embedding_gradients=sparse {problem}; or use embedding_gradients=dense")
    if isinstance(model, EntityModel):
        look_up_sparsely(model, model.n_items + 1)
        look_up_sparsely(model, model.n_users)
        return
    assert isinstance(model, SequenceModel)
    look_up_sparsely(model, model.n_items + 1)
    model.loss.sparse_gradients = True


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
    """Let the products that end in logits run in bfloat16 where asked for, or where the hardware has it natively."""
    fast = hardware.logits == "bfloat16" or (hardware.logits == "auto" and has_fast_bfloat16(device_of(hardware).type))
    for module in model.modules():
        if isinstance(getattr(module, "bfloat16_logits", None), bool):
            cast("Any", module).bfloat16_logits = fast
