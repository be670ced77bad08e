"""What models with target attention share: they score pairs of a history and a candidate, for which a state of the history alone is not enough.

``din``, ``tin`` and ``dare`` say how a history is read for a candidate (``features``); a small network and a bias of the candidate make the score.

    training        every event of a window is a candidate of the history before it, among ``n_negatives`` drawn items
    loss            softmax: cross-entropy of the target among itself and its negatives; bce: each pair for itself, as papers on clicks have it
    the catalogue   every item is scored as a pair, in pieces that stay small. That is exact, and costs one network a user and item
    ``retriever``   with ``model.retriever.model=sasrec`` another run finds the best ``k`` items, and only these are scored (``models.reranker``)

Under ``protocol=clicks`` a row is a pair too. The network then reads the row's further fields as well, each ``field_size`` wide, and every row is
learned by binary cross-entropy.

Shapes: B rows, C candidates of a row, L events, V = n_items + 1, E features of a pair, P real positions of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.key_fields import LATER
from recbench.data.batches import Batch, prefixes
from recbench.data.clicks.rows import ClickBatch
from recbench.models.base import Control, ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.language.frozen_part import load_learned
from recbench.models.reranker import Reranker, RerankerConfig
from recbench.models.sequence_model import histories_at
from recbench.nn.fields.embedding import FieldEmbedding
from recbench.nn.fields.mlp import MLP, joined
from recbench.nn.losses.catalogue import softmax_over
from recbench.nn.target.history import by_length

LOSSES = ("softmax", "bce")
SAMPLINGS = ("uniform", "popularity")
#: Numbers of one kind that exist at the same time while pairs are scored without a gradient (8 MB).
VALUES_AT_ONCE = 1 << 21


@dataclass
class PairsConfig(RerankerConfig):
    """Width of an item's vector, layers of the network that makes the score, negatives, and the retriever that may stand before all this."""

    retriever: dict[str, Any] = field(default_factory=dict)
    k: int = 100
    hidden_size: int = 64
    layers: list[int] = field(default_factory=lambda: [80, 40])
    activation: str = "relu"
    dropout: float = 0.0
    loss: str = "softmax"
    n_negatives: int = 16
    sampling: str = "uniform"
    field_size: int = field(default=8, metadata=LATER)


