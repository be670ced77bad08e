"""The schema of a whole run, gathered from the dataclasses that stand beside the code they build.

``conf/`` holds values only. Which keys exist, and of what type, is said by the dataclasses here and in the rooms: a key that no
dataclass knows, or a value of the wrong type, is a UserError that names the nearest right one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recbench.compression.configs import CompressionConfig
from recbench.compression.configs import config_class as compression_class
from recbench.contrastive.configs import check_auxiliaries
from recbench.errors import UserError, nearest
from recbench.later import LATER
from recbench.models.registry import lookup


@dataclass
class TrainingConfig:
    """How a model is trained; the same keys for every model, so that budgets can be compared."""

    max_epochs: int = 100
    batch_size: int = 512  # predicted events (targets) a step, however many users they come from
    lr: float = 1e-3
    weight_decay: float = 0.0
    patience: int = 10  # epochs without a better validation NDCG before training stops
    max_length: int = 50  # the most recent events of a history that a model sees
    warmup_steps: int = 0  # steps over which the learning rate rises from 0
    schedule: str = "constant"  # constant | cosine (to 0 over max_epochs) | step (times 0.1 every step_epochs)
    gradient_clip: float = 0.0  # largest norm of the gradient; 0 clips nothing
    step_epochs: int = field(default=3, metadata=LATER)  # of schedule=step
    # L2 penalty as a part of the gradient (Adam), where weight_decay stands apart from it (AdamW). They differ for rare items.
    l2: float = field(default=0.0, metadata=LATER)
    # Of item tables: dense | sparse, which moves only the rows that a step looks up (recbench.row_adam). Another optimiser, for large catalogues.
    embedding_gradients: str = field(default="dense", metadata=LATER)
    # Epochs from one validation to the next; the last epoch always has one. For models whose validation costs as much as an epoch.
    validate_every: int = field(default=1, metadata=LATER)


@dataclass
class EvaluationConfig:
    """What is reported. NDCG at 10, or at the largest cutoff where 10 is none of them, decides when training stops."""

    cutoffs: list[int] = field(default_factory=lambda: [1, 5, 10, 20])

    @property
    def monitor(self) -> str:
        return f"ndcg@{10 if 10 in self.cutoffs else max(self.cutoffs)}"


@dataclass
class HardwareConfig:
    """Where a run computes. Never part of a run's key, because it changes no result beyond rounding."""

    name: str = "auto"
    accelerator: str = "auto"  # auto | cpu | gpu
    devices: int = 1  # processes on each machine
    nodes: int = 1  # machines; more than one needs torchrun or srun
    strategy: str = "auto"  # of several processes: auto (ddp) | ddp | fsdp
    precision: str = "fp32"  # of training: fp32 | bf16-mixed
    compile: bool = False  # torch.compile for the layers in training
    threads: int = 0  # CPU threads of torch; 0 leaves them as they are
    logits: str = "auto"  # precision of the catalogue product in training: auto | float32 | bfloat16


@dataclass
class SlurmConfig(HardwareConfig):
    """Hardware that a Slurm job asks for; read by the launcher of a sweep, since a run inside the job has it already."""

    name: str = "slurm"
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None  # on each node
    cpus: int | None = None  # of each task
    memory_gb: int | None = None  # on each node
    minutes: int = 60
    requeue: int = 3  # times that a job which was preempted or ran out of time is queued again


@dataclass
class TrackingConfig:
    """Where finished runs are sent."""

    name: str = "mlflow"
    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "recbench"
    timeout_seconds: int = 10  # how long a server may be silent before the run is kept for a later sync


@dataclass
class RootConfig:
    """Everything that one command line decides. The groups are filled by the dataclass of the chosen option."""

    seed: int = 1
    runs_dir: str = "runs"
    cache_dir: str = "~/.cache/recbench"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    model: Any = None
    data: Any = None
    protocol: Any = None
    distillation: Any = None
    compression: Any = None
    hardware: Any = None
    tracking: Any = None


SCHEDULES = ("constant", "cosine", "step")

#: The smallest value that makes sense, by key.
LEAST = {
    "seed": 0,
    **dict.fromkeys(("training.max_epochs", "training.batch_size", "training.patience", "training.max_length"), 1),
    **dict.fromkeys(("training.weight_decay", "training.warmup_steps", "training.gradient_clip", "training.l2"), 0),
    **dict.fromkeys(("training.step_epochs", "training.validate_every"), 1),
    "hardware.devices": 1,
    "hardware.nodes": 1,
    "hardware.threads": 0,
}


