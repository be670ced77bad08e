"""A model of codes whose every log-probability is known, and catalogues to search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch


class TableModel:
    """log p(code | user, prefix) from random logits of its own for every prefix, so that brute force can say what is best."""

    def __init__(self, n_users, sizes, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.n_users, self.sizes = n_users, list(sizes)
        self.tables = []
        for level, size in enumerate(self.sizes):
            shape = (n_users, *self.sizes[:level], size)
            self.tables.append((2 * torch.randn(shape, generator=generator)).log_softmax(dim=-1))

    def first(self):
        prefix = torch.zeros(self.n_users, 1, 0, dtype=torch.int64)
        return self._look_up(prefix), prefix

    def next(self, state, parent, code):
        prefix = state.gather(1, parent[..., None].expand(*parent.shape, state.shape[2]))
        prefix = torch.cat([prefix, code[..., None]], dim=2)
        return self._look_up(prefix), prefix

    def _look_up(self, prefix):
        user = torch.arange(self.n_users)[:, None].expand(prefix.shape[:2])
        return self.tables[prefix.shape[2]][(user, *prefix.unbind(dim=2))]

    def log_prob(self, user, codes):
        return sum(float(table[(user, *codes[: level + 1])]) for level, table in enumerate(self.tables))


def code_table(codes):
    """Tuples of codes -> [n_items + 1, M] with the pad's row."""
    codes = np.asarray(codes, dtype=np.int64)
    return np.concatenate([np.full((1, codes.shape[1]), -1), codes])


@pytest.fixture(scope="session")
def table_model():
    return TableModel


@pytest.fixture(scope="session")
def catalogue():
    """catalogue((4, 3, 5), n_items, seed) -> code table [n_items + 1, M] of random codes; ``distinct`` draws without repetition."""

    def build(sizes, n_items, seed=0, distinct=True):
        generator = np.random.default_rng(seed)
        everything = np.array(list(itertools.product(*map(range, sizes))))
        return code_table(everything[generator.choice(len(everything), n_items, replace=not distinct)])

    return build
