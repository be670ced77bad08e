"""``model.heads``: a head for each class of items (or each behaviour), for every SequenceModel with the usual loss and score.

    category, genre, brand   an item belongs to one class; each head scores its own class's items
    behaviour                a head for each behaviour of the next event (view, cart, buy); every item is scored by all of them

The head of a class is ``h + SiLU(h W_c)`` with W_c = 0 at the start, so that all heads begin as the plain model ("Don't Waste It: Guiding Generative
Recommenders with Structured Human Priors via Multi-head Decoding", 2025). ``class_heads.calibrated`` says how heads are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER

HEADS = ("none", "category", "genre", "brand", "behaviour")


@dataclass
class HeadConfig:
    """Of ``model.heads`` other than ``none``."""

    # true: log p(class) + log p(item | class), so scores of two heads mean the same. false: the heads' raw products, as in the paper's code.
    calibrated: bool = True
    most: int = 32  # classes; the items of all rarer ones share one head
    level: int = (
        1  # of category: which entry of an item's categories, 0 the coarsest; the last one where there are fewer
    )
    shuffle: bool = False  # the control: the classes are dealt anew over the items, by the run's seed


@dataclass
class HeadsConfig:
    """The part of a model's config that says how many heads score."""

    heads: str = field(default="none", metadata=LATER)
    class_heads: HeadConfig = field(default_factory=HeadConfig, metadata=LATER)


def check_heads_of_items(config: Any, distilled: bool) -> None:
    """Raise UserError for an unknown ``model.heads``, numbers that make no sense, and what cannot stand beside it."""
    kind = getattr(config, "heads", "none")
    if kind not in HEADS:
        raise UserError(f"unknown model.heads '{kind}'; {nearest(kind, HEADS)}")
    if kind == "none":
        return
    if config.class_heads.most < 1 or config.class_heads.level < 0:
        raise UserError(
            f"model.class_heads.most={config.class_heads.most} must be at least 1 and model.class_heads.level={config.class_heads.level} at least 0"
        )
    if distilled:
        raise UserError(
            f"a teacher's scores know no heads: set distillation=none, or model.heads=none in place of {kind}"
        )
    if kind != "behaviour" and config.loss != "softmax":
        raise UserError(f"model.heads={kind} is a softmax in each class: set model.loss=softmax, not {config.loss}")


def head_needs(config: Any) -> frozenset[str]:
    """What ``model.heads`` reads of the data, in the words of ``Recommender.requires``."""
    return frozenset({"behaviours"} if getattr(config, "heads", "none") == "behaviour" else ())
