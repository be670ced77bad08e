"""The story of one run: prepare, find what it needs, build, fit, test, record.

The recursion over dependencies lives here: an item table or a teacher is a run like any other, found by its key or made first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbench import runs
from recbench.compression.apply import Build, load_compressed, make_compressed, skeleton
from recbench.compression.configs import CompressionConfig
from recbench.config import RunConfig, compose_model
from recbench.data.item_text import item_texts
from recbench.data.split import Split, make_split, protocol_view
from recbench.data.store import PreparedData, prepare
from recbench.data.text_config import FILE
from recbench.distillation.configs import DistillationConfig
from recbench.distillation.teacher_run import is_untrained, teacher_config
from recbench.errors import UserError
from recbench.evaluation.meters import Meters, spent_figures
from recbench.models.base import ClosedForm, ModelContext, Recommender, TrainingData
from recbench.models.registry import lookup
from recbench.processes.ranks import here
from recbench.processes.team import together
from recbench.runs import RunFolder
from recbench.text.vectors import text_key, text_vectors
from recbench.weights import load_weights, save_weights

if TYPE_CHECKING:
    from recbench.distillation.teacher import Teaching

logger = logging.getLogger(__name__)

#: Added to the seed of a model that is never trained. (Of a seed torch's generator reads the lower 32 bits only.)
UNTRAINED_SEEDS = 2**31


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, its figures, and the runs it stands on."""

    folder: RunFolder
    config: RunConfig
    metrics: dict[str, Any]
    dependencies: Mapping[str, Run]
    reused: bool

    @property
    def validation(self) -> float | None:
        """The validation figure that decides when its training stops, and which run of a search is the best; None if it has none."""
        monitor = self.config.evaluation.monitor
        return self.metrics.get(f"validation/{self.config.protocol.metric_prefix}{monitor}")


@dataclass
class Stage:
    """Data and split of a run; shared by the run and its dependencies, so that both are read once."""

    data: PreparedData
    split: Split
    made: dict[str, Run] = field(default_factory=dict)  # by key

    @classmethod
    def of(cls, config: RunConfig) -> Stage:
        data = protocol_view(prepare(config.data, config.cache_dir), config.protocol)
        return cls(data, make_split(data, config.protocol, data.folder))


def run(config: RunConfig, stage: Stage | None = None) -> Run:
    """Find the run of a config, or make it. Raises UserError for whatever the user can mend."""
    stage = stage or Stage.of(config)
    check_requirements(config, stage.data)
    check_lists(config, stage)
    wanted = dependency_configs(config)
    key = run_key(config, stage)
    if key in stage.made:
        return stage.made[key]
    if wanted and not RunFolder(config.runs_dir / key).finished:
        try_out(config, stage)
    # The dependencies' own locks are taken and released before ours, so no two processes can wait for each other.
    needed = {name: run(part, stage) for name, part in wanted.items()}
    check_teacher(config, needed, stage)
    folder = runs.open_folder(config.runs_dir, key)
    with runs.locked(folder):
        reused = folder.finished
        if not reused:
            with runs.recording(folder), shared(config, needed, folder):
                make(config, stage, needed, folder)
        else:
            logger.info("%s is there already", key)
    stage.made[key] = Run(folder, config, folder.read("metrics.json"), needed, reused)
    return stage.made[key]


def shared(config: RunConfig, needed: Mapping[str, Run], folder: RunFolder) -> AbstractContextManager[None]:
    """Has the other processes of the hardware, if there are any, ``produce`` the same run. What is computed in one go is not shared."""
    if config.compression.name != "none" or not lookup(config.model.name).model.trains_by_gradient:
        return contextlib.nullcontext()
    keys = {name: part.folder.key for name, part in needed.items()}
    message = {"config": config.as_dict(), "key": folder.key, "needed": keys}
    return together(config.hardware, message, on_lost=lambda reason: folder.set_state("failed", reason=reason))


