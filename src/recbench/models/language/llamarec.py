"""LlamaRec: a language model that learns to answer with the letter of the next item among a retriever's best [Yue et al., 2023, arXiv 2311.02089].

What is different about this model: two stages. A retriever finds K items (the paper's: model.retriever.model=lrurec). A language model reads
the titles of the history and of the K items, each behind a letter, and is trained so that the logits of the K letters at the last token of
the prompt (a "verbalizer") name the right one. One pass orders all K; nothing is generated.

    loss = -log p(letter of the target),  p the softmax over the letters of the candidates

Trained are the adapters of a named backbone, or all of ``tiny``. The retriever is frozen.

Glossary (paper -> here): verbalizer, ranking head -> ``letter_ids``; candidates -> ``k``; retrieval results -> ``retriever``.

Deviations, and why:
- ``candidates`` says which items stand beside the target in training. ``retriever``: its K best; a target that is not among them takes the place of
  the last one, in training alone. ``uniform``: drawn ones, as released; then training shows other rivals than the test does.
- ``missed`` says what becomes of targets that the retriever does not have among its K. ``replace`` is the rule above, and a trap where it misses
  many: the target is then the one title that the retriever never offers, and is found without any history. (Under popularity, on synthetic data,
  the loss fell from 1.61 to .14 in 400 steps, and the ranking stayed what it was: +.0002 NDCG@10, +-.0035.) ``leave_out`` trains on the others
  alone, which are the ones that the test can gain from.
- A retriever has seen the training targets and finds them too easily, so in training the candidates stand in random order; in the test ``order``
  decides.
- A step takes ``targets_per_window`` targets of each training window, drawn anew, where the released code has a row a target: every prompt is a
  pass of its own.
- Rows whose target the retriever misses keep the retriever's order, as all do behind the K; the released code merges the two figures afterwards.
- The paper's backbone is Llama-2-7B in 4 bits, with adapters of rank 8 on the query and value projections (model.lora_rank=8 model.lora_alpha=32
  model.lora_targets=[q_proj,v_proj]), one epoch at lr 1e-4, K = 20, history 20, titles of 32 tokens.
- ``tiny`` learns words by hash and letters from nothing: it shows that the parts work, and needs far more steps than a pretrained model.

Shapes: B windows, N prompts of a step, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch, drawn_prefixes
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.language.text_reranker import TextReranker, TextRerankerConfig
from recbench.models.registry import register

CANDIDATES = ("retriever", "uniform")
MISSED = ("replace", "leave_out")


@dataclass
class LlamaRecConfig(TextRerankerConfig):
    """The keys of every reranker over texts, and what is trained on."""

    name: str = "llamarec"
    order: str = "shuffled"
    candidates: str = "retriever"
    targets_per_window: int = 1
    dropout: float = 0.1
    missed: str = field(default="replace", metadata=LATER)


@register("llamarec", LlamaRecConfig)
class LlamaRec(TextReranker):
    """See the head of this file."""

    learns: ClassVar[bool] = True

    @classmethod
    def dependencies(cls, config: LlamaRecConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        return super().dependencies(config)

    def __init__(self, config: LlamaRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)

    def training_loss(self, batch: Batch) -> Tensor:
        prefixes, targets = self.drawn(batch)
        items, place = self.training_candidates(prefixes, targets)
        told = self.histories(prefixes)
        if self.config.missed == "leave_out":
            kept = self.is_found(prefixes, targets).nonzero()[:, 0]
            if not len(kept):
                # Nothing to learn here, but a loss that a step can be made of.
                return 0.0 * torch.stack([part.sum() for part in self.parameters() if part.requires_grad]).sum()
            items, place, told = items[kept], place[kept], [told[row] for row in kept.tolist()]
        states = self.reader.ends(self.letter_prompts(told, items.tolist()))
        return F.cross_entropy(self.reader.answer_logits(states, self.letter_ids), place)

    def is_found(self, histories: Batch, targets: Tensor) -> Tensor:
        """[N] bool: whether the retriever has the target among its best K."""
        scores = self.unseen(self.retrieved(histories), histories)
        return (scores > scores.gather(1, targets[:, None])).sum(1) < self.config.k

    def drawn(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Histories that end at drawn positions of the windows [N, L], and what follows them [N]."""
        return drawn_prefixes(batch, self.config.targets_per_window)

    def training_candidates(self, histories: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(items [N, K] in random order, the target among them; its place [N])."""
        if self.config.candidates == "retriever":
            scores = self.unseen(self.retrieved(histories), histories)
        else:
            scores = torch.rand(len(targets), self.n_items + 1, device=targets.device)
            scores[:, 0] = -torch.inf
        # In the first place, so that no other item has to be looked at.
        others = scores.scatter(1, targets[:, None], -torch.inf).topk(self.config.k - 1, dim=1)
        items = torch.cat([targets[:, None], others.indices], 1)
        order = torch.rand(items.shape, device=items.device).argsort(dim=1)
        return items.gather(1, order), order.argmin(dim=1)


def _check(config: LlamaRecConfig) -> None:
    check_sizes(config, "n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size", "k")
    check_choices(config, {"candidates": CANDIDATES, "missed": MISSED})
    if config.missed == "leave_out" and config.candidates == "uniform":
        raise UserError("model.missed=leave_out is about the retriever's candidates; set model.candidates=retriever")
    if config.answer != "letters":
        raise UserError("'llamarec' learns letters: set model.answer=letters, or model=prompted for the other answers")
    if config.targets_per_window < 1:
        raise UserError(f"model.targets_per_window must be at least 1, not {config.targets_per_window}")
