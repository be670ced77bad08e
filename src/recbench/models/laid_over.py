"""What is laid over a model by keys of its config that every model of its kind has: how it is built, what it stands on, what it reads.

A model's own file says none of this. Whoever builds a model, or asks what it needs, asks here. Light to import: torch comes with ``made``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbench.models.auxiliary import READ_TEXT
from recbench.models.fallback_config import fallback_needs
from recbench.models.head_config import head_needs
from recbench.models.items import item_needs, item_parts

if TYPE_CHECKING:
    from recbench.models.base import ModelContext, Recommender


def made(kind: type[Recommender], config: Any, context: ModelContext) -> Recommender:
    """A model of a config, with what the config lays over it. Raises UserError where that cannot be."""
    from recbench.models.fallback import add_fallback
    from recbench.models.heads import add_heads
    from recbench.models.item_exchange import exchange_items
    from recbench.models.sequence_model import SequenceModel

    model = kind(config, context)
    exchange_items(model, config, context)
    add_heads(model, config, context)
    add_fallback(model, config, context)
    if _reads_text(config) and isinstance(model, SequenceModel):
        model.lent_text_vectors = context.text_vectors
    return model


def parts_of(kind: type[Recommender], config: Any) -> dict[str, dict[str, Any]]:
    """The runs that must exist before a model of this config is built, by role, as in ``Recommender.dependencies``."""
    return {**item_parts(config), **kind.dependencies(config)}


def needs_of(kind: type[Recommender], config: Any) -> frozenset[str]:
    """What the data must offer to a model of this config, as in ``Recommender.needs``."""
    return (
        kind.needs(config)
        | item_needs(config)
        | head_needs(config)
        | fallback_needs(config)
        | ({"text_vectors"} if _reads_text(config) else set())
    )


def _reads_text(config: Any) -> bool:
    """Whether an auxiliary of the config reads the vectors of the items' texts."""
    return any(name in READ_TEXT for name in getattr(config, "auxiliary", []))
