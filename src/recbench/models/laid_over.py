"""What is laid over a model by keys of its config that every model of its kind has: how it is built, what it stands on, what it reads.

A model's own file says none of this. Whoever builds a model, or asks what it needs, asks here. Light to import: torch comes with ``made``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbench.models.auxiliary import READ_TEXT, READ_USERS
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
    if _names_any(config, READ_TEXT) and isinstance(model, SequenceModel):
        model.lent_text_vectors = context.text_vectors
    if _names_any(config, READ_USERS) and isinstance(model, SequenceModel):
        model.lent_user_attributes = context.user_attributes
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
        | ({"text_vectors"} if _names_any(config, READ_TEXT) else set())
        | ({"user_attributes"} if _names_any(config, READ_USERS) else set())
    )


def _names_any(config: Any, names: tuple[str, ...]) -> bool:
    """Whether an auxiliary of the config is one of these."""
    return any(name in names for name in getattr(config, "auxiliary", []))
