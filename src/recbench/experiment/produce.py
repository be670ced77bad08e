"""The model of a run: built or compressed, trained, tested."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbench.config.run import RunConfig
from recbench.core.run_folder import RunFolder
from recbench.data.selected import Selected
from recbench.data.training import TrainingData
from recbench.evaluation.cost.meters import Meters, spent_figures
from recbench.experiment import busy_machine
from recbench.experiment.added_later import lacks_validation
from recbench.experiment.build import build_model, builder, load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.dependencies import EPOCHS
from recbench.experiment.warm_start import source_folder, warm_start
from recbench.models.base import Recommender
from recbench.models.closed_form import ClosedForm
from recbench.models.weights import save_weights
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.training.convergence import EPOCHS_TRIED
from recbench.training.processes.ranks import here

if TYPE_CHECKING:
    from recbench.experiment.early_stop import Judge
    from recbench.objectives.distillation.teacher import Teaching


logger = logging.getLogger(__name__)


def produce(
    config: RunConfig, stage: RunContext, needed: Mapping[str, Run], folder: RunFolder, judge: Judge | None = None
) -> dict[str, Any]:
    """The model of a run, trained and tested; returns its figures. Of several processes all do this, and the first one writes."""
    from recbench.experiment.cost_of_use import PeakMemory, sizes
    from recbench.experiment.device import device_of, prepare_device
    from recbench.experiment.task import task_of
    from recbench.models.base import count_parameters

    watch = busy_machine.settle(config, stage)
    prepare_device(config.hardware, config.seed)
    memory = PeakMemory(device_of(config.hardware))
    loaded = {name: load_model(part, stage) for name, part in needed.items() if name != EPOCHS}
    if config.compression.name != "none":
        model, figures = config.compression.make(loaded.pop("original"), folder.weights, builder(config, stage))
    else:
        model = build_model(config, stage, loaded)
        started = warm_start(model, stage.data, config, needed).figures() if source_folder(config) else {}
        train = stage.train
        selected = selected_targets(loaded.get("selection"), train)
        logger.info("%s: training on %s", folder.key, stage.data.folder.name)
        teaching = None
        if config.distillation.name != "none":
            from recbench.objectives.distillation.teacher import Teaching

            taught_by = needed["teacher"].folder if "teacher" in needed else None
            teaching = Teaching.of(config.distillation, model, loaded.get("teacher"), taught_by)
        figures = {
            **fit(model, train, config, stage, folder, teaching, judge, needed.get(EPOCHS), selected, watch),
            **started,
        }
        figures |= doubt_of_loss(model, folder.history())
    parameters = {f"cost/parameters_{name}": value for name, value in count_parameters(model).items()}
    task = task_of(stage)
    outcome = task.test(model, config, folder)
    if EPOCHS in needed:
        # The validation figures of a run that was trained on validation too are those that chose its epochs.
        figures |= {name: v for name, v in needed[EPOCHS].metrics.items() if name.startswith("validation/")}
    elif lacks_validation(config, model, figures):
        figures |= measured_when_kept(folder.history(), figures) or {
            f"validation/{name}": value for name, value in task.validate(model, config).items()
        }
    return {**outcome, **figures, **parameters, **sizes(model, folder), **memory.figures()}


def measured_when_kept(history: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> dict[str, float]:
    """The validation figures of the epoch whose weights were kept; none where these are from before the first epoch, or nothing was trained."""
    kept = [epoch for epoch in history if epoch["epoch"] == figures.get("cost/best_epoch")]
    return {name: value for epoch in kept for name, value in epoch.items() if name.startswith("validation/")}


def doubt_of_loss(model: Recommender, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``{"doubts": {"loss", "uniform_loss"}}`` where the model's own loss of the last epoch is above that of guessing all items alike; nothing
    else, and nothing for losses of which that is not known."""
    measure = getattr(model, "loss", None)
    uniform = measure.uniform() if isinstance(measure, CatalogueLoss) else None
    last = history[-1] if history else {}
    loss = last.get("train/recommendation", last.get("train/loss"))
    if uniform is None or loss is None or loss <= uniform:
        return {}
    return {"doubts": {"loss": loss, "uniform_loss": uniform}}


def fit(
    model: Recommender,
    train: TrainingData,
    config: RunConfig,
    stage: RunContext,
    folder: RunFolder,
    teaching: Teaching | None,
    judge: Judge | None = None,
    choosing: Run | None = None,
    selected: Selected | None = None,
    watch: busy_machine.Watch | None = None,
) -> dict[str, float]:
    """Train or compute a model and leave its weights in the folder; returns figures on the training. choosing: the run whose best epoch says for
    how many epochs this one is trained, without a validation of its own. watch: what looks at the machine meanwhile."""
    if isinstance(model, ClosedForm):
        meters = Meters()
        started, counters = time.perf_counter(), meters.read()
        model.fit_to(train)
        save_weights(model, folder.weights)
        seconds, spent = time.perf_counter() - started, meters.spent(counters, meters.read())
        return {"cost/train_seconds": seconds, **spent_figures(spent, seconds, meters.device, 1)}
    # Imported here because Lightning alone takes seconds, and a computed model does without it.
    from recbench.training.quick_import import without_accessories

    with without_accessories():
        from recbench.experiment.task import task_of
        from recbench.training import fit as training
    from recbench.core.epoch_bar import Progress
    from recbench.experiment.early_stop import watchers

    task = task_of(stage)
    epochs = None if choosing is None else int(choosing.metrics["cost/best_epoch"]) + 1
    figures = training.fit(
        model,
        train,
        folder,
        config.training,
        config.hardware,
        config.seed,
        validate=lambda trained: task.validate(trained, config),
        monitor=stage.split.metric_prefix + config.evaluation.monitor,
        # The other processes draw no bar of their own.
        progress=Progress(
            folder.key, epochs or config.training.max_epochs, config.evaluation.monitor, None if here().leads else False
        ),
        teaching=teaching,
        keep_last=stage.split.validation_in_training,
        watchers=[*watchers(judge, config, folder), *busy_machine.callbacks(watch)],
        epochs=epochs,
        selected=selected,
    )
    return figures if choosing is None else {**figures, EPOCHS_TRIED: choosing.metrics["cost/epochs"]}


def selected_targets(selection: Recommender | None, train: TrainingData) -> Selected | None:
    """What a selection's run keeps of the training events; None without one, and where it keeps all with one weight."""
    if selection is None:
        return None
    state = selection.stored_state()
    return Selected.of(state["keep"].cpu().numpy(), state["weight"].cpu().numpy(), train)