def try_out(config: RunConfig, stage: Stage) -> None:
    """Build, on random weights, what a run will need its dependencies for: a backbone that is not to be had, or layers that cannot be
    compressed, are known before anything is trained."""
    if config.compression.name == "none":
        build_model(config, stage, {})
    else:
        skeleton({}, config.model, config.compression, _builder(config, stage))


def make(config: RunConfig, stage: Stage, needed: Mapping[str, Run], folder: RunFolder) -> None:
    """Train, or compress, and test one run into its folder; called with its lock held."""
    from recbench.tracking.provenance import exit_reason, provenance

    started = time.perf_counter()
    folder.write("config.yaml", config.as_dict())
    folder.write(
        "provenance.json", provenance(config, stage.data, stage.split, {n: r.folder.key for n, r in needed.items()})
    )
    found = produce(config, stage, needed, folder)
    found["cost/wall_seconds"] = time.perf_counter() - started
    metrics = {
        **found,
        **with_dependencies(found, needed),
        "protocol": stage.split.protocol_id,
        "audit": stage.split.audit,
        "oracle": stage.data.manifest.get("extra", {}).get("oracle", {}),
        "dependencies": {name: part.folder.key for name, part in needed.items()},
    }
    folder.write("metrics.json", metrics)
    folder.set_state("finished", reason=exit_reason(config, found))
    folder.resume_checkpoint.unlink(missing_ok=True)


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


def produce(config: RunConfig, stage: Stage, needed: Mapping[str, Run], folder: RunFolder) -> dict[str, Any]:
    """The model of a run, trained and tested; returns its figures. Of several processes all do this, and the first one writes."""
    from recbench import measure
    from recbench.models.base import count_parameters

    measure.prepare_device(config.hardware, config.seed)
    memory = measure.PeakMemory(measure.device_of(config.hardware))
    loaded = {name: load_model(part, stage) for name, part in needed.items()}
    if config.compression.name != "none":
        model, figures = make_compressed(
            loaded.pop("original"), config.compression, folder.weights, _builder(config, stage)
        )
    else:
        model = build_model(config, stage, loaded)
        train = TrainingData.of(stage.data, stage.split)
        logger.info("%s: training on %s", folder.key, stage.data.folder.name)
        figures = fit(model, train, config, stage, folder, build_teaching(config, model, loaded, needed))
    parameters = {f"cost/parameters_{name}": value for name, value in count_parameters(model).items()}
    tested = measure.test if model.ranks else measure.report
    outcome = tested(model, stage.data, stage.split, config, folder)
    return {**outcome, **figures, **parameters, **measure.sizes(model, folder), **memory.figures()}


def fit(
    model: Recommender,
    train: TrainingData,
    config: RunConfig,
    stage: Stage,
    folder: RunFolder,
    teaching: Teaching | None,
) -> dict[str, float]:
    """Train or compute a model and leave its weights in the folder; returns figures on the training."""
    if isinstance(model, ClosedForm):
        meters = Meters()
        started, counters = time.perf_counter(), meters.read()
        model.fit_to(train)
        save_weights(model, folder.weights)
        seconds, spent = time.perf_counter() - started, meters.spent(counters, meters.read())
        return {"cost/train_seconds": seconds, **spent_figures(spent, seconds, meters.device, 1)}
    # Imported here because Lightning alone takes seconds, and a computed model does without it.
    from recbench.quick_import import without_accessories

    with without_accessories():
        from recbench import measure, training
    from recbench.progress import Progress
    from recbench.tune.prune import watchers

    return training.fit(
        model,
        train,
        folder,
        config.training,
        config.hardware,
        config.seed,
        validate=lambda m: measure.validate(m, stage.data, stage.split, config),
        monitor=stage.split.metric_prefix + config.evaluation.monitor,
        # The other processes draw no bar of their own.
        progress=Progress(
            folder.key, config.training.max_epochs, config.evaluation.monitor, None if here().leads else False
        ),
        teaching=teaching,
        keep_last=stage.split.validation_in_training,
        watchers=watchers(config, folder),
    )


