"""What ``model.heads`` says (``recbench.models.head_config``), laid over a model: which item belongs to which class, and the heads themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses.class_heads import BehaviourHeads, ItemHeads


def add_heads(model: Recommender, config: Any, context: ModelContext) -> None:
    """Give a model its heads. With a single class it keeps its own path. Raises UserError for a model or data that cannot have them."""
    kind = getattr(config, "heads", "none")
    if kind == "none":
        return
    if not isinstance(model, SequenceModel) or not usual_path(type(model)):
        raise UserError(
            f"the model '{config.name}' has a loss or scores of its own, so it cannot have model.heads={kind}"
        )
    assert context.train is not None
    width = model.item_vectors().shape[1]
    if kind == "behaviour":
        names = context.train.data.manifest["behaviours"]
        model.add_module("item_heads", BehaviourHeads(len(names) + 1, width))  # 0: a behaviour that is not known
        return
    class_of = item_classes(kind, config, context)
    if class_of.max() > 0:
        model.add_module("item_heads", ItemHeads(torch.from_numpy(class_of), width, config.class_heads.calibrated))


def usual_path(kind: type[SequenceModel]) -> bool:
    """Whether a model trains and scores as ``SequenceModel`` does."""
    return kind.has_usual_loss() and kind.score is SequenceModel.score


def item_classes(kind: str, config: Any, context: ModelContext) -> np.ndarray:
    """[V] int64: the class of each item, 0.. in order of first appearance by item number; the pad's is 0. Items without one share a class.

    Raises UserError where no item has any.
    """
    import polars as pl

    assert context.train is not None
    table = context.train.data.item_table().sort("item_id")
    if kind == "brand":
        named = table["brand"]
    else:
        level = config.class_heads.level if kind == "category" else 0
        lists = pl.col("categories")
        named = table.select(lists.list.get(level, null_on_oob=True).fill_null(lists.list.last()))["categories"]
    if named.is_null().all():
        raise UserError(
            f"these data say nothing of an item's {kind}, so model.heads={kind} has no classes; choose another"
        )
    events = np.asarray(context.train.item_counts()[1:])
    frame = pl.DataFrame({"name": named.fill_null(""), "events": events})
    sizes = frame.group_by("name").agg(pl.col("events").sum()).sort(["events", "name"], descending=[True, False])
    kept = sizes["name"].to_list()[: config.class_heads.most - (sizes.height > config.class_heads.most)]
    common = frame.with_columns(pl.when(pl.col("name").is_in(kept)).then("name").otherwise(None))["name"].to_list()
    number: dict[Any, int] = {}
    found = np.array([number.setdefault(name, len(number)) for name in common], dtype=np.int64)
    if config.class_heads.shuffle:
        found = found[np.random.default_rng(context.seed).permutation(len(found))]
    return np.concatenate([[0], found])
