"""Configs of the auxiliaries of models of users and items (``recbench.objectives.auxiliary``). ``models/auxiliary.py`` names them and checks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.core.key_fields import LATER
from recbench.models.checks import check_choices, check_number
from recbench.models.term_config import ContrastConfig, TermConfig


@dataclass
class DirectAUConfig(TermConfig):
    """Vectors of a pair are drawn together, those of a batch apart: see ``directau.py``."""

    weight: float = 1.0
    uniformity: float = 1.0  # gamma, of the second part

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.uniformity", self.uniformity, least=0.0)


@dataclass
class NodeContrastConfig(ContrastConfig):
    """What every auxiliary has that compares two views of nodes: see ``node_contrast.py``."""

    temperature: float = 0.2
    rivals: str = "all"  # all: of the side | batch: the nodes of the batch

    def check(self, where: str) -> None:
        super().check(where)
        check_choices(self, {"rivals": ("all", "batch")}, where)


@dataclass
class SGLConfig(NodeContrastConfig):
    """Two graphs that each lack some edges: see ``sgl.py``."""

    drop: float = 0.1  # share of the edges that a view lacks

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.drop", self.drop, least=0.0, below=1.0)


@dataclass
class SimGCLConfig(NodeContrastConfig):
    """Two passes with noise: see ``simgcl.py``."""

    weight: float = 0.5
    eps: float = 0.1  # length of the noise

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.eps", self.eps, above=0.0)


@dataclass
class XSimGCLConfig(SimGCLConfig):
    """One pass with noise: see ``xsimgcl.py``."""

    weight: float = 0.2
    eps: float = 0.2
    layer: int = 1  # that is compared with the whole

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.layer", self.layer, least=1)


@dataclass
class LightGCLConfig(ContrastConfig):
    """The strongest directions of the graph: see ``lightgcl.py``."""

    weight: float = 0.2
    temperature: float = 0.2
    rank: int = 5  # directions

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.rank", self.rank, least=1)


@dataclass
class RLMRecConConfig(NodeContrastConfig):
    """Vectors recognise the profiles of texts: see ``rlmrec_con.py``."""

    weight: float = 0.01
    shuffle: int | None = None  # a seed that deals the profiles of items out anew: the control


@dataclass
class RLMRecGenConfig(ContrastConfig):
    """Hidden nodes tell their texts: see ``rlmrec_gen.py``."""

    temperature: float = 0.5
    mask: float = 0.1  # share of the nodes that are hidden at a step
    shuffle: int | None = None  # as in rlmrec_con

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.mask", self.mask, above=0.0, below=1.0)


@dataclass
class UserItemAuxiliaryConfig:
    """The part of a model's config that adds terms to the loss of a model of users and items."""

    # Any of OF_USERS_AND_ITEMS, and what other packages add.
    auxiliary: list[str] = field(default_factory=list, metadata=LATER)
    directau: DirectAUConfig = field(default_factory=DirectAUConfig, metadata=LATER)
    sgl: SGLConfig = field(default_factory=SGLConfig, metadata=LATER)
    simgcl: SimGCLConfig = field(default_factory=SimGCLConfig, metadata=LATER)
    xsimgcl: XSimGCLConfig = field(default_factory=XSimGCLConfig, metadata=LATER)
    lightgcl: LightGCLConfig = field(default_factory=LightGCLConfig, metadata=LATER)
    rlmrec_con: RLMRecConConfig = field(default_factory=RLMRecConConfig, metadata=LATER)
    rlmrec_gen: RLMRecGenConfig = field(default_factory=RLMRecGenConfig, metadata=LATER)
    # As in AuxiliaryConfig.
    auxiliary_keys: dict[str, Any] = field(default_factory=dict, metadata=LATER)
