"""Modules that answer as an item table does (called with ids, or asked for ``weight``), and learn something else than a row an item.

Shapes: V = n_items + 1 rows (row 0 is the pad and stays 0), R rows of the table of pieces, P pieces of an item, D width, E width of texts.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ItemVectors(nn.Module):
    """What all kinds share: a residual row for each item if there is one, and the whole table, made once an evaluation."""

    residual: nn.Parameter | None

    def __init__(self, width: int, residual_rows: int) -> None:
        super().__init__()
        self.embedding_dim = width
        self.register_parameter("residual", nn.Parameter(torch.zeros(residual_rows, width)) if residual_rows else None)
        self._made: tuple[tuple[Any, ...], Tensor] | None = None

    def of(self, ids: Tensor) -> Tensor:
        """[N] ids -> [N, D], without the residual."""
        raise NotImplementedError

    def all(self) -> Tensor:
        """[V, D], without the residual."""
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        """Items of any shape -> their vectors [..., D]; 0 for the pad."""
        flat = ids.reshape(-1)
        found = self.of(flat)
        if self.residual is not None:
            found = found + F.embedding(flat, self.residual, padding_idx=0)
        return found.view(*ids.shape, self.embedding_dim)

    @property
    def weight(self) -> Tensor:
        """[V, D]: the vectors of all items. Without gradients it is kept until a parameter moves."""
        if torch.is_grad_enabled():
            return self._table()
        state = tuple((id(p), p.data_ptr(), p._version) for p in self.parameters())
        if self._made is None or self._made[0] != state:
            self._made = state, self._table()
        return self._made[1]

    def _table(self) -> Tensor:
        made = self.all()
        if self.residual is None:
            return made
        ids = torch.arange(len(made), device=made.device)
        return made + F.embedding(ids, self.residual, padding_idx=0)


class PieceVectors(ItemVectors):
    """The sum of the rows of an item's pieces. pieces [V, P] int64 in 1..R, 0 where there is no piece; the rows of a table [R + 1, D].

    A state with other pieces than those it was built with can be loaded: the table then takes that state's size.
    """

    pieces: Tensor

    def __init__(self, pieces: Tensor, rows: int, width: int, deviation: float, residual_rows: int = 0) -> None:
        super().__init__(width, residual_rows)
        self.register_buffer("pieces", pieces)
        per_item = (pieces > 0).sum(1).float()[1:].mean() if len(pieces) > 1 else torch.ones(())
        table = torch.empty(rows + 1, width).normal_(std=deviation / float(per_item.clamp(min=1.0)) ** 0.5)
        table[0] = 0.0
        self.table = nn.Parameter(table)

    def of(self, ids: Tensor) -> Tensor:
        return F.embedding_bag(self.pieces[ids], self.table, mode="sum", padding_idx=0)

    def all(self) -> Tensor:
        return F.embedding_bag(self.pieces, self.table, mode="sum", padding_idx=0)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        pieces, table = state.get(prefix + "pieces"), state.get(prefix + "table")
        if pieces is not None and pieces.shape != self.pieces.shape:
            self.pieces = torch.empty_like(pieces, device=self.pieces.device)
        if table is not None and table.shape != self.table.shape:
            self.table = nn.Parameter(torch.empty_like(table, device=self.table.device))
        super()._load_from_state_dict(state, prefix, *rest)


class TextVectors(ItemVectors):
    """A linear map of each item's text vector. vectors [V, E]; None in a stored run, whose weights bring them."""

    text: Tensor

    def __init__(self, vectors: Tensor | None, width: int, deviation: float, residual_rows: int = 0) -> None:
        super().__init__(width, residual_rows)
        known = torch.zeros(1, 1) if vectors is None else _scaled(vectors.float())
        self.register_buffer("text", known)
        # Rows of unit root-mean-square: a map of this deviation gives vectors of the deviation that is wanted.
        self.map = nn.Parameter(torch.empty(width, known.shape[1]).normal_(std=deviation / known.shape[1] ** 0.5))

    def of(self, ids: Tensor) -> Tensor:
        return self.text[ids] @ self.map.T

    def all(self) -> Tensor:
        return self.text @ self.map.T

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("text", "map"):
            stored, own = state.get(prefix + name), getattr(self, name)
            if stored is not None and stored.shape != own.shape:
                made = torch.empty_like(stored, device=own.device)
                setattr(self, name, nn.Parameter(made) if name == "map" else made)
        super()._load_from_state_dict(state, prefix, *rest)


def _scaled(vectors: Tensor) -> Tensor:
    """Centred over the items, then scaled by one number to a root-mean-square of 1; the pad's row is 0."""
    items = scaled_like(vectors[1:], vectors[1:])
    return torch.cat([torch.zeros_like(vectors[:1]), items])


def scaled_like(vectors: Tensor, items: Tensor) -> Tensor:
    """Vectors [N, E] by the centre and the size of those of the items [I, E]; 0 where these are all alike."""
    centre = items.mean(0)
    size = (items - centre).square().mean().sqrt()
    return (vectors - centre) / size if size > 1e-8 else torch.zeros_like(vectors)
