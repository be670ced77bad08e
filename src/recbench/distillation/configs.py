"""The schema of each distillation option; light to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.errors import UserError, nearest


@dataclass
class DistillationConfig:
    """No distillation: the student learns from the data alone."""

    name: str = "none"

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raise UserError where the configs of two models already say that one cannot teach the other."""


@dataclass
class SLMRecDistillation(DistillationConfig):
    """The objective of SLMRec (arXiv 2405.17890, section 3): see ``distillation/slmrec.py`` for the formula and its two forms."""

    name: str = "slmrec"
    #: The teacher's keys, laid over the student's own where both are the same model: ``{"model": ..., "n_layers": ..., "training": {...}}``.
    teacher: dict[str, Any] = field(default_factory=lambda: {"model": "slmrec", "n_layers": 8})
    n_blocks: int = 4  # B; divides the depth of both
    cosine_weight: float = 1.0  # lambda_1
    norm_weight: float = 0.1  # lambda_2
    supervision_weight: float = 0.1  # lambda_3
    form: str = "paper"  # paper: mean over blocks, squared norm | released: sum over blocks, plain norm
    force: bool = False  # learn even from a teacher that popularity beats

    def check_models(self, student: Any, teacher: Any) -> None:
        for role, model in (("student", student), ("teacher", teacher)):
            if hasattr(model, "n_layers"):
                check_blocks(self.n_blocks, model.n_layers, role)


_CONFIGS: dict[str, type[DistillationConfig]] = {"none": DistillationConfig, "slmrec": SLMRecDistillation}


def config_class(name: str) -> type[DistillationConfig]:
    """The dataclass of a distillation option. Raises UserError for an unknown name."""
    if name not in _CONFIGS:
        raise UserError(f"unknown distillation '{name}'; {nearest(name, sorted(_CONFIGS))}")
    return _CONFIGS[name]


def check_blocks(n_blocks: int, depth: int, role: str) -> None:
    """Raise UserError where B blocks do not divide the depth of the teacher or the student."""
    if n_blocks < 1 or depth % n_blocks:
        raise UserError(f"distillation.n_blocks={n_blocks} does not divide the {depth} layers of the {role}")
