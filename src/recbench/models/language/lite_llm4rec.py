"""Lite-LLM4Rec: two language models, one that reads an item's text and one that reads the history, and no decoding [arXiv 2402.09543, AACL 2025].

What is different about this model: other recommenders over language models spell out the next item's words by a beam search. Here a linear head
scores the whole catalogue from the last state at once. And the history is not told as one long text: an item model turns each item's text
into one vector, so that the recommending model reads as many vectors as there are items.

    v_i = pool of ItemLLM(text_i);   h = RecLLM(P v_{s_1}, ..., P v_{s_L}) at the last place;   p = softmax(W h),  loss -log p(next item)

``head`` says what W is: ``free``, a learned vector for each item (the paper's item projection head); ``tied_text``, the items' own text vectors, so
that an item without any training row has a score of its own. With tower_train=frozen it is ``e4srec`` over a table of text vectors.

Glossary (paper -> here): item LLM -> ``tower``; recommendation LLM -> ``backbone``; item projection head -> ``head``.

Deviations, and why:
- After the abstract and notes on the paper: the code was not to be had, and its tables could not be read. Its claim that no beam search is needed
  can be tested here, on one backbone against ``lcrec``.
- A causal decoder reads the history, in place of the paper's T5 encoder, so that every position of a history is a target, as everywhere here.
- ``tied_text`` with the full softmax encodes the whole catalogue in every step: for a large one set model.loss=sampled_softmax.
- ``tiny`` learns words by hash from nothing.

Shapes: B rows, L positions, N targets, H width of the tower, W width of the backbone, V = n_items + 1, K drawn negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices
from recbench.models.language.text_sequence import TextSequenceConfig, TextSequenceModel
from recbench.models.registry import register
from recbench.nn.losses.candidates import candidate_softmax
from recbench.nn.losses.catalogue import CatalogueLoss

HEADS = ("free", "tied_text")


@dataclass
class LiteLLM4RecConfig(TextSequenceConfig):
    """Keys of both language models, and what scores the items."""

    name: str = "lite_llm4rec"
    head: str = "free"


@register("lite_llm4rec", LiteLLM4RecConfig)
class LiteLLM4Rec(TextSequenceModel):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: LiteLLM4RecConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        return super().dependencies(config)

    def __init__(self, config: LiteLLM4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        self.item_to_state = nn.Linear(self.tower.width, self.width)
        if config.head == "free":
            self.head = nn.Linear(self.width, context.n_items + 1, bias=False)
        else:
            self.state_to_item = nn.Linear(self.width, self.tower.width, bias=False)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)

    def into_state(self, vectors: Tensor) -> Tensor:
        return self.item_to_state(vectors)

    def queries(self, states: Tensor) -> Tensor:
        return states if self.config.head == "free" else self.state_to_item(states)

    def item_vectors(self) -> Tensor:
        """[V, W], the rows of the head; or [V, H], the table of text vectors, of which only a whole step has a gradient."""
        return self.head.weight if self.config.head == "free" else self.tower.table()

    def training_loss(self, batch: Batch) -> Tensor:
        if self.config.head == "free":
            return super().training_loss(batch)
        return self.loss_of_step(batch)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        if self.config.head == "free":
            return super().loss_from_states(states, batch)
        return self.loss_of_step(batch, states)

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the targets [N], the items that they are held against: all [V], or drawn ones [K])."""
        assert batch.targets is not None
        targets = batch.targets[batch.mask]
        if self.config.loss == "softmax":
            return targets, torch.arange(self.n_items + 1, device=targets.device)
        return targets, self._drawn(targets.device)

    def _against(self, states: list[Tensor], batch: Batch, others: Tensor, vectors: list[Tensor]) -> Tensor:
        """The loss; ``vectors`` are the tower's of the targets and of the others."""
        assert batch.targets is not None
        queries, targets = self.queries(states[-1][batch.mask]), batch.targets[batch.mask]
        if self.config.loss == "softmax":
            return self.loss(queries, vectors[1], targets)
        logq = (len(others) * self.loss.sampling_weights[others]).log() if self.config.logq else None
        return candidate_softmax(queries, *vectors, logq=logq, taken=others == targets[:, None]).mean()

    def _drawn(self, device: torch.device) -> Tensor:
        """[K] items, one draw for all positions of the step."""
        weights = self.loss.sampling_weights.to(device)
        return torch.multinomial(weights, self.config.n_negatives, replacement=True)


def _check(config: LiteLLM4RecConfig) -> None:
    check_choices(config, {"head": HEADS})
    if config.head == "tied_text" and config.loss not in ("softmax", "sampled_softmax"):
        raise UserError(
            "model.head=tied_text has no vectors but those of a step: set model.loss=softmax or sampled_softmax"
        )
