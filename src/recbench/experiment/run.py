"""The story of one run: prepare, find what it needs, build, fit, test, record.

The recursion over dependencies lives here: an item table or a teacher is a run like any other, found by its key or made first.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.config.settings import TunedConfig
from recbench.core import run_folder
from recbench.core.errors import UserError, memory_error
from recbench.core.run_folder import RunFolder
from recbench.data.training import TrainingData
from recbench.evaluation.cost.meters import Meters, spent_figures
from recbench.experiment import busy_machine
from recbench.experiment.build import build_model, builder, load_model
from recbench.experiment.context import FOLLOWER, Run, RunContext
from recbench.experiment.dependencies import EPOCHS, check_lists, check_requirements, dependency_configs
from recbench.experiment.key import run_key
from recbench.experiment.teacher import is_untrained
from recbench.experiment.warm_start import check_source, source_folder, source_run, warm_start
from recbench.models.base import ClosedForm, Recommender
from recbench.models.registry import lookup
from recbench.models.weights import save_weights
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.training.convergence import EPOCHS_TRIED
from recbench.training.processes.leader import together
from recbench.training.processes.ranks import here

if TYPE_CHECKING:
    from recbench.experiment.early_stop import Judge
    from recbench.objectives.distillation.teacher import Teaching

logger = logging.getLogger(__name__)


def run(
    config: RunConfig, stage: RunContext | None = None, judge: Judge | None = None, made_for: str | None = None
) -> Run:
    """Find the run of a config, or make it. Raises UserError for whatever the user can mend.

    judge: of a search that may give this run up, though none of those that it needs; then StoppedEarly is raised. made_for: key of the run
    that needs this one; None if it was asked for.
    """
    stage = stage or RunContext.of(config)
    check_requirements(config, stage.data)
    check_lists(config, stage)
    check_source(config)
    wanted = dependency_configs(config)
    key = run_key(config, stage)
    if judge is not None:
        judge.refuse_stopped(RunFolder(config.runs_dir / key))
    if key in stage.made:
        stage.made[key].folder.note_wish(made_for, is_new=False)
        return stage.made[key]
    if wanted and not RunFolder(config.runs_dir / key).finished:
        try_out(config, stage)
    # The dependencies' own locks are taken and released before ours, so no two processes can wait for each other.
    needed = {name: run(part, stage.of_part(part), made_for=key) for name, part in wanted.items()}
    check_teacher(config, needed, stage)
    check_retriever(config, needed, stage)
    folder = run_folder.open_folder(config.runs_dir, key)
    with run_folder.locked(folder):
        reused = folder.finished
        folder.note_wish(made_for, is_new=not reused)
        if not reused:
            with run_folder.recording(folder), shared(config, needed, folder):
                make(config, stage, needed, folder, judge)
        else:
            folder.check_whole()
            logger.info("%s is there already", key)
            add_metrics(config, stage, folder)
    stage.made[key] = Run(folder, config, folder.read("metrics.json"), needed, reused)
    return stage.made[key]


def shared(config: RunConfig, needed: Mapping[str, Run], folder: RunFolder) -> AbstractContextManager[None]:
    """Has the other processes of the hardware, if there are any, ``produce`` the same run. What is computed in one go is not shared."""
    if config.compression.name != "none" or not lookup(config.model.name).model.trains_by_gradient:
        return contextlib.nullcontext()
    keys = {name: part.folder.key for name, part in needed.items()}
    message = {"config": config.as_dict(), "key": folder.key, "needed": keys}
    return together(
        config.hardware, FOLLOWER, message, on_lost=lambda reason: folder.set_state("failed", reason=reason)
    )


def try_out(config: RunConfig, stage: RunContext) -> None:
    """Build, on random weights, what a run will need its dependencies for: a backbone that is not to be had, or layers that cannot be
    compressed, are known before anything is trained."""
    if config.compression.name == "none":
        build_model(config, stage, {})
    else:
        config.compression.try_out(config.model, builder(config, stage))


def make(
    config: RunConfig, stage: RunContext, needed: Mapping[str, Run], folder: RunFolder, judge: Judge | None = None
) -> None:
    """Train, or compress, and test one run into its folder; called with its lock held."""
    from recbench.experiment.provenance import exit_reason, provenance

    started = time.perf_counter()
    folder.write("config.yaml", config.as_dict())
    folder.write(
        "provenance.json", provenance(config, stage.data, stage.split, {n: r.folder.key for n, r in needed.items()})
    )
    with plain_failures(folder.key):
        found = produce(config, stage, needed, folder, judge)
    found["cost/wall_seconds"] = time.perf_counter() - started
    metrics = {
        **found,
        **with_dependencies(found, {**needed, **started_from(config)}),
        "protocol": stage.split.protocol_id,
        "audit": stage.split.audit,
        "oracle": stage.data.manifest.get("extra", {}).get("oracle", {}),
        "dependencies": {
            name: part.folder.key for name, part in {**needed, **beside(started_from(config), config)}.items()
        },
    }
    folder.write("metrics.json", metrics)
    folder.set_state("finished", reason=exit_reason(config, found))
    folder.resume_checkpoint.unlink(missing_ok=True)


@contextlib.contextmanager
def plain_failures(what: str) -> Iterator[None]:
    """Scores that cannot be ranked, and a lack of memory, as UserError of one line. what: is being made, such as a run's key."""
    from recbench.evaluation.ranking import ScoreError

    try:
        yield
    except ScoreError as error:
        raise UserError(
            f"{what} gives scores that cannot be ranked: {error}; train it with a lower training.lr or with "
            "training.gradient_clip=1, or mend the model"
        ) from error
    except Exception as error:
        short = memory_error(error, what)
        if short is None:
            raise
        raise short from error


