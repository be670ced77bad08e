"""A model of ours as a parity check needs it: small, with given weights, given draws, and dropout without chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext, TrainingData
from recbench.models.sequence_model import SequenceModel
from recbench.nn.transformer.dropout import Dropout
from tests.parity.compare import tensor

N_ITEMS, MAX_LENGTH = 23, 12
#: What a dropout multiplies by where its place is compared; models are built with a rate of 0.2.
KEPT = 0.8
ITEMS, POSITIONS = "item_embedding.weight", "position_embedding.weight"


def build(model: type, config: Any, n_items: int = N_ITEMS, max_length: int = MAX_LENGTH, **context: Any) -> Any:
    """The model in evaluation mode, with random weights."""
    return model(config, ModelContext(n_items=n_items, n_users=10, max_length=max_length, **context)).eval()


def batch_of(items: Any, lengths: Any, **columns: Any) -> Batch:
    """items [B, L] with pads on the right, lengths [B]; other columns by name."""
    items = tensor(items).long()
    columns = {name: tensor(value) for name, value in columns.items()}
    columns.setdefault("timestamps", torch.zeros_like(items))
    return Batch(
        items=items, lengths=tensor(lengths).long(), user=torch.zeros(len(items), dtype=torch.int64), **columns
    )


def batch(arrays: Mapping[str, np.ndarray], rows: slice = slice(None), width: int | None = None) -> Batch:
    """The batch of a golden file with all columns it has, or some of its rows, cut to a width."""
    known = [name for name in ("timestamps", "next_timestamps", "targets") if name in arrays]
    columns = {name: arrays[name][rows, :width] for name in known}
    made = batch_of(arrays["items"][rows, :width], arrays["lengths"][rows], **columns)
    made.windows = torch.arange(len(made.items))
    return made


def training_part(rows: np.ndarray) -> TrainingData:
    """Training sessions out of rows of item ids with zeros behind them."""
    lengths = (rows > 0).sum(1)
    items = rows[rows > 0]
    data = SimpleNamespace(
        items=items,
        timestamps=np.arange(len(items)),
        behaviours=None,
        n_items=int(items.max()),
        n_users=len(rows),
    )
    end = lengths.cumsum()
    return TrainingData(data, end - lengths, end)


def set_weights(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Every parameter of the module from the value of its name; a name too many, too few or of another shape is an error."""
    state = {name: value if torch.is_tensor(value) else tensor(value) for name, value in values.items()}
    own = dict(module.named_parameters())
    assert set(own) == set(state), f"names differ: {sorted(set(own) ^ set(state))}"
    with torch.no_grad():
        for name, parameter in own.items():
            assert parameter.shape == state[name].shape, f"{name}: {parameter.shape} here, {state[name].shape} there"
            parameter.copy_(state[name])


def set_norm_eps(module: nn.Module, eps: float) -> None:
    """The small number of all layer norms."""
    for found in module.modules():
        if isinstance(found, nn.LayerNorm):
            found.eps = eps


def draw(model: SequenceModel, negatives: Any) -> None:
    """Let the loss draw these negatives, once."""
    left = [tensor(negatives)]
    model.loss._draw = lambda shape: left.pop().view(shape)


def gradients(module: nn.Module, loss: Tensor) -> dict[str, np.ndarray]:
    """Gradients of the loss by name of parameter; those without one are left out."""
    module.zero_grad()
    loss.backward()
    return {name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None}


def without_pad(found: dict[str, Any], name: str = ITEMS) -> dict[str, Any]:
    """Gradients with zeros for the pad's vector, which some codes train and ours does not."""
    found[name] = found[name].copy()
    found[name][0] = 0
    return found


@contextmanager
def dropout_as_factor() -> Iterator[None]:
    """Every dropout that is switched on multiplies by ``KEPT``, that of attention weights too: where they stand shows, without chance."""

    def factor(self: Dropout, x: Tensor) -> Tensor:
        return KEPT * x if self.training and self.rate > 0 else x

    def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask=None, dropout_p=0.0, is_causal=False, **_: Any) -> Tensor:
        logits = q @ k.mT / q.shape[-1] ** 0.5
        hidden = ~torch.ones(logits.shape[-2:], dtype=torch.bool).tril() if is_causal else torch.tensor(False)
        if attn_mask is not None:
            hidden = hidden | ~attn_mask
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)
        return (KEPT if dropout_p > 0 else 1.0) * weights @ v

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "forward", factor)
        patch.setattr(F, "scaled_dot_product_attention", attention)
        yield


@torch.no_grad()
def scores(model: SequenceModel, made: Batch) -> Tensor:
    """[B, n_items], in evaluation mode."""
    return model.score(made)[:, 1:]


@torch.no_grad()
def scores_in_training(model: SequenceModel, made: Batch) -> Tensor:
    """[B, n_items], in training mode, with every dropout a factor."""
    with dropout_as_factor():
        model.train()
        try:
            return model.score(made)[:, 1:]
        finally:
            model.eval()


@dataclass
class Found:
    """Results of a batch that was read row by row."""

    scores: Tensor
    dropped: Tensor
    loss: float = 0.0
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


def row_by_row(
    model: SequenceModel,
    arrays: Mapping[str, np.ndarray],
    load: Callable[[int], None],
    prepare: Callable[[int, slice], float] | None = None,
    turned: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> Found:
    """For references that count positions from another end: each row alone, without pads.

    ``load(n)`` sets the weights for a row of n events, its position table turned. ``prepare(row, places)`` sets the row's draws, where ``places`` are
    its events among those of all rows, and returns its share of the loss; without it there is no loss. ``turned(gradient, n)`` turns the
    position table's gradient back.
    """
    plain, dropped, total, sums, first = [], [], 0.0, {}, 0
    for row, n in enumerate(arrays["lengths"].tolist()):
        load(n)
        made = batch(arrays, slice(row, row + 1), n)
        plain.append(scores(model, made)[0])
        dropped.append(scores_in_training(model, made)[0])
        if prepare is not None:
            loss = prepare(row, slice(first, first + n)) * model.training_loss(made)
            total += float(loss.detach())
            for name, gradient in gradients(model, loss).items():
                gradient = turned(gradient, n) if turned is not None and name == POSITIONS else gradient
                sums[name] = sums.get(name, 0) + gradient
        first += n
    return Found(torch.stack(plain), torch.stack(dropped), total, sums)


def turned_around(table: np.ndarray, n: int) -> np.ndarray:
    """The first n rows in opposite order, the others as they are."""
    out = table.copy()
    out[:n] = table[:n][::-1]
    return out
