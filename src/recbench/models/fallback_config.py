"""``model.fallback=dense``: a generator's list first, and behind its beginning the items that training never met, ranked by what is written of them.

    none    the generator's list as it is
    dense   cold items by the cosine of their text's vector with one that is made of the history's texts

A generator learns to spell what was bought, so it hardly ever spells an item without training events. LIGER [arXiv 2411.18814] ranks what was
generated together with all cold items by a dense vector; ``dense.first=0`` is that order. Light to import: torch comes with
``recbench.models.fallback``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER
from recbench.models.checks import check_share

FALLBACKS = ("none", "dense")
MAPS = ("ridge", "none")


@dataclass
class DenseConfig:
    """Of ``model.fallback=dense``."""

    first: int = 5  # generated items that stand before the cold ones; 0: both in one order, by their vectors
    map: str = (
        "ridge"  # of the history's vector: ridge (least squares towards the next item's, on training events) | none
    )
    decay: float = 0.8  # weight of an event in the history's vector, for each event that is later
    shuffle: bool = False  # the control: the texts are dealt anew over the items, by the run's seed


@dataclass
class FallbackConfig:
    """The part of a generator's config that says what it does about items that training never met."""

    fallback: str = field(default="none", metadata=LATER)
    dense: DenseConfig = field(default_factory=DenseConfig, metadata=LATER)


def check_fallback(config: Any) -> None:
    """Raise UserError for an unknown ``model.fallback`` and for keys that make no sense."""
    kind = getattr(config, "fallback", "none")
    if kind not in FALLBACKS:
        raise UserError(f"unknown model.fallback '{kind}'; {nearest(kind, FALLBACKS)}")
    if kind == "none":
        return
    if config.dense.map not in MAPS:
        raise UserError(f"unknown model.dense.map '{config.dense.map}'; {nearest(config.dense.map, MAPS)}")
    if config.dense.first < 0:
        raise UserError(f"model.dense.first={config.dense.first} must be 0 or more")
    check_share("dense.decay", config.dense.decay)


def fallback_needs(config: Any) -> frozenset[str]:
    """What ``model.fallback`` reads of the data, in the words of ``Recommender.requires``."""
    return frozenset({"text_vectors"} if getattr(config, "fallback", "none") == "dense" else ())
