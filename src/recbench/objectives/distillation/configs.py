"""The schema of each distillation option, and what its config alone can tell to be wrong; light to import.

Every mistake that is visible in the configs of student, teacher and objective is refused here, by name, before anything is trained.

Another package adds objectives through the entry-point group ``recbench.distillation``: each entry is ``name = "package.module"``, a module that
registers that name when it is imported (``recbench.objectives.distillation.base.register``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER, NO_KEY
from recbench.core.plug_ins import PlugIns
from recbench.objectives.distillation.checks import (
    check_blocks,
    check_choice,
    check_least,
    check_weight,
    check_widths,
    class_of,
    has_states,
    state_width,
)

#: The teacher of whoever names none. A teacher of another kind has the depth that its own config says.
DEFAULT_TEACHER = {"model": "slmrec", "n_layers": 8}


@dataclass
class DistillationConfig:
    """No distillation: the student learns from the data alone."""

    name: str = "none"

    def check(self) -> None:
        """Raise UserError for values that make no sense whatever the models are."""

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raise UserError where the configs of two models already say that one cannot teach the other."""


@dataclass
class StudentOnlyConfig(DistillationConfig):
    """What every objective asks of its student."""

    def check_models(self, student: Any, teacher: Any) -> None:
        model = class_of(student)
        if not model.trains_by_gradient:
            raise UserError(
                f"the model '{student.name}' is computed, not trained, so it cannot be a student of distillation={self.name}; "
                "set distillation=none"
            )
        if not has_states(student):
            raise UserError(
                f"the model '{student.name}' cannot be a student of distillation={self.name}, because it does not score items by the "
                "product of a state with item vectors; set distillation=none"
            )


@dataclass
class TaughtConfig(StudentOnlyConfig):
    """What the objectives with a teacher share."""

    #: The teacher's keys, laid over the student's own where both are the same model: ``{"model": ..., "n_layers": ..., "training": {...}}``;
    #: ``init: random`` leaves it untrained.
    teacher: dict[str, Any] = field(default_factory=dict)
    #: offline: ask the teacher once and keep what it says on disk | online: ask it at every step
    mode: str = field(default="offline", metadata=NO_KEY)
    #: What offline keeps it in: float32 | float16 (half the disk, rounded to three digits) | bfloat16 (half the disk, two digits, any size).
    store: str = field(default="float32", metadata=NO_KEY)
    force: bool = False  # learn even from a teacher that popularity beats

    #: What an objective compares of the teacher: its hidden states, or anything that ranks items.
    reads_states: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # Here and not in the YAML, where another model's name would be laid over a depth that was not meant for it.
        if self.teacher.get("model", "slmrec") == "slmrec":
            self.teacher = {**DEFAULT_TEACHER, **self.teacher}

    def check(self) -> None:
        check_choice("mode", self.mode, ("offline", "online"))
        check_choice("store", self.store, ("float32", "float16", "bfloat16"))

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        if self.reads_states and not has_states(teacher):
            raise UserError(
                f"the teacher '{teacher.name}' has no hidden states, which distillation={self.name} compares; "
                "use distillation=logits or distillation=ranking, or another teacher"
            )


@dataclass
class SLMRecDistillation(TaughtConfig):
    """The objective of SLMRec (arXiv 2405.17890, section 3): see ``distillation/slmrec.py`` for the formula and its two forms."""

    name: str = "slmrec"
    n_blocks: int = 4  # B; divides the depth of both
    cosine_weight: float = 1.0  # lambda_1
    norm_weight: float = 0.1  # lambda_2
    supervision_weight: float = 0.1  # lambda_3
    form: str = "paper"  # paper: mean over blocks, squared norm | released: sum over blocks, plain norm
    heads: str = "separate"  # auxiliary heads of the inner blocks: separate | shared (one for all)
    inner_states: str = "raw"  # how inner states are compared: raw | normed (after each model's own final norm)

    def check(self) -> None:
        super().check()
        check_choice("form", self.form, ("paper", "released"))
        check_choice("heads", self.heads, ("separate", "shared"))
        check_choice("inner_states", self.inner_states, ("raw", "normed"))
        for key in ("cosine_weight", "norm_weight", "supervision_weight"):
            check_weight(key, getattr(self, key))
        if not self.cosine_weight and not self.norm_weight:
            raise UserError(
                "distillation.cosine_weight and distillation.norm_weight are both 0, so the teacher would teach nothing; "
                "use distillation=multi_supervision, which needs none"
            )

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        check_blocks(self.n_blocks, student, "student", self.name)
        check_blocks(self.n_blocks, teacher, "teacher", self.name)
        mine, theirs = state_width(student), state_width(teacher)
        if mine is not None and theirs is not None:
            check_widths(mine, theirs)