@dataclass(frozen=True)
class RunConfig:
    """One run, resolved and typed. ``teacher_of`` and the like do not exist: a dependency is a RunConfig like any other."""

    seed: int
    model: Any
    data: Any
    protocol: Any
    distillation: Any
    training: TrainingConfig
    evaluation: EvaluationConfig
    hardware: HardwareConfig
    tracking: TrackingConfig
    runs_dir: Path
    cache_dir: Path
    compression: CompressionConfig = field(default_factory=CompressionConfig)

    @classmethod
    def from_hydra(cls, composed: DictConfig) -> RunConfig:
        """The composed config as typed objects. Raises UserError for keys and values that no dataclass accepts."""
        try:
            refuse_stray_keys(composed)
            parts: dict[str, Any] = {
                str(k): OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in composed.items()
            }
        except OmegaConfBaseException as error:
            raise UserError(one_line(error)) from error
        for path in ("runs_dir", "cache_dir"):
            parts[path] = Path(str(parts[path])).expanduser().absolute()
        config = cls(**parts)
        config.check()
        return config

    def check(self) -> None:
        """Raise UserError for choices and numbers that make no sense, before anything is read or trained."""
        for group in GROUPS:
            part = getattr(self, group)
            if part is None:
                raise UserError(f"{group} is missing; choose one with {group}=OPTION")
            if type(part) is not schema_of(group, part.name):
                raise UserError(f"{group}.name is not a key to change; choose with {group}={part.name}")
        check_auxiliaries(self.model)
        self.distillation.check()
        self.compression.check(self.model, lookup(self.model.name).model.trains_by_gradient)
        for key, least in LEAST.items():
            value = attrgetter(key)(self)
            if not value >= least:  # in this form it refuses NaN too
                raise UserError(f"{key} must be at least {least}, not {value}")
        if not self.training.lr > 0:
            raise UserError(f"training.lr must be positive, not {self.training.lr}")
        if self.training.schedule not in SCHEDULES:
            raise UserError(
                f"unknown training.schedule '{self.training.schedule}'; {nearest(self.training.schedule, SCHEDULES)}"
            )
        if self.training.l2 and self.training.weight_decay:
            raise UserError("training.l2 and training.weight_decay are two forms of one penalty; set one of them")
        self._check_embedding_gradients()
        if not self.evaluation.cutoffs or min(self.evaluation.cutoffs) < 1:
            raise UserError(f"evaluation.cutoffs must be positive numbers, not {self.evaluation.cutoffs}")
        for key, value, known in (
            ("accelerator", self.hardware.accelerator, ["auto", "cpu", "gpu"]),
            ("strategy", self.hardware.strategy, ["auto", "ddp", "fsdp"]),
            ("precision", self.hardware.precision, ["fp32", "bf16-mixed"]),
            ("logits", self.hardware.logits, ["auto", "float32", "bfloat16"]),
        ):
            if value not in known:
                raise UserError(f"unknown hardware.{key} '{value}'; {nearest(value, known)}")

    def _check_embedding_gradients(self) -> None:
        kind, known = self.training.embedding_gradients, ["dense", "sparse"]
        if kind not in known:
            raise UserError(f"unknown training.embedding_gradients '{kind}'; {nearest(kind, known)}")
        if kind == "sparse":
            for key in ("l2", "gradient_clip"):
                if getattr(self.training, key):
                    raise UserError(
                        f"training.{key} needs the whole gradient: set it to 0, or embedding_gradients=dense"
                    )

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the layout of the command line: what config.yaml of a run folder holds."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        return {**plain, "runs_dir": str(self.runs_dir), "cache_dir": str(self.cache_dir)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunConfig:
        """The inverse of ``as_dict``. A run that was stored before there was any compression has none."""
        typed: dict[str, Any] = {"compression": {"name": "none"}, **plain}
        refuse_interpolation(plain)
        for group in GROUPS:
            typed[group] = OmegaConf.to_object(with_schema(group, typed[group]["name"], typed[group]))
        typed["training"] = TrainingConfig(**plain["training"])
        typed["evaluation"] = EvaluationConfig(**plain["evaluation"])
        typed["runs_dir"], typed["cache_dir"] = Path(plain["runs_dir"]), Path(plain["cache_dir"])
        return cls(**typed)


#: Before the name of an option of ``tuned``: it lies in the folder ``tuned`` of the working folder, where a search wrote it.
HERE = "here/"

#: The Hydra groups of a run, each with a schema.
GROUPS = ("model", "data", "protocol", "distillation", "compression", "hardware", "tracking")