def add_metrics(config: RunConfig, stage: RunContext, folder: RunFolder) -> None:
    """Give a finished run the metrics of other packages that it lacks: its stored weights are tested once more, and nothing else changes."""
    metrics, prefix = folder.read("metrics.json"), stage.split.metric_prefix
    first = config.evaluation.cutoffs[0]
    lacking = [name for name in config.evaluation.metrics if f"test/{prefix}{name}@{first}" not in metrics]
    mixed = config.evaluation.shuffled_histories and f"test/{prefix}{SHUFFLED}ndcg@{first}" not in metrics
    if not (lacking or mixed) or not lookup(config.model.name).model.ranks:
        return
    from recbench.experiment import evaluate
    from recbench.experiment.shuffled import shuffled_figures

    logger.info(
        "%s: testing it once more for %s", folder.key, ", ".join([*lacking, *(["shuffled histories"] if mixed else [])])
    )
    asked = replace(config, evaluation=replace(config.evaluation, metrics=lacking))
    evaluate.prepare_device(config.hardware, config.seed)
    model = load_model(Run(folder, config, metrics, {}, reused=True), stage)
    found = evaluate.add_metrics(model, stage.data, stage.split, asked, folder) if lacking else {}
    if mixed:
        found |= shuffled_figures(model, stage.data, stage.split, config)
    folder.write("metrics.json", metrics | found)


#: What the figures of shuffled histories begin with (``experiment.shuffled``, which is not imported before it is needed).
SHUFFLED = "shuffled_"

#: What a run cost that is added up over the runs it stands on.
ADDED_UP = ("wall_seconds", "train_seconds", "train_cpu_seconds", "train_gpu_seconds", "energy_joules")


def with_dependencies(own: Mapping[str, Any], needed: Mapping[str, Run]) -> dict[str, float]:
    """``cost/train_seconds_with_dependencies`` and the like: of this run and all it stands on, each counted once, whoever made it and when.

    own: the run's figures. A figure that one of them lacks (an older recbench made it, or it was made elsewhere) is left out for all.
    """
    standing_on: dict[str, Run] = {}
    waiting = list(needed.values())
    while waiting:
        part = waiting.pop()
        if part.folder.key not in standing_on:
            standing_on[part.folder.key] = part
            waiting += part.dependencies.values()
    everything = [own, *(part.metrics for part in standing_on.values())]
    return {
        f"cost/{name}_with_dependencies": sum(metrics[f"cost/{name}"] for metrics in everything)
        for name in ADDED_UP
        if all(f"cost/{name}" in metrics for metrics in everything)
    }


def started_from(config: RunConfig) -> dict[str, Run]:
    """The run of ``training.init_from`` by that name; empty without one. It is none of ours to make, and lies wherever it was made."""
    folder = None if config.compression.name != "none" else source_folder(config)
    return {} if folder is None else {"init_from": source_run(folder)}


def beside(parts: Mapping[str, Run], config: RunConfig) -> dict[str, Run]:
    """Those that lie in ``runs_dir``, where others look for a run by its key alone."""
    return {
        name: part for name, part in parts.items() if part.folder.path.resolve().parent == config.runs_dir.resolve()
    }


