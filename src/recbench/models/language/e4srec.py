"""E4SRec: a language model over frozen item vectors, with a free vector for every item it can predict [arXiv 2312.02443].

What is different about this model: like SLMRec, whose teacher it is in that paper, it reads items as vectors of a converged ID
recommender, frozen, through one linear map. Unlike SLMRec it does not score against those vectors: a linear layer without bias goes
from the language model's width straight to the catalogue. That layer holds n_items x H learned numbers, so it can place items
where the ID recommender did not, and costs what SLMRec's small head saves.

Glossary (released code -> here): ID embeddings -> ``item_table``; ``input_proj`` -> ``item_to_state``; ``score`` -> ``head``;
base model -> ``config.backbone``; instruction and response text -> ``config.prompt_prefix``, ``prompt_suffix``.

Where this deviates, and why:
- Every prefix of a history is a training example, as in the released code, but all prefixes of a window share one pass; there each is a
  row of its own, and prefixes are not cut to the maximum length.
- The best epoch is chosen on validation. The released code takes its item vectors from the checkpoint that is best on the test set, trains
  three epochs and stops nowhere.
- The ID recommender is trained to convergence with the full softmax; the released one with one sampled negative.
- Without the text prompt unless ``model.prompt=text``; the pad is no class of the softmax; histories are padded on the right.
- The weights are in float32 unless ``model.precision`` says otherwise; the released code has 8 bits.

Shapes: B rows, L positions, H width of the language model, E width of the frozen item vectors, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from recbench.models.language.slmrec import SLMRec, SLMRecConfig
from recbench.models.registry import register


@dataclass
class E4SRecConfig(SLMRecConfig):
    """The keys of SLMRec; the loss keys are those of every scoring model."""

    name: str = "e4srec"


@register("e4srec", E4SRecConfig)
class E4SRec(SLMRec):
    """See the head of this file."""

    def _build_ends(self, item_width: int) -> None:
        self.item_width = self.width
        self.item_to_state = nn.Linear(item_width, self.width)
        self.head = nn.Linear(self.width, self.n_items + 1, bias=False)

    def queries(self, states: Tensor) -> Tensor:
        return states

    def item_vectors(self) -> Tensor:
        """[V, H]: the rows of the head."""
        return self.head.weight