def schema_of(group: str, name: str) -> type:
    """The dataclass that says which keys an option of a group has; imports only the room that holds it."""
    if group == "model":
        return lookup(name).config
    if group == "data":
        from recbench.data.sources import config_class

        return config_class(name)
    if group == "protocol":
        from recbench.data.protocol import PROTOCOLS

        if name not in PROTOCOLS:
            raise UserError(f"unknown protocol '{name}'; {nearest(name, PROTOCOLS)}")
        return PROTOCOLS[name]
    if group == "distillation":
        from recbench.distillation.configs import config_class as distillation_class

        return distillation_class(name)
    if group == "compression":
        return compression_class(name)
    if group == "hardware":
        return SlurmConfig if name == "slurm" else HardwareConfig
    return TrackingConfig


def with_schema(group: str, name: str, values: Mapping[str, Any]) -> DictConfig:
    """Values of one option laid over its dataclass. Raises UserError for unknown keys and wrong types, with the nearest right key."""
    schema = OmegaConf.structured(schema_of(group, name))
    known = [str(key) for key in schema]
    for key in values:
        if key not in known:
            raise UserError(f"unknown key '{group}.{key}' for {group} '{name}'; {nearest(str(key), known)}")
    try:
        return OmegaConf.merge(schema, dict(values))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{group} '{name}': {one_line(error)}") from error


def refuse_stray_keys(node: DictConfig, where: str = "") -> None:
    """Raise UserError for a key that no dataclass knows. Hydra lets one in behind a '+', and nothing would ever read it."""
    schema = OmegaConf.get_type(node)
    known = [f.name for f in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else None
    for key, child in node.items():
        path = f"{where}.{key!s}".lstrip(".")
        if known is not None and key not in known:
            owner = f" for {where} '{node['name']}'" if "name" in known else ""
            raise UserError(f"unknown key '{path}'{owner}; {nearest(str(key), known)}")
        if isinstance(child, DictConfig):
            refuse_stray_keys(child, path)


def refuse_interpolation(values: Any, where: str = "") -> None:
    """Raise UserError for a stored value such as ``${oc.env:HOME}``, which OmegaConf would fill from this machine; what we store is resolved."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            refuse_interpolation(value, f"{where}.{key}".lstrip("."))
    elif isinstance(values, list | tuple):
        for value in values:
            refuse_interpolation(value, where)
    elif isinstance(values, str) and "${" in values:
        raise UserError(
            f"the stored config asks for a value of this machine ({where}={values[:80]}); it was not written by recbench"
        )


def conf_dir() -> Path:
    """The folder of YAML values: inside an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def option_values(group: str, option: str) -> dict[str, Any]:
    """The values of ``conf/<group>/<option>.yaml`` less its defaults list; only the name for an option without a file."""
    path = conf_dir() / group / f"{option}.yaml"
    values = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
    values.pop("defaults", None)
    return {"name": option, **values}


def compose_model(keys: Mapping[str, Any], where: str, data: str) -> tuple[Any, dict[str, Any]]:
    """A model config from loose keys such as ``{"model": "sasrec", "hidden_size": 128, "training": {"lr": 1e-4}}``.

    Returns (config dataclass, training keys to change). ``where`` is the place of the keys on the command line, for messages; ``data`` the
    name of the data, for which ``conf/tuned`` may hold better values than the model's own. Raises UserError for an unknown model or key.
    """
    rest = dict(keys)
    training = rest.pop("training", None) or {}
    option = rest.pop("model", None)
    if not option or not isinstance(option, str):
        raise UserError(f"{where}.model is missing: name a registered model")
    if not isinstance(training, Mapping):
        raise UserError(f"{where}.training must hold training keys, as in {where}.training.max_epochs=50")
    tuned = option_values("tuned", f"{option}-{data}")
    training = {**tuned.get("training", {}), **training}
    values = {**option_values("model", option), **tuned.get("model", {})}
    schema = schema_of("model", values["name"])
    known = [f.name for f in dataclasses.fields(schema)]
    for key in rest:
        if key not in known:
            raise UserError(f"unknown key '{where}.{key}' for model '{option}'; {nearest(key, [*known, 'training'])}")
    known_training = [f.name for f in dataclasses.fields(TrainingConfig)]
    for key in training:
        if key not in known_training:
            raise UserError(f"unknown key '{where}.training.{key}'; {nearest(key, known_training)}")
    try:
        typed = OmegaConf.merge(OmegaConf.structured(TrainingConfig), dict(training))
    except OmegaConfBaseException as error:
        raise UserError(f"{where}.training.{one_line(error)}") from error
    model = OmegaConf.to_object(with_schema("model", values["name"], {**values, **rest}))
    return model, {key: typed[key] for key in training}


def one_line(error: Exception) -> str:
    """The first line of an OmegaConf or Hydra message, with the key it speaks of."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    key = getattr(error, "full_key", None)
    return f"{key}: {text}" if key and str(key) not in text else text