@dataclass
class MultiSupervision(StudentOnlyConfig):
    """Each block of the student learns to predict; nobody teaches: see ``distillation/multi_supervision.py``."""

    name: str = "multi_supervision"
    n_blocks: int = 4  # B; divides the depth of the student
    supervision_weight: float = 0.1  # lambda_3
    heads: str = "separate"  # auxiliary heads of the inner blocks: separate | shared (one for all)

    def check(self) -> None:
        check_choice("heads", self.heads, ("separate", "shared"))
        check_weight("supervision_weight", self.supervision_weight, positive=True)
        if self.n_blocks < 2:
            raise UserError(
                f"distillation.n_blocks={self.n_blocks} leaves no inner block to supervise; it must be at least 2"
            )

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        check_blocks(self.n_blocks, student, "student", self.name)


@dataclass
class LogitsDistillation(TaughtConfig):
    """The teacher's distribution over the catalogue, softened: see ``distillation/logits.py``."""

    name: str = "logits"
    weight: float = 1.0
    temperature: float = 2.0  # T; divides the scores of both before the softmax

    reads_states: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        check_weight("weight", self.weight, positive=True)
        check_weight("temperature", self.temperature, positive=True)

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        from recbench.models.base import Recommender

        if class_of(teacher).score is Recommender.score:
            raise UserError(
                f"the teacher '{teacher.name}' gives lists, not scores over the catalogue, which distillation={self.name} reads; "
                "use distillation=ranking"
            )


@dataclass
class RankingDistillation(TaughtConfig):
    """The order of the teacher's best items: see ``distillation/ranking.py``."""

    name: str = "ranking"
    weight: float = 1.0
    top_k: int = 10  # K; how many of the teacher's best items at each position
    n_uninteresting: int = 100  # M; items drawn from the rest of the catalogue, to be kept below them
    repair: float = field(default=0.0, metadata=LATER)  # weight of ``distillation/repair.py``

    reads_states: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        check_weight("weight", self.weight, positive=True)
        check_weight("repair", self.repair)
        check_least("top_k", self.top_k, 1)
        check_least("n_uninteresting", self.n_uninteresting, 0)


@dataclass
class FeaturesDistillation(TaughtConfig):
    """The teacher's states from the student's through a learned projection: see ``distillation/features.py``."""

    name: str = "features"
    weight: float = 1.0
    layers: str = "last"  # last: the states after the last layer | blocks: those after each of n_blocks blocks
    n_blocks: int = 4  # B; with layers=blocks it divides the depth of both
    #: teacher: divided by the teacher's mean squared norm | none: the mean over the teacher's width, as LEADER has it
    normalise: str = field(default="teacher", metadata=LATER)
    at: str = field(default="state", metadata=LATER)  # state | query: what is multiplied with the item vectors, of both

    def check(self) -> None:
        super().check()
        check_choice("layers", self.layers, ("last", "blocks"))
        check_choice("normalise", self.normalise, ("teacher", "none"))
        check_choice("at", self.at, ("state", "query"))
        if self.at == "query" and self.layers != "last":
            raise UserError("distillation.at=query is made of the last states alone; set distillation.layers=last")
        check_weight("weight", self.weight, positive=True)

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        if self.layers == "blocks":
            check_blocks(self.n_blocks, student, "student", self.name)
            check_blocks(self.n_blocks, teacher, "teacher", self.name)


_CONFIGS: dict[str, type[DistillationConfig]] = {
    option.name: option
    for option in (
        DistillationConfig,
        SLMRecDistillation,
        MultiSupervision,
        LogitsDistillation,
        RankingDistillation,
        FeaturesDistillation,
    )
}


PLUG_INS = PlugIns("recbench.distillation", "distillation objective", tuple(_CONFIGS))
#: Of objectives that were registered with a config of their own.
_added: dict[str, type[DistillationConfig]] = {}


def distillation_names() -> list[str]:
    """All known names, ``none`` among them, sorted; imports none of them."""
    return sorted({*_CONFIGS, *PLUG_INS.names(), *_added})


def add_config(name: str, config: type[DistillationConfig]) -> None:
    """Make the config of an added objective known. Raises ValueError if the name is one of ours or another's."""
    known = _CONFIGS.get(name) or _added.get(name)
    if known is not None and known.__qualname__ != config.__qualname__:
        raise ValueError(f"the distillation name '{name}' is registered twice: {known} and {config}")
    _added[name] = config


def config_class(name: str) -> type[DistillationConfig]:
    """The dataclass of a distillation option.

    Raises UserError, with a hint, for an unknown name, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name in _CONFIGS:
        return _CONFIGS[name]
    if name not in _added and name in PLUG_INS:
        PLUG_INS.load(name)
        if name not in _added:
            raise PLUG_INS.refusal(name, "registers no objective of that name with its config")
    if name not in _added:
        raise UserError(f"unknown distillation '{name}'; {nearest(name, distillation_names())}")
    return _added[name]