def produce(
    config: RunConfig, stage: RunContext, needed: Mapping[str, Run], folder: RunFolder, judge: Judge | None = None
) -> dict[str, Any]:
    """The model of a run, trained and tested; returns its figures. Of several processes all do this, and the first one writes."""
    from recbench.experiment import evaluate
    from recbench.experiment.shuffled import shuffled_figures
    from recbench.models.base import count_parameters

    busy_machine.settle(config, stage)
    evaluate.prepare_device(config.hardware, config.seed)
    memory = evaluate.PeakMemory(evaluate.device_of(config.hardware))
    loaded = {name: load_model(part, stage) for name, part in needed.items() if name != EPOCHS}
    if config.compression.name != "none":
        model, figures = config.compression.make(loaded.pop("original"), folder.weights, builder(config, stage))
    else:
        model = build_model(config, stage, loaded)
        started = warm_start(model, stage.data, config, needed).figures() if source_folder(config) else {}
        train = TrainingData.of(stage.data, stage.split)
        logger.info("%s: training on %s", folder.key, stage.data.folder.name)
        teaching = None
        if config.distillation.name != "none":
            from recbench.objectives.distillation.teacher import Teaching

            taught_by = needed["teacher"].folder if "teacher" in needed else None
            teaching = Teaching.of(config.distillation, model, loaded.get("teacher"), taught_by)
        figures = {**fit(model, train, config, stage, folder, teaching, judge, needed.get(EPOCHS)), **started}
        figures |= doubt_of_loss(model, folder.history())
    parameters = {f"cost/parameters_{name}": value for name, value in count_parameters(model).items()}
    if EPOCHS in needed:
        tested, validated = evaluate.test_without_validation, chosen_on(needed[EPOCHS])
    else:
        tested, validated = evaluate.test if model.ranks else evaluate.report, {}
    outcome = {**tested(model, stage.data, stage.split, config, folder), **validated}
    if model.ranks and config.evaluation.shuffled_histories:
        outcome |= shuffled_figures(model, stage.data, stage.split, config)
    return {**outcome, **figures, **parameters, **evaluate.sizes(model, folder), **memory.figures()}


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
) -> dict[str, float]:
    """Train or compute a model and leave its weights in the folder; returns figures on the training. choosing: the run whose best epoch says for
    how many epochs this one is trained, without a validation of its own."""
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
        from recbench.experiment import evaluate
        from recbench.training import fit as training
    from recbench.core.epoch_bar import Progress
    from recbench.experiment.early_stop import watchers

    epochs = None if choosing is None else int(choosing.metrics["cost/best_epoch"]) + 1
    figures = training.fit(
        model,
        train,
        folder,
        config.training,
        config.hardware,
        config.seed,
        validate=lambda m: evaluate.validate(m, stage.data, stage.split, config),
        monitor=stage.split.metric_prefix + config.evaluation.monitor,
        # The other processes draw no bar of their own.
        progress=Progress(
            folder.key, epochs or config.training.max_epochs, config.evaluation.monitor, None if here().leads else False
        ),
        teaching=teaching,
        keep_last=stage.split.validation_in_training,
        watchers=[*watchers(judge, config, folder), *busy_machine.watchers()],
        epochs=epochs,
    )
    return figures if choosing is None else {**figures, EPOCHS_TRIED: choosing.metrics["cost/epochs"]}


def chosen_on(choosing: Run) -> dict[str, Any]:
    """The validation figures of a run that was trained on validation too: those that chose its epochs."""
    return {name: value for name, value in choosing.metrics.items() if name.startswith("validation/")}


def reference(config: RunConfig, stage: RunContext) -> Run:
    """The popularity run on the same data and protocol: the floor that stands beside every table."""
    model, _ = compose_model({"model": "popularity"}, "reference", config.data.name)
    return run(config.uncompressed().undistilled(model=model, tuned=TunedConfig()), stage)


def check_teacher(config: RunConfig, needed: Mapping[str, Run], stage: RunContext) -> None:
    """Stop before a student learns from a teacher that popularity beats on validation, unless forced."""
    teacher = needed.get("teacher")
    if teacher is None or config.distillation.force or is_untrained(teacher.config) or EPOCHS in needed:
        return  # with a first part, it was that one's teacher that had to show itself, on validation that it had not seen
    if loss := no_better_than_popularity(config, teacher, stage):
        raise UserError(
            f"the teacher {loss}: a student would learn nothing from it; train it longer (distillation.teacher.training.max_epochs) or set "
            "distillation.force=true"
        )


def check_retriever(config: RunConfig, needed: Mapping[str, Run], stage: RunContext) -> None:
    """Stop before a reranker orders what an untrained retriever found: one that popularity beats on validation, unless forced."""
    retriever = needed.get("retriever")
    if retriever is None or config.model.force or EPOCHS in needed:
        return
    if not lookup(retriever.config.model.name).model.trains_by_gradient:
        return
    if loss := no_better_than_popularity(config, retriever, stage):
        raise UserError(
            f"the retriever {loss}: it is not trained, and no order of its items could help; train it longer "
            "(model.retriever.training.max_epochs), name model.retriever.model=popularity, or set model.force=true"
        )


def no_better_than_popularity(config: RunConfig, part: Run, stage: RunContext) -> str:
    """What shows that popularity beats a run on validation; "" if it does not."""
    name = f"validation/{stage.split.metric_prefix}{config.evaluation.monitor}"
    floor = reference(config, stage).metrics[name]
    if part.metrics[name] > floor:
        return ""
    return f"{part.folder.key} has {name} {part.metrics[name]:.4f}, no better than popularity ({floor:.4f})"


def open_run(path: Path) -> tuple[Run, RunContext]:
    """A finished run by its folder, with its data. Raises UserError if it is none."""
    folder = run_folder.finished_run(path)
    config = RunConfig.from_dict(folder.config())
    stage = RunContext.of(config)
    return Run(folder, config, folder.read("metrics.json"), {}, reused=True), stage
