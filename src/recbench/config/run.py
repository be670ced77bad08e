"""One run, as a typed object: made from what Hydra composed or from what a run folder holds, and checked before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recbench.config.schemas import GROUPS, known_option, one_line, refuse_interpolation, refuse_stray_keys, schema_of
from recbench.config.settings import (
    EvaluationConfig,
    HardwareConfig,
    TrackingConfig,
    TrainingConfig,
    TunedConfig,
)
from recbench.core.errors import UserError, nearest
from recbench.core.secrets import hide, redact_values
from recbench.data.attack import AttackConfig
from recbench.data.training import ROWS
from recbench.evaluation.added_metrics import check_metrics
from recbench.evaluation.monitor import CLICK_MONITORS, check_monitor
from recbench.models.auxiliary import check_auxiliaries
from recbench.models.fallback_config import check_fallback
from recbench.models.head_config import check_heads_of_items
from recbench.models.items import check_items
from recbench.models.registry import lookup
from recbench.models.selected_targets import check_selection
from recbench.posthoc.compression.configs import CompressionConfig

SCHEDULES = ("constant", "cosine", "step", "inverse_sqrt")
OPTIMIZERS = ("adamw", "adagrad")

#: The smallest value that makes sense, by key.
LEAST = {
    "seed": 0,
    **dict.fromkeys(("training.max_epochs", "training.batch_size", "training.patience", "training.max_length"), 1),
    **dict.fromkeys(("training.weight_decay", "training.warmup_steps", "training.gradient_clip", "training.l2"), 0),
    "training.epoch_steps": 0,
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
    tuned: TunedConfig = field(default_factory=TunedConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)

    def __post_init__(self) -> None:
        # What decides when a training stops: a ranking metric means nothing under a protocol that asks for clicks.
        usual = self.evaluation.monitor == self.evaluation.usual_monitor
        if usual and getattr(self.protocol, "asks_clicks", False):
            object.__setattr__(self, "evaluation", replace(self.evaluation, monitor=CLICK_MONITORS[0]))

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
        for group in ("data", "tracking"):
            _hide_secrets(parts[group])
        for path in ("runs_dir", "cache_dir"):
            parts[path] = Path(str(parts[path])).expanduser().absolute()
        if parts["tuned"].name is None:
            parts["tuned"] = TunedConfig()  # which file there might be is of no use where there is none
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
        self.attack.check()
        if self.protocol.asks_clicks and (self.attack != AttackConfig() or self.training.selection != "none"):
            key = "training.selection" if self.training.selection != "none" else "attack"
            raise UserError(f"protocol=clicks trains on judged rows, which {key} does not know; set it to none")
        if self.training.resample_day is not None:
            self._check_resampling()
        check_auxiliaries(self.model)
        check_items(self.model)
        check_fallback(self.model)
        check_heads_of_items(self.model, self.distillation.name != "none")
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
        if self.training.schedule == "inverse_sqrt" and not self.training.warmup_steps:
            raise UserError("training.schedule=inverse_sqrt falls after training.warmup_steps; set it to at least 1")
        if self.training.rows not in ROWS:
            raise UserError(f"unknown training.rows '{self.training.rows}'; {nearest(self.training.rows, ROWS)}")
        check_selection(self.training, self.model, self.distillation.name != "none")
        self.training.sparsity.check()
        self._check_optimizer()
        self._check_embedding_gradients()
        if self.training.keep_weights and self.training.init_from is None:
            raise UserError(
                "training.keep_weights=true keeps the weights of a finished run: name it by training.init_from"
            )
        if self.training.init_from is not None and not lookup(self.model.name).model.trains_by_gradient:
            raise UserError(
                f"training.init_from: '{self.model.name}' is computed, not trained, and starts from nothing"
            )
        if not self.evaluation.cutoffs or min(self.evaluation.cutoffs) < 1:
            raise UserError(f"evaluation.cutoffs must be positive numbers, not {self.evaluation.cutoffs}")
        check_monitor(self.evaluation.monitor, self.protocol.asks_clicks)
        check_metrics(self.evaluation.metrics)
        for key, value, known in (
            ("accelerator", self.hardware.accelerator, ["auto", "cpu", "gpu"]),
            ("strategy", self.hardware.strategy, ["auto", "ddp", "fsdp"]),
            ("precision", self.hardware.precision, ["fp32", "bf16-mixed"]),
            ("logits", self.hardware.logits, ["auto", "float32", "bfloat16"]),
        ):
            if value not in known:
                raise UserError(f"unknown hardware.{key} '{value}'; {nearest(value, known)}")

    def _check_optimizer(self) -> None:
        kind = self.training.optimizer
        if kind not in OPTIMIZERS:
            raise UserError(f"unknown training.optimizer '{kind}'; {nearest(kind, OPTIMIZERS)}")
        if kind == "adagrad" and self.training.weight_decay:
            raise UserError("training.weight_decay is AdamW's; with training.optimizer=adagrad set training.l2 instead")

    def _check_embedding_gradients(self) -> None:
        kind, known = self.training.embedding_gradients, ["dense", "sparse"]
        if kind not in known:
            raise UserError(f"unknown training.embedding_gradients '{kind}'; {nearest(kind, known)}")
        if kind == "sparse":
            if self.training.sparsity.density < 1:
                raise UserError("training.sparsity needs the whole gradient: use training.embedding_gradients=dense")
            for key in ("l2", "gradient_clip"):
                if getattr(self.training, key):
                    raise UserError(
                        f"training.{key} needs the whole gradient: set it to 0, or embedding_gradients=dense"
                    )

    def undistilled(self, **changes: Any) -> RunConfig:
        """The same without distillation, with other parts where they are given by name, and validated: others may ask how good it is."""
        validated = replace(self.evaluation, validate=True)
        return replace(self, distillation=schema_of("distillation", "none")(), evaluation=validated, **changes)

    def uncompressed(self) -> RunConfig:
        """The same run before it is compressed."""
        return replace(self, compression=CompressionConfig())

    def _check_resampling(self) -> None:
        if self.training.resample_day < 0:  # type: ignore[operator]
            raise UserError(f"training.resample_day={self.training.resample_day} is a seed: 0 or more, or null")
        if self.protocol.asks_clicks or self.attack != AttackConfig():
            other = "protocol=clicks" if self.protocol.asks_clicks else f"attack={self.attack.name}"
            raise UserError(
                f"training.resample_day asks how lists change, which {other} does not; leave one of them out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the layout of the command line: what config.yaml of a run folder holds. Secrets of addresses are left out."""
        plain: dict[str, Any] = redact_values(dataclasses.asdict(self))
        if self.tuned.name is None:
            del plain["tuned"]
        return {**plain, "runs_dir": str(self.runs_dir), "cache_dir": str(self.cache_dir)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunConfig:
        """The inverse of ``as_dict``. A run that was stored before there was any compression has none. Raises UserError."""
        try:
            return cls._from_plain(plain)
        except (KeyError, TypeError, AttributeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise UserError(
                f"the stored config is not that of a run ({said[:120]}); was it edited? make the run again"
            ) from error

    @classmethod
    def _from_plain(cls, plain: Mapping[str, Any]) -> RunConfig:
        typed: dict[str, Any] = {"compression": {"name": "none"}, "attack": {"name": "none"}, **plain}
        refuse_interpolation(plain)
        for group in GROUPS:
            typed[group] = OmegaConf.to_object(known_option(group, typed[group]["name"], typed[group]))
        typed["training"] = TrainingConfig(**plain["training"])
        typed["evaluation"] = EvaluationConfig(**plain["evaluation"])
        typed["tuned"] = TunedConfig(**plain.get("tuned", {}))
        typed["runs_dir"], typed["cache_dir"] = Path(plain["runs_dir"]), Path(plain["cache_dir"])
        return cls(**typed)


def _hide_secrets(part: Any) -> None:
    """Secrets that came in through an interpolation rather than by a word of the command line."""
    for entry in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        value = getattr(part, entry.name)
        if isinstance(value, str) and "://" in value:
            setattr(part, entry.name, hide(value))
