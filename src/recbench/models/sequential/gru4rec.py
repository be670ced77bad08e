"""GRU4Rec: a gated recurrent network trained on rankings within a mini-batch [ICLR 2016; CIKM 2018], as its authors' own code trains it.

What is different about this model: one recurrent state a session, carried from event to event, and a loss over three kinds of items: the event that
followed, the events that followed *in the other sessions of the batch*, and ``n_negatives`` items drawn for all of them together in proportion to
popularity^``sampling_power``. Gradients do not flow back through time: each event trains one step of the cell on a state taken as given.

    h_t = GRU(drop(E[i_t]), stop_gradient(h_{t-1}));   score of j = drop(h_t) . E[j] + b[j]

``loss: sampled_softmax`` is the code's cross-entropy, with ``logq`` its correction: log popularity is taken off the scores that came by a batch, the
positive's too, and ``sampling_power`` times log popularity off those that were drawn. ``loss: bpr_max`` is its other loss.

Session-parallel batches, and what stands for them here. The authors walk N sessions in parallel, one event an update, and put a new session where
one ends. Here a step reads whole windows, all positions at once, from a zero state, and the loss is the mean over positions. With the gradient
cut at every event this is the mean of their one-event gradients, taken before the weights move rather than after each event. The other
sessions' positives are those of the batch's other *rows*, at any position, as their lanes too stand at different places of their sessions;
a row's own events are no negatives to each other, as a lane's are not. So ``training.batch_size`` (512 events) plays the part of their N (80 to
240 lanes).

Other deviations:
- AdamW, as for every model here; the authors use Adagrad: ``training.optimizer=adagrad training.lr=0.065`` (without the momentum of their BPR-max
  presets).
- Popularity is count + 1, in the draws and in the logarithms of logQ; the code takes the count. So an item that training never shows can be drawn.
- A drawn negative that is the target is left out.
- Dropout acts on what a state gives to the score, not on the state that is carried on.
- Sessions are shuffled, not ordered by time.
``bptt: true`` lets gradients through time, as most rewrites of this model do without saying so.

Glossary (code -> here): ``constrained_embedding`` -> always; Wy, By -> ``item_embedding``, ``item_bias``; bpreg -> ``bpr_reg``; sample_alpha ->
``sampling_power``; n_sample -> ``n_negatives``; dropout_p_embed, dropout_p_hidden -> ``embedding_dropout``, ``dropout``; layers -> ``hidden_size``.

Shapes: B rows, L positions, D hidden size, N real positions of a batch, K candidates, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.losses.catalogue import CatalogueLoss, bpr_max, softmax_over
from recbench.nn.transformer.dropout import Dropout


@dataclass
class GRU4RecConfig(SequenceConfig):
    """Sizes, dropout and what the loss compares with; its other keys are those of every scoring model."""

    name: str = "gru4rec"
    hidden_size: int = 128
    n_layers: int = 1
    embedding_dropout: float = 0.5
    dropout: float = 0.0
    bptt: bool = False
    in_batch: bool = True
    loss: str = "sampled_softmax"
    n_negatives: int = 2048
    sampling: str = "popularity"
    sampling_power: float = 0.5


class InBatchLoss(CatalogueLoss):
    """The catalogue loss with the targets of the batch's other rows among the negatives of ``sampled_softmax`` and ``bpr_max``."""

    log_counts: Tensor

    def __init__(self, config: GRU4RecConfig, n_items: int, item_counts: Tensor | None = None) -> None:
        super().__init__(config, n_items, item_counts)
        self.in_batch = config.in_batch and config.loss in ("sampled_softmax", "bpr_max")
        if self.in_batch and config.negatives != "shared":
            raise UserError(
                "with model.in_batch=true all rows share their negatives; set model.negatives=shared or model.in_batch=false"
            )
        counts = torch.zeros(n_items + 1) if item_counts is None else item_counts.float()
        self.register_buffer("log_counts", (counts + 1.0).log(), persistent=False)

    def forward(
        self,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """hidden [N, D], table [V, D], targets [N] -> scalar, weighted where there are weights [N]. rows [N]: of the batch; without it no two
        positions share a row."""
        if not self.in_batch:
            return super().forward(hidden, table, targets, weights)
        n = len(targets)
        drawn = self._draw((self.config.n_negatives,))
        candidates = torch.cat([targets, drawn])
        scores = hidden @ self.vectors(table, candidates).T
        rows = torch.arange(n, device=targets.device) if rows is None else rows
        taken = candidates == targets[:, None]
        taken[:, :n] |= rows[:, None] == rows
        positive = scores.diagonal()
        if self.config.loss == "bpr_max":
            return bpr_max(positive, scores, taken, self.config.bpr_reg, weights)
        if self.config.logq:
            power = self.config.sampling_power if self.config.sampling == "popularity" else 0.0
            scores = scores - torch.cat([self.log_counts[targets], power * self.log_counts[drawn]])
            positive = scores.diagonal()
        return softmax_over(positive, scores, taken, weights)


@register("gru4rec", GRU4RecConfig)
class GRU4Rec(SequenceModel):
    """See the head of this file."""

    loss: InBatchLoss
    reads_target_weights: ClassVar[bool] = True

    def __init__(self, config: GRU4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers")
        if not 0 <= config.embedding_dropout < 1:
            raise UserError(f"model.embedding_dropout must lie between 0 and 1, not {config.embedding_dropout:g}")
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.item_bias = nn.Parameter(torch.zeros(context.n_items + 1))
        self.embedding_dropout, self.dropout = Dropout(config.embedding_dropout), Dropout(config.dropout)
        self.layers = nn.ModuleList(nn.GRU(d, d, batch_first=True) for _ in range(config.n_layers))
        self.loss = InBatchLoss(config, context.n_items, context.item_counts)
        self.width = d
        self._initialise()

    def needs_whole_batch(self) -> str:
        in_batch = (
            "model.in_batch=true takes the targets of a batch for negatives of each other" if self.loss.in_batch else ""
        )
        return in_batch or super().needs_whole_batch()

    def _initialise(self) -> None:
        """Uniform within sqrt(6 / (rows + columns)), gate by gate; zero biases."""
        for gru in self.layers:
            for name, weight in gru.named_parameters():
                parts = weight.data.chunk(3) if name.startswith("weight") else ()
                for part in parts:
                    nn.init.xavier_uniform_(part)
                if not parts:
                    nn.init.zeros_(weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0.0

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = [self.embedding_dropout(self.item_embedding(batch.items))]
        for gru in self.layers:
            assert isinstance(gru, nn.GRU)
            states.append(self.dropout(self._recur(gru, states[-1])))
        return states

    def _recur(self, gru: nn.GRU, inputs: Tensor) -> Tensor:
        """inputs [B, L, D] -> states [B, L, D], which carry gradients through one step of time only unless ``bptt``."""
        if self.config.bptt or not torch.is_grad_enabled():
            return gru(inputs)[0]
        with torch.no_grad():
            before = F.pad(gru(inputs)[0][:, :-1], (0, 0, 1, 0))
        # All steps at once, each from the state that is known to precede it.
        from_input, from_state, *biases = gru.all_weights[0]
        made = torch.gru_cell(inputs.flatten(0, 1), before.flatten(0, 1), from_input, from_state, *biases)
        return made.view_as(before)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        trained = batch.trained
        rows = torch.nonzero(trained)[:, 0]
        weights = batch.weights_of(trained)
        return self.loss(self.queries(states[-1][trained]), self.item_vectors(), batch.targets[trained], weights, rows)

    def queries(self, states: Tensor) -> Tensor:
        """States [..., D] -> [..., D + 1]: a one behind each, which meets the item's bias."""
        return F.pad(states, (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        """[V, D + 1]: the item's vector and, last, its bias."""
        return torch.cat([self.item_embedding.weight, self.item_bias[:, None]], dim=1)
