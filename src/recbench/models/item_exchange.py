"""What ``model.items`` says (``recbench.models.items``), put in the place of a model's item tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.items import PiecesConfig
from recbench.nn.codes.item_vectors import PieceVectors, TextVectors
from recbench.nn.codes.pieces import code_pieces, merged_pieces, ngram_pieces

#: Tables of a model that are exchanged, where it has them.
TABLES = ("item_embedding", "output_embedding")


def exchange_items(model: nn.Module, config: Any, context: ModelContext) -> None:
    """Put what ``model.items`` says in the place of the model's item tables. Raises UserError for a model without one."""
    kind = getattr(config, "items", "ids")
    if kind == "ids":
        return
    tables = [name for name in TABLES if isinstance(getattr(model, name, None), nn.Embedding)]
    if not tables:
        raise UserError(
            f"the model '{config.name}' learns no table of items, so model.items={kind} has nothing to take the place of; "
            "choose a model such as sasrec, or model.items=ids"
        )
    for name in tables:
        old = getattr(model, name)
        deviation = float(old.weight.detach()[1:].std()) if len(old.weight) > 2 else 0.02
        setattr(model, name, _made(kind, config, context, old.embedding_dim, deviation))


def _made(kind: str, config: Any, context: ModelContext, width: int, deviation: float) -> nn.Module:
    """One table's successor: [V, width] with about the spread that the table began with."""
    residual = context.n_items + 1 if config.pieces.bias else 0
    if kind == "text":
        vectors = context.text_vectors
        if vectors is not None:
            vectors = vectors[torch.from_numpy(_order(config, context))]
        return TextVectors(vectors, width, deviation, residual)
    source = context.dependencies.get("tokenizer")
    if source is None:  # of a stored run, whose weights bring the pieces
        return PieceVectors(torch.zeros(context.n_items + 1, 1, dtype=torch.int64), 0, width, deviation, residual)
    pieces, rows = item_pieces(kind, config.pieces, source, context.item_counts, _order(config, context))
    return PieceVectors(torch.from_numpy(pieces), rows, width, deviation, residual)


def item_pieces(
    kind: str, config: PiecesConfig, tokenizer: Any, counts: Tensor | None, order: np.ndarray
) -> tuple[np.ndarray, int]:
    """(pieces [V, P] int64 in 1..rows, 0 where an item has fewer than P; rows). Raises UserError for a run that makes no codes.

    order [V]: the item whose codes each item gets. counts [V]: training events, which decide what ``spm`` merges.
    """
    if not hasattr(tokenizer, "semantic_codes"):
        raise UserError(f"model.tokenizer.model={tokenizer.config.name} makes no codes; name a tokenizer, as rq_kmeans")
    codes = (tokenizer.codes[1:] if config.digit else tokenizer.semantic_codes()).cpu().numpy()
    sizes = tokenizer.sizes.tolist()[: codes.shape[1]]
    codes = codes[order[1:] - 1]
    if kind == "codes":
        found, rows = code_pieces(codes, sizes)
    elif kind == "ngram":
        found, rows = ngram_pieces(codes, sizes, config.n, config.rows)
    else:
        known = np.zeros(len(codes)) if counts is None else counts[1:].cpu().numpy()
        found, rows = merged_pieces(codes, sizes, known + 1.0, config.rows)
    return np.concatenate([np.zeros((1, found.shape[1]), dtype=np.int64), found]), rows


def _order(config: Any, context: ModelContext) -> np.ndarray:
    if not config.pieces.shuffle:
        return np.arange(context.n_items + 1)
    return np.concatenate([[0], 1 + np.random.default_rng(context.seed).permutation(context.n_items)])


def parameter_formula(kind: str, rows: int, width: int, n_items: int, bias: bool, text_width: int = 0) -> int:
    """How many values ``model.items`` learns in place of the table's ``(n_items + 1) * width``.

    >>> parameter_formula("codes", 4 * 64, 16, 1000, bias=False)
    4112
    """
    own = text_width * width if kind == "text" else (rows + 1) * width
    return own + ((n_items + 1) * width if bias else 0)
