"""``model.items``: what the vector of an item is made of, for every SequenceModel that learns an item table.

    ids     a row of its own for each item (the model as it is)
    codes   the sum of one row a level of the item's codes, which a tokenizer run gives (``model.tokenizer``)
    ngram   the same for groups of ``model.pieces.n`` levels, hashed into ``model.pieces.rows`` rows where there are more groups than rows
    spm     the same for pieces that were merged as long as the table has room: often bought items get a row of their own, rare ones share
    text    a learned linear map of the item's text vector

The vectors are those that the model reads and those that it scores with ("Better Generalization with Semantic IDs", RecSys 2024, for a ranking
model's inputs). The model itself knows nothing of it: its ``item_embedding`` is exchanged for a module that answers as one.

The pieces are kept in the run's own weights, so a stored run needs no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER

ITEMS = ("ids", "codes", "ngram", "spm", "text")
#: Kinds whose pieces follow from the codes of a tokenizer run.
OF_CODES = ("codes", "ngram", "spm")


@dataclass
class PiecesConfig:
    """Of ``model.items`` other than ``ids``."""

    n: int = 2  # of ngram: levels of a group
    rows: int = 4096  # of ngram and spm: rows of the table of pieces
    bias: bool = False  # a row for each item beside its pieces, 0 at the start
    digit: bool = False  # read the level that only tells colliding items apart, too
    shuffle: bool = False  # the control: codes (or texts) are dealt anew over the items, by the run's seed


@dataclass
class ItemsConfig:
    """The part of a model's config that says what an item's vector is made of."""

    items: str = field(default="ids", metadata=LATER)
    pieces: PiecesConfig = field(default_factory=PiecesConfig, metadata=LATER)
    # The run whose codes are used, with further keys of that model; of items=codes, ngram and spm.
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "rq_kmeans"}, metadata=LATER)


def check_items(config: Any) -> None:
    """Raise UserError for an unknown ``model.items`` and for numbers that make no sense."""
    kind = getattr(config, "items", "ids")
    if kind not in ITEMS:
        raise UserError(f"unknown model.items '{kind}'; {nearest(kind, ITEMS)}")
    if kind == "ids":
        return
    for key in ("n", "rows"):
        if getattr(config.pieces, key) < 1:
            raise UserError(f"model.pieces.{key} must be at least 1, not {getattr(config.pieces, key)}")


def item_parts(config: Any) -> dict[str, dict[str, Any]]:
    """The tokenizer run that ``model.items`` stands on; {} where it needs none."""
    if getattr(config, "items", "ids") not in OF_CODES:
        return {}
    return {"tokenizer": config.tokenizer}


def item_needs(config: Any) -> frozenset[str]:
    """What ``model.items`` reads of the data, in the words of ``Recommender.requires``."""
    return frozenset({"text_vectors"} if getattr(config, "items", "ids") == "text" else ())