def run_key(config: RunConfig, stage: Stage) -> str:
    """The key of a run: everything that changes its result, its data, and the keys of what it stands on."""
    model = lookup(config.model.name).model
    trained = model.trains_by_gradient
    training: Mapping[str, Any] = runs.key_values(config.training)
    parts = {
        "model": runs.key_values(config.model),
        "protocol": stage.split.protocol_id,
        "split": stage.split.split_hash,
        "data": stage.data.fingerprint,
        "cutoffs": sorted(config.evaluation.cutoffs),
        # A computed model knows no learning rate, and most know no seed: it is the same run under all of them.
        "training": training if trained else {"max_length": config.training.max_length},
        "seed": config.seed if model.uses_seed else None,
        "distillation": config.distillation.key_parts() if config.distillation.name != "none" else None,
        "dependencies": {name: run_key(part, stage) for name, part in dependency_configs(config).items()},
    }
    if not model.ranks:
        # It sees all training events whatever the length of a history, and no cutoff: one run for whoever needs it.
        parts |= {"training": None, "cutoffs": None}
    # Said only where there is one, so that the runs of before keep their keys.
    if config.compression.name != "none":
        parts["compression"] = dataclasses.asdict(config.compression)
    if "text_vectors" in model.requires:
        parts["text"] = text_key(config.data.text, config.cache_dir)
    return runs.make_key(config.model.name, parts)


def dependency_configs(config: RunConfig) -> dict[str, RunConfig]:
    """The runs a config needs, by role. A dependency shares data, protocol and seed, and is never distilled itself. Raises UserError for
    wrong keys of theirs, and where one cannot teach the other.

    A compressed run needs the same run uncompressed, which in turn needs whatever that model needs.
    """
    if config.compression.name != "none":
        return {"original": replace(config, compression=CompressionConfig())}
    wanted = {
        name: (keys, f"model.{name}")
        for name, keys in lookup(config.model.name).model.dependencies(config.model).items()
    }
    found = {}
    for name, (keys, where) in wanted.items():
        model, training = compose_model(keys, where, config.data.name)
        found[name] = replace(
            config, model=model, training=replace(config.training, **training), distillation=no_distillation()
        )
        found[name].check()
    if hasattr(config.distillation, "teacher"):
        found["teacher"] = teacher_config(config)
        if not lookup(found["teacher"].model.name).model.ranks:
            raise UserError(
                f"{found['teacher'].model.name} ranks nothing, so it cannot teach; name another distillation.teacher.model"
            )
    config.distillation.check_models(config.model, found["teacher"].model if "teacher" in found else None)
    return found


def check_dependencies(config: RunConfig) -> None:
    """Raise UserError for wrong keys of the runs that a config needs, and of those that they need, before any data are read."""
    for part in dependency_configs(config).values():
        check_dependencies(part)


def no_distillation() -> Any:
    return DistillationConfig()


def check_requirements(config: RunConfig, data: PreparedData) -> None:
    """Refuse data that lack what a model reads, by name, before anything is trained."""
    offered = {
        "timestamps": data.has_timestamps,
        "text": data.has_text,
        "text_vectors": data.has_text or config.data.text.encoder == FILE,
        "behaviours": data.has_behaviours,
    }
    missing = sorted(need for need in lookup(config.model.name).model.requires if not offered[need])
    if missing:
        raise UserError(
            f"the model '{config.model.name}' needs {' and '.join(missing)}, which data={config.data.name} does not have"
        )


def check_lists(config: RunConfig, stage: Stage) -> None:
    """Refuse a search whose lists cannot be ranked under the protocol, or are shorter than a cutoff, before anything is trained."""
    name, cutoff = config.model.name, min(max(config.evaluation.cutoffs), stage.data.n_items)
    longest = lookup(name).model.longest_list(config.model)
    if longest is None:
        return
    if stage.split.test.candidates is not None:
        raise UserError(
            f"{stage.split.protocol_id} ranks given candidates, which the beams of '{name}' cannot; use model.decoder=exact, or "
            "protocol=leave_one_out"
        )
    if longest < cutoff:
        raise UserError(
            f"'{name}' finds at most {longest} items a user, fewer than the cutoff {cutoff}: raise model.beams or lower "
            "evaluation.cutoffs"
        )


