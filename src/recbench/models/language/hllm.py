"""HLLM: one language model reads the text of an item, another the vectors that come out; both are trained [Chen et al., 2024, arXiv 2409.12740].

What is different about this model: no item has an id. The item model reads the text of an item with a learned vector [ITEM] behind it, and the state
there is the item. The user model reads those vectors in place of tokens and says at each place what the next one looks like.

    v_i = state of ItemLLM at [ITEM] behind text_i        u_t = state of UserLLM(v_{s_1} ... v_{s_t}) at t
    s = exp(clamp(scale, 0, ln 100)), learned from ln(1 / 0.07)
    loss at t = -log e^{s cos(u_t, v+)} / (e^{s cos(u_t, v+)} + sum_j [cos(v+, v_j) <= drop_similar] e^{s cos(u_t, v_j)})

over ``n_negatives`` items drawn uniformly, shared by all positions of a step. Ranked is by the cosine.

Glossary (released code -> here): item_llm -> ``tower``; item_emb_token -> ``tower.slot``; user_llm -> ``backbone``; logit_scale -> ``scale``;
nce_thres -> ``drop_similar``; num_negatives -> ``n_negatives``.

Deviations, and why:
- Windows are those of every model here: none of a long history is dropped. The released code drops the oldest part and never asks for the first
  item of a piece.
- Histories and texts are padded on the right; there, pads are drawn items with mask 0, and texts end at the last position.
- A negative that is the target itself never counts; near copies leave the sum as there. If no negative is left anywhere the run stops, where the
  released loss would be 0.
- The negatives of a step may be of a row's own history, as in the released text data (its ID baselines exclude them).
- tower_train is full (the paper's), lora, or frozen: the last is what other code calls by this name, and is the control. The backbone has
  lora_rank for the same.
- ``text_prefix`` is empty for ``tiny``; the paper's is "Compress the following sentence into embedding: ".
- A linear map joins towers and backbones of different widths.
- The paper trains two TinyLlama-1.1B in bf16, 512 or 28,672 negatives, lr 1e-4, weight decay 0.01, 5 epochs on 32 GPUs. ``tiny`` learns from nothing.

Shapes: B rows, L positions, P positions with a target, D width of both sides' vectors, V = n_items + 1, K negatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.language.text_sequence import TextSequenceConfig, TextSequenceModel, narrowed
from recbench.models.registry import register
from recbench.nn.losses.candidates import candidate_softmax
from recbench.nn.losses.catalogue import CatalogueLoss

#: Of the learned scale, in logarithms.
SCALE_START, SCALE_MOST = math.log(1 / 0.07), math.log(100)


@dataclass
class HLLMConfig(TextSequenceConfig):
    """Keys of both language models, and of the loss over drawn negatives."""

    name: str = "hllm"
    pool: str = "slot"
    loss: str = "sampled_softmax"
    n_negatives: int = 256
    drop_similar: float = 0.99


@register("hllm", HLLMConfig)
class HLLM(TextSequenceModel):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: HLLMConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        return super().dependencies(config)

    def __init__(self, config: HLLMConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        self.project = narrowed(self.tower.width, self.width)
        self.scale = nn.Parameter(torch.tensor(SCALE_START))
        # What an auxiliary or a teacher asks of every model that scores: the catalogue, by cosines at this scale.
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)

    def into_state(self, vectors: Tensor) -> Tensor:
        return self.project(vectors)

    def factor(self) -> Tensor:
        """s, between 1 and 100."""
        return self.scale.clamp(0.0, SCALE_MOST).exp()

    def queries(self, states: Tensor) -> Tensor:
        """Unit vectors times the scale, so that the product with an item's is the logit."""
        return F.normalize(states, dim=-1) * self.factor()

    def item_vectors(self) -> Tensor:
        """[V, D] unit vectors, by the table that is kept while nothing is trained; the pad's is 0."""
        return F.normalize(self.project(self.tower.table()), dim=-1) * (self._items > 0)[:, None]

    @property
    def _items(self) -> Tensor:
        return torch.arange(self.n_items + 1, device=self.scale.device)

    def training_loss(self, batch: Batch) -> Tensor:
        return self.loss_of_step(batch)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        return self.loss_of_step(batch, states)

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the targets [P], the drawn negatives [K])."""
        assert batch.targets is not None
        targets = batch.targets[batch.mask]
        return targets, torch.randint(1, self.n_items + 1, (self.config.n_negatives,), device=targets.device)

    def _against(self, states: list[Tensor], batch: Batch, others: Tensor, vectors: list[Tensor]) -> Tensor:
        """The loss; ``vectors`` are the tower's of targets and negatives."""
        assert batch.targets is not None
        real = batch.mask
        positives, negatives = (self.project(part) for part in vectors)
        losses = candidate_softmax(
            states[-1][real],
            positives,
            negatives,
            scale=self.factor(),
            cosine=True,
            drop_similar=self.config.drop_similar,
            taken=others == batch.targets[real][:, None],
        )
        return losses.mean()


def _check(config: HLLMConfig) -> None:
    if config.loss != "sampled_softmax":
        raise UserError(
            f"'hllm' trains with its own loss over drawn negatives: model.loss={config.loss} would change nothing"
        )
    if config.n_negatives < 1:
        raise UserError(f"model.n_negatives must be at least 1, not {config.n_negatives}")
    if not 0 < config.drop_similar <= 1:
        raise UserError(f"model.drop_similar must lie above 0 and at most at 1, not {config.drop_similar:g}")
