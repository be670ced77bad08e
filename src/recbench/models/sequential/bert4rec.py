"""BERT4Rec: a bidirectional transformer that fills in masked items of a history; the next item is the one masked at its end [CIKM 2019].

What is different about this model: an item is predicted from both of its sides. So no position can be trained to predict the event after
it, which its neighbours already see. Instead some events of a window are replaced by one learned vector and predicted from the rest
(the Cloze task); to recommend, that vector is put behind the history. The model is not causal and says so; its states belong to a place in a
sentence with holes, not to a prefix, so it lends none for distillation.

Of a window with n events max(1, round(``mask_share`` * n)) are masked, drawn anew each epoch; with probability ``last_only_share`` only the last,
which is what the test asks. The paper's data hold ten maskings of the first kind for one of the second; RecBole draws half and half.

Glossary (paper -> here): rho -> ``mask_share``; [mask] -> ``mask_vector``; Trm -> ``BidirectionalLayer``; W^P, b^P and GELU of eq. 7 -> ``head``;
b^O -> ``item_bias``; E -> ``item_embedding``.

Deviations:
- Positions are counted from the most recent event. With the paper's left padding that is the same as its absolute slots; here rows are padded on
  the right. The table has one place more than ``training.max_length``, so that the mask need not push an event out.
- No sliding windows: a history longer than ``max_length`` is cut into windows that every model here shares.
- ``training.batch_size`` counts the events of a step, of which only the masked are predicted, so an epoch holds fewer predictions than a causal
  model's, and the model needs several times the epochs ["A Systematic Review and Replicability Study of BERT4Rec", RecSys 2022].

Shapes: B rows, L positions (a history and the mask behind it), D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_heads, check_sizes
from recbench.models.registry import register
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from recbench.nn.transformer.attention import BidirectionalLayer
from recbench.nn.transformer.dropout import Dropout


@dataclass
class BERT4RecConfig(LossConfig, ModelConfig):
    """Sizes, dropout and how much is masked; the loss keys are those of every scoring model."""

    name: str = "bert4rec"
    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    feedforward_size: int = 256
    dropout: float = 0.5
    mask_share: float = 0.6
    last_only_share: float = 0.1


@register("bert4rec", BERT4RecConfig)
class BERT4Rec(Recommender):
    """See the head of this file."""

    is_causal: ClassVar[bool] = False

    def __init__(self, config: BERT4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.mask_vector = nn.Parameter(torch.empty(d).normal_(std=0.02))
        self.position_embedding = nn.Embedding(context.max_length + 1, d)
        self.input_norm = nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            BidirectionalLayer(d, config.n_heads, config.feedforward_size, config.dropout)
            for _ in range(config.n_layers)
        )
        self.head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d))
        self.item_bias = nn.Parameter(torch.zeros(context.n_items + 1))
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.apply(_initialise)

    def encode(self, items: Tensor, lengths: Tensor, hidden: Tensor) -> Tensor:
        """States [B, L, D] of sentences whose ``hidden`` events are unseen. items [B, L], lengths [B], hidden [B, L] bool."""
        from_end = lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)
        vectors = torch.where(hidden[..., None], self.mask_vector, self.item_embedding(items))
        states = self.dropout(self.input_norm(vectors + self.position_embedding(from_end.clamp(min=0))))
        for layer in self.layers:
            states = layer(states, from_end >= 0)
        return states

    def draw_masks(self, lengths: Tensor, width: int) -> Tensor:
        """[B, width] bool: which events of each sentence are hidden this time. lengths [B]."""
        last = lengths[:, None] - 1
        place = torch.arange(width, device=lengths.device)
        noise = torch.rand(len(lengths), width, device=lengths.device).masked_fill(place > last, torch.inf)
        wanted = (self.config.mask_share * lengths).round().clamp(min=1)
        spread = noise.argsort(1).argsort(1) < wanted[:, None]
        last_only = torch.rand(len(lengths), 1, device=lengths.device) < self.config.last_only_share
        return torch.where(last_only, place == last, spread)

    def training_loss(self, batch: Batch) -> Tensor:
        items, lengths = whole_windows(batch)
        hidden = self.draw_masks(lengths, items.shape[1])
        states = self.encode(items, lengths, hidden)
        return self.loss(self.queries(states[hidden]), self.item_vectors(), items[hidden])

    def queries(self, states: Tensor) -> Tensor:
        """States [..., D] -> [..., D + 1]: through the head, and a one behind, which meets the item's bias."""
        return F.pad(self.head(states), (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        """[V, D + 1]: the item's vector and, last, its bias."""
        return torch.cat([self.item_embedding.weight, self.item_bias[:, None]], dim=1)

    def score(self, batch: Batch) -> Tensor:
        items = F.pad(batch.items, (0, 1))
        last = batch.lengths[:, None]
        states = self.encode(items, batch.lengths + 1, torch.arange(items.shape[1], device=items.device) == last)
        rows = torch.arange(batch.items.shape[0], device=items.device)
        return self.queries(states[rows, batch.lengths]) @ self.item_vectors().T


def whole_windows(batch: Batch) -> tuple[Tensor, Tensor]:
    """(items [B, L + 1], lengths [B]): the events of each training window, the last target among them."""
    assert batch.targets is not None
    rows = torch.arange(batch.items.shape[0], device=batch.items.device)
    items = F.pad(batch.items, (0, 1))
    items[rows, batch.lengths] = batch.targets[rows, batch.lengths - 1]
    return items, batch.lengths + 1


def _check(config: BERT4RecConfig) -> None:
    check_sizes(config, "hidden_size", "n_layers", "n_heads", "feedforward_size")
    check_heads(config)
    if not 0 < config.mask_share < 1:
        raise UserError(f"model.mask_share must lie between 0 and 1, not {config.mask_share:g}")
    if not 0 <= config.last_only_share <= 1:
        raise UserError(f"model.last_only_share must lie in 0..1, not {config.last_only_share:g}")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx] = 0.0
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
