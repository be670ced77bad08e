"""Collaborative item codes: items clustered by who meets them together, then within each cluster, and so on [Hua et al., SIGIR-AP 2023,
collaborative indexing].

What is different about this tokenizer: it reads no text. The graph of items that occur in the same users' training events is cut into
``codebook_size`` parts by spectral clustering, each part again, ``levels`` times. What is left together at the end collides, and is
numbered by the level of collisions.

Glossary: A_ij, users who met both i and j -> ``graph``; D, row sums; the leading eigenvectors of D^-1/2 A D^-1/2, rows scaled to length 1,
are clustered by k-means [Ng, Jordan and Weiss, NIPS 2001].

Where this deviates from OpenP5, and why: of each item only the ``neighbours`` strongest edges are kept, so the graph takes n_items *
neighbours entries (12 bytes each, twice at times) where a dense one takes n_items^2, and its eigenvectors need products with it alone; a
fixed number of levels where there it depends on the size of a cluster; k-means on the eigenvectors where scikit-learn's ``cluster_qr`` was
used. Items without edges are dealt out evenly in an order that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.counting.itemknn import PAIRS_AT_ONCE, user_item_matrix
from recbench.models.registry import register
from recbench.models.tokenizers.tokenizer import ItemTokenizer, TokenizerConfig
from recbench.nn.codes.quantization import kmeans_codebook, nearest_codes
from recbench.nn.sparse_rows import keep_largest

if TYPE_CHECKING:
    from scipy import sparse

#: Up to so many items the eigenvectors come from a dense matrix, which is exact and quicker.
DENSE_ITEMS = 512


@dataclass
class CollaborativeIdsConfig(TokenizerConfig):
    """neighbours: edges kept of each item. max_items: a larger catalogue is refused, for the graph would not fit."""

    name: str = "collaborative_ids"
    levels: int = 3
    codebook_size: int = 20
    neighbours: int = 100
    max_items: int = 1_000_000


@register("collaborative_ids", CollaborativeIdsConfig)
class CollaborativeIds(ItemTokenizer):
    """See the head of this file."""

    def __init__(self, config: CollaborativeIdsConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.neighbours < 1:
            raise UserError(f"model.neighbours={config.neighbours} must be at least 1")
        if context.n_items > config.max_items:
            raise UserError(
                f"collaborative_ids keeps up to {config.neighbours} edges of each of {context.n_items:,} items, "
                f"{24 * context.n_items * config.neighbours / 1e9:.1f} GB; raise model.max_items above {config.max_items:,} if your machine can"
            )

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        levels, size = self.config.levels, self.config.codebook_size
        rng = np.random.default_rng(self.seed)
        graph = cooccurrence_graph(train, self.config.neighbours)
        codes = np.zeros((train.n_items, levels), dtype=np.int64)
        parts = [np.arange(train.n_items)]
        for level in range(levels):
            smaller = []
            for part in parts:
                codes[part, level] = cut(graph, part, size, rng)
                smaller += [part[codes[part, level] == code] for code in range(size)]
            parts = [part for part in smaller if len(part) > 1]
        return codes, [size] * levels


def cooccurrence_graph(train: TrainingData, neighbours: int) -> sparse.csr_array:
    """[n_items, n_items] float32, symmetric: users who met both items in training, where either is among the strongest of the other's."""
    from scipy import sparse

    interactions = user_item_matrix(train)[:, 1:].tocsr()
    by_item = interactions.T.tocsr()
    # Most pairs that the rows of an item can give bound what exists at once.
    block = np.cumsum(by_item @ interactions.sum(axis=1)) // PAIRS_AT_ONCE
    bounds = np.flatnonzero(np.diff(block)) + 1
    kept = []
    for rows in np.split(np.arange(by_item.shape[0]), bounds):
        together = (by_item[rows] @ interactions).tocoo()
        other = together.row != together.col - rows[0]
        part = sparse.csr_array(
            (together.data[other], (together.row[other], together.col[other])), shape=together.shape
        )
        kept.append(keep_largest(part, neighbours))
    strongest = sparse.csr_array(sparse.vstack(kept, format="csr"))
    return sparse.csr_array(strongest.maximum(strongest.T))


def cut(graph: sparse.csr_array, part: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """[len(part)] int64 in 0..size - 1: a code for each item of a part of the graph."""
    if len(part) <= size:
        return np.arange(len(part))
    inner = graph[part][:, part]
    linked = inner.sum(1) > 0
    codes = np.empty(len(part), dtype=np.int64)
    codes[~linked] = rng.permutation(int((~linked).sum())) % size
    if linked.any():
        inner = inner[linked][:, linked]
        seed = int(rng.integers(2**31))
        vectors = leading_vectors(inner, min(size, inner.shape[0]))
        codes[linked] = nearest_codes(vectors, kmeans_codebook(vectors, size, seed))
    return codes


def leading_vectors(graph: sparse.csr_array, k: int) -> np.ndarray:
    """[N, k] float32: eigenvectors of D^-1/2 A D^-1/2 with the largest eigenvalues, rows of length 1."""
    from scipy import sparse
    from scipy.sparse.linalg import eigsh

    root = sparse.diags_array(1.0 / np.sqrt(graph.sum(1)))
    scaled = root @ graph.astype(np.float64) @ root
    n = graph.shape[0]
    if n <= max(DENSE_ITEMS, k + 1):
        vectors = np.linalg.eigh(scaled.toarray())[1][:, -k:]
    else:
        start = np.random.default_rng(0).normal(size=n)
        vectors = eigsh(scaled, k=k, which="LA", v0=start, tol=1e-4, ncv=min(n, 4 * k + 20))[1]
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