def reference(config: RunConfig, stage: Stage) -> Run:
    """The popularity run on the same data and protocol: the floor that stands beside every table."""
    model, _ = compose_model({"model": "popularity"}, "reference", config.data.name)
    floor = replace(config, model=model, distillation=no_distillation(), compression=CompressionConfig())
    return run(floor, stage)


def check_teacher(config: RunConfig, needed: Mapping[str, Run], stage: Stage) -> None:
    """Stop before a student learns from a teacher that popularity beats on validation, unless forced."""
    teacher = needed.get("teacher")
    if teacher is None or config.distillation.force or is_untrained(teacher.config):
        return
    name = f"validation/{stage.split.metric_prefix}{config.evaluation.monitor}"
    floor = reference(config, stage).metrics[name]
    if teacher.metrics[name] <= floor:
        raise UserError(
            f"the teacher {teacher.folder.key} has {name} {teacher.metrics[name]:.4f}, no better than popularity ({floor:.4f}): a student "
            "would learn nothing from it; train it longer (distillation.teacher.training.max_epochs) or set distillation.force=true"
        )


def build_model(
    config: RunConfig, stage: Stage, loaded: Mapping[str, Recommender], stored: bool = False
) -> Recommender:
    """The model of a config, untrained. stored: its weights will be read, so it needs no vectors of the items' texts."""
    train = TrainingData.of(stage.data, stage.split)
    counts = torch.from_numpy(train.item_counts())
    model = lookup(config.model.name).model
    texts = item_texts(stage.data) if "text" in model.requires else None
    vectors = None
    if "text_vectors" in model.requires and not stored:
        from recbench.measure import device_of

        vectors = text_vectors(stage.data, config.data.text, config.cache_dir, device_of(config.hardware))
    sizes = stage.data.n_items, stage.data.n_users, config.training.max_length
    context = ModelContext(*sizes, counts, loaded, texts, train, config.seed, vectors)
    # Weights that are never trained must not be those that a student of the same seed starts from.
    torch.manual_seed(config.seed + (UNTRAINED_SEEDS if is_untrained(config) else 0))
    return model(config.model, context)


def _builder(config: RunConfig, stage: Stage) -> Build:
    """Builds models of other configs as those of this run are built."""
    return lambda model, needed: build_model(replace(config, model=model), stage, needed)


def load_model(finished: Run, stage: Stage) -> Recommender:
    """The model of a finished run with its weights, in evaluation mode and frozen."""
    if finished.config.compression.name != "none":
        config = finished.config
        return load_compressed(finished.folder.weights, config.model, config.compression, _builder(config, stage))
    model = build_model(finished.config, stage, {}, stored=True)
    load_weights(model, finished.folder.weights)
    return model.eval().requires_grad_(False)


def build_teaching(
    config: RunConfig, student: Recommender, loaded: Mapping[str, Recommender], needed: Mapping[str, Run]
) -> Teaching | None:
    """The distillation objective of a config with its teacher; None without one. Raises UserError where models do not fit it."""
    if config.distillation.name == "none":
        return None
    from recbench.distillation.base import build_objective
    from recbench.distillation.teacher import Teaching

    if "teacher" not in loaded:
        return Teaching(build_objective(config.distillation, student, None))
    objective = build_objective(config.distillation, student, loaded["teacher"])
    access = config.distillation.mode, config.distillation.store
    return Teaching(objective, loaded["teacher"], needed["teacher"].folder, *access)


def open_run(path: Path) -> tuple[Run, Stage]:
    """A finished run by its folder, with its data. Raises UserError if it is none."""
    folder = RunFolder(path)
    if not folder.finished:
        raise UserError(f"{path} holds no finished run (its state is '{folder.state}')")
    config = RunConfig.from_dict(folder.config())
    stage = Stage.of(config)
    return Run(folder, config, folder.read("metrics.json"), {}, reused=True), stage
