"""Several heads over one state: a query for each class, and how likely each class is.

    q_c = q + SiLU(q W_c)         W_c = 0 at the start, so that all heads begin as the plain model
    log p(i) = log p(c(i) | q) + log softmax over the items of class c(i) of q_c . e_i            (calibrated)

Shapes: N predicted positions, B rows, E width, V = n_items + 1 rows of the table (row 0 is the pad), C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.losses.means import mean_of


class Heads(nn.Module):
    """The queries of C classes, and the class itself."""

    def __init__(self, n_classes: int, width: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.gates = nn.Parameter(torch.zeros(n_classes, width, width))
        self.prior = nn.Linear(width, n_classes)
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.prior.bias)

    def query(self, queries: Tensor, number: int) -> Tensor:
        """[N, E] of one class."""
        return queries + F.silu(queries @ self.gates[number])

    def own_queries(self, queries: Tensor, classes: Tensor) -> Tensor:
        """[N, E]: each row by the head of its class [N]."""
        found = torch.empty_like(queries)
        for number in classes.unique().tolist():
            rows = classes == number
            found[rows] = self.query(queries[rows], number)
        return found

    def class_loss(self, queries: Tensor, classes: Tensor, weights: Tensor | None) -> Tensor:
        """Mean -log p(class)."""
        return mean_of(F.cross_entropy(self.prior(queries), classes, reduction="none"), weights)


class ItemHeads(Heads):
    """Each item belongs to one class. class_of [V] int64 in 0..C - 1."""

    class_of: Tensor

    def __init__(self, class_of: Tensor, width: int, calibrated: bool) -> None:
        super().__init__(int(class_of.max()) + 1, width)
        self.calibrated = calibrated
        self.register_buffer("class_of", class_of)

    def items(self, number: int) -> Tensor:
        """The items of a class, by their number, without the pad."""
        found = (self.class_of == number).nonzero()[:, 0]
        return found[found > 0]

    def loss(self, queries: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """queries [N, E], vectors [V, E], targets [N] -> scalar: the softmax within the target's class, and the class if calibrated."""
        classes = self.class_of[targets]
        each = queries.new_empty(len(targets))
        for number in classes.unique().tolist():
            rows, items = (classes == number).nonzero()[:, 0], self.items(number)
            logits = self.query(queries[rows], number) @ vectors[items].T
            each[rows] = F.cross_entropy(logits, torch.searchsorted(items, targets[rows]), reduction="none")
        within = mean_of(each, weights)
        return within + self.class_loss(queries, classes, weights) if self.calibrated else within

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """[B, V]; calibrated, the exponentials of a row sum to 1. The pad has -inf."""
        out = queries.new_full((len(queries), len(vectors)), -torch.inf)
        prior = self.prior(queries).log_softmax(1)
        for number in range(self.n_classes):
            items = self.items(number)
            found = self.query(queries, number) @ vectors[items].T
            out[:, items] = found.log_softmax(1) + prior[:, number, None] if self.calibrated else found
        return out


class BehaviourHeads(Heads):
    """A head for each behaviour that the next event may have; at ranking, where it is not known, their mixture."""

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """[B, V]: log sum over behaviours of p(b) p(i | b). The pad has -inf."""
        prior = self.prior(queries).log_softmax(1)
        mixed: Tensor | None = None
        for number in range(self.n_classes):
            logits = self.query(queries, number) @ vectors.T
            logits[:, 0] = -torch.inf
            found = logits.log_softmax(1) + prior[:, number, None]
            mixed = found if mixed is None else torch.logaddexp(mixed, found)
        assert mixed is not None
        mixed[:, 0] = -torch.inf
        return mixed
