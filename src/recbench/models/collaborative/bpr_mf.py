"""BPR-MF: a vector for each user and each item, compared by their product, learned from pairs [Rendle et al., UAI 2009].

What is different: nothing. It is the plain form of ``entities.py``, whose loss, penalty and negatives are BPR's; what a graph, a text or a
contrast adds is measured against it.

Glossary: W -> ``user_embedding``; H -> ``item_embedding``; lambda -> ``penalty`` (halved, of the rows of a batch).

Deviations: Adam in place of plain gradient steps; no item bias; a user without training events, folded in, gets the mean of the item vectors
of the history (ours). ``training.embedding_gradients=sparse`` moves only the rows of a batch, which on large tables is several times faster
and another optimiser (``recbench.training.row_adam``).
"""

from __future__ import annotations

from dataclasses import dataclass

from recbench.models.collaborative.entities import EntityConfig, EntityModel
from recbench.models.registry import register


@dataclass
class BPRMFConfig(EntityConfig):
    """The keys of ``entities.py``, and no others."""

    name: str = "bpr_mf"


@register("bpr_mf", BPRMFConfig)
class BPRMF(EntityModel):
    """See the head of this file."""

    reads_rows_only = True