class PairModel(Reranker):
    """See the head of this file. A subclass sets ``head`` with ``make_head`` and gives ``features`` and ``values_per_pair``."""

    is_causal: ClassVar[bool] = False  # it has no states
    answers: ClassVar[frozenset[str]] = frozenset({"ranking", "clicks"})
    reads_histories: ClassVar[bool] = True
    head: nn.Module
    sampling_weights: Tensor

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        return super().dependencies(config) if config.retriever else {}

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_negatives")
        check_choices(config, {"loss": LOSSES, "sampling": SAMPLINGS})
        self.bias = nn.Parameter(torch.zeros(context.n_items + 1))
        self.further = None
        if context.fields is not None:
            fields = context.fields
            self.further = FieldEmbedding(
                [size for name, size in fields.categories.items() if name != "item"],
                len(fields.numbers),
                list(fields.several.values()),
                config.field_size,
                std=config.field_size**-0.5,
            )
            self.item_place = list(fields.categories).index("item")
        weights = self.counts + 1.0 if config.sampling == "popularity" else torch.ones(context.n_items + 1)
        weights[0] = 0.0
        self.register_buffer("sampling_weights", weights, persistent=False)

    def table(self, width: int) -> nn.Embedding:
        """A new table of item vectors; the pad's is zero."""
        table = nn.Embedding(self.n_items + 1, width, padding_idx=0)
        nn.init.normal_(table.weight, std=width**-0.5)
        with torch.no_grad():
            table.weight[0] = 0.0
        return table

    @property
    def further_width(self) -> int:
        """What the further fields of a row add to the features of a pair."""
        return 0 if self.further is None else self.further.n_fields * self.config.field_size

    def make_head(self, width: int) -> nn.Module:
        """The network from E features to a score."""
        config = self.config
        return MLP(width + self.further_width, config.layers, config.dropout, config.activation)

    def features(self, batch: Batch, items: Tensor) -> Tensor:
        """Histories and items [B, C] -> what the network reads of each pair, [B, C, E]."""
        raise NotImplementedError

    def values_per_pair(self, length: int) -> int:
        """About how many numbers a pair takes while its features are made from a history of that length."""
        raise NotImplementedError

    def pair_scores(self, batch: Batch, items: Tensor) -> Tensor:
        """Scores [B, C] of the items [B, C]."""
        return self.head(self.features(batch, items)).squeeze(-1) + self.bias[items]

    def score_pairs(self, batch: Batch, items: Tensor) -> Tensor:
        """As ``pair_scores``, in pieces of rows and of items, so that memory stays small."""
        size = max(1, self.values_per_pair(batch.items.shape[1]))
        n_rows = max(1, VALUES_AT_ONCE // (size * items.shape[1]))
        n_items = max(1, VALUES_AT_ONCE // (size * n_rows))
        rows = [
            torch.cat([self.pair_scores(part, asked) for asked in items[at : at + n_rows].split(n_items, dim=1)], dim=1)
            for at in range(0, len(items), n_rows)
            for part in [histories_at(batch, slice(at, at + n_rows))]
        ]
        return torch.cat(rows)

    def score(self, batch: Batch) -> Tensor:
        if self.config.retriever:
            return super().score(batch)
        everything = torch.arange(self.n_items + 1, device=batch.items.device).expand(len(batch), -1)
        return self.score_pairs(batch, everything)

    def score_candidates(self, batch: Batch, items: Tensor) -> Tensor:
        return super().score_candidates(batch, items) if self.config.retriever else self.score_pairs(batch, items)

    def rerank(self, batch: Batch, candidates: Tensor) -> Tensor:
        return self.score_pairs(batch, candidates)

    def controls(self) -> dict[str, Control]:
        return super().controls() if self.config.retriever else {}

    def row_vectors(self, rows: ClickBatch) -> Tensor:
        """[B, 1, fields * field_size]: the further fields of rows of impressions."""
        assert self.further is not None
        place = self.item_place
        others = torch.cat([rows.categories[:, :place], rows.categories[:, place + 1 :]], 1)
        return self.further(others, rows.numbers, rows.several).flatten(1)[:, None]

    def click_logits(self, rows: ClickBatch) -> Tensor:
        items = rows.item[:, None]
        read = joined(self.features(rows.history, items), self.row_vectors(rows))
        return self.head(read)[:, 0, 0] + self.bias[rows.item]

    def click_loss(self, rows: ClickBatch) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.click_logits(rows), rows.label[:, 0])

    def training_loss(self, batch: Any) -> Tensor:
        if isinstance(batch, ClickBatch):
            return self.click_loss(batch)
        assert batch.targets is not None
        real = batch.mask
        return self.loss_of_targets(prefixes(batch), batch.targets[real])

    def loss_of_targets(self, histories: Batch, targets: Tensor) -> Tensor:
        """Histories [P, L] and the item that follows each [P] -> mean loss against drawn negatives."""
        negatives = self.draw(len(targets))
        items = torch.cat([targets[:, None], negatives], 1)
        scores = self.head(self.features_of_all_lengths(histories, items)).squeeze(-1) + self.bias[items]
        return self.loss_of_scores(scores, negatives == targets[:, None])

    def features_of_all_lengths(self, histories: Batch, items: Tensor) -> Tensor:
        """As ``features``; of a training batch, in which every event of a window ends a history."""
        return by_length(self.features, histories, items)

    def loss_of_scores(self, scores: Tensor, taken: Tensor) -> Tensor:
        """scores [P, 1 + n], the target's first; a negative that is the target is ``taken`` [P, n] and counts for nothing."""
        if self.config.loss == "softmax":
            return softmax_over(scores[:, 0], scores[:, 1:], taken)
        pushed_down = F.softplus(scores[:, 1:]).masked_fill(taken, 0.0)
        return (F.softplus(-scores[:, 0]) + pushed_down.sum(1)).mean() / scores.shape[1]

    def draw(self, n: int) -> Tensor:
        """[n, n_negatives] items."""
        shape, device = (n, self.config.n_negatives), self.sampling_weights.device
        if self.config.sampling == "uniform":
            return torch.randint(1, self.n_items + 1, shape, device=device)
        return torch.multinomial(self.sampling_weights, shape[0] * shape[1], replacement=True).view(shape)

    def stored_state(self) -> dict[str, Tensor]:
        if self.config.retriever:
            return super().stored_state()
        return {name: value for name, value in self.state_dict().items() if not name.startswith("retriever.")}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        if self.config.retriever:
            super().load_stored_state(state)
            return
        load_learned(self, state, self.stored_state())
