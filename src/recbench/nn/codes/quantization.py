"""Residual quantisation: a vector becomes a tuple of codes, each level coding what the levels before it left over.

    r_0 = x,   c_l = argmin_k ||r_l - e_lk||^2,   r_{l+1} = r_l - e_{l,c_l},   x ~ sum of the chosen e_lk
[Zeghidour et al., 2021; for items: Rajput et al., NeurIPS 2023, section 3.1]

With normalised residuals r_l is scaled to length 1 before it is coded; the lengths are then what the codes do not say.

Shapes: N items, D width, M levels, K codes of a level.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Rows whose distances to all codes exist at once.
ROWS_AT_ONCE = 8192
#: Of the uniform mapping: how sharp, and how many rounds [Zheng et al., ICDE 2024, section 3.2, and its code].
SINKHORN_EPSILON, SINKHORN_ROUNDS = 0.003, 50
UNIFORM = ("none", "sinkhorn")

#: (residuals [N, D], number of codes) -> codebook [K, D]
FitLevel = Callable[[np.ndarray, int], np.ndarray]


class Quantized(NamedTuple):
    """codes [N, M] int64, and the vectors that they stand for [N, D]."""

    codes: np.ndarray
    vectors: np.ndarray


def quantize_level_by_level(
    vectors: np.ndarray, levels: int, size: int, fit: FitLevel, normalize: bool = False, uniform_last: str = "none"
) -> Quantized:
    """Fit a codebook to the vectors, the next one to what it leaves over, and so on. vectors [N, D]."""
    residual, scale = np.array(vectors, dtype=np.float32), np.ones((len(vectors), 1), dtype=np.float32)
    total, codes = np.zeros_like(residual), np.zeros((len(vectors), levels), dtype=np.int64)
    for level in range(levels):
        if normalize:
            residual, length = unit_rows(residual)
            scale = scale * length
        book = fit(residual, size)
        uniform = uniform_last == "sinkhorn" and level == levels - 1
        codes[:, level] = uniform_codes(residual, book) if uniform else nearest_codes(residual, book)
        chosen = book[codes[:, level]]
        total += scale * chosen
        residual = residual - chosen
    return Quantized(codes, total)


def unit_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows scaled to length 1, lengths [N, 1]). A row that is 0 but for rounding becomes 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    real = length > 1e-6
    return np.where(real, vectors / np.where(real, length, 1.0), 0.0).astype(np.float32), np.where(real, length, 0.0)


def squared_distances(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """[N, D], [K, D] -> [N, K], never below 0."""
    found = (vectors**2).sum(1)[:, None] - 2.0 * vectors @ book.T + (book**2).sum(1)
    return np.maximum(found, 0.0)


def nearest_codes(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """[N] int64: the code nearest to each row, of equally near ones the first."""
    blocks = range(0, len(vectors), ROWS_AT_ONCE)
    parts = [squared_distances(vectors[i : i + ROWS_AT_ONCE], book).argmin(1) for i in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def uniform_codes(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """[N] int64: codes by distance under the side condition that all codes are used about equally often, in blocks of rows."""
    blocks = range(0, len(vectors), ROWS_AT_ONCE)
    parts = [sinkhorn(squared_distances(vectors[i : i + ROWS_AT_ONCE], book)).argmax(1) for i in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def sinkhorn(distances: np.ndarray, epsilon: float = SINKHORN_EPSILON, rounds: int = SINKHORN_ROUNDS) -> np.ndarray:
    """[N, K] float64: the transport plan from N rows of equal mass to K codes of equal mass, rows summing to 1.

    Distances are scaled to a range of 2 first, so that epsilon means the same everywhere. Q = exp(-d / epsilon) is scaled by u for the rows and v
    for the columns, as two vectors. Where these leave the range of numbers, the same is done with logarithms, ten times as slowly.
    """
    spread = max(float(distances.max() - distances.min()), 1e-12)
    logits = (distances.min(1, keepdims=True) - distances).astype(np.float64) * (2.0 / spread / epsilon)
    n, k = logits.shape
    plan, v = np.exp(logits), np.ones(k)
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            u = 1.0 / (n * (plan @ v))
            v = 1.0 / (k * (u @ plan))
        found = plan * v
        found /= found.sum(1, keepdims=True)
    return found if np.isfinite(found).all() else _sinkhorn_of_logarithms(logits, rounds)


def _sinkhorn_of_logarithms(logits: np.ndarray, rounds: int) -> np.ndarray:
    from scipy.special import logsumexp

    for _ in range(rounds):
        logits = logits - logsumexp(logits, axis=1, keepdims=True)
        logits = logits - logsumexp(logits, axis=0, keepdims=True)
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def kmeans_codebook(vectors: np.ndarray, size: int, seed: int, rounds: int = 100, batch: int = 0) -> np.ndarray:
    """[size, D]: centres of Lloyd's algorithm after k-means++, or of mini-batches of ``batch`` rows. vectors [N, D].

    Where the vectors have no more than ``size`` different values, these are the centres, and the codes left over repeat the first one: none is
    nearer than it, so none is ever used.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    values = different_rows(vectors, size)
    if len(values) <= size:
        return np.concatenate([values, np.repeat(values[:1], size - len(values), axis=0)])
    with warnings.catch_warnings():
        # It may find fewer clusters than asked for among rows that differ by rounding; the report says how many codes are used.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if batch:
            found = MiniBatchKMeans(size, batch_size=batch, max_iter=rounds, n_init=1, random_state=seed).fit(vectors)
        else:
            found = KMeans(size, max_iter=rounds, n_init=1, random_state=seed).fit(vectors)
    return np.asarray(found.cluster_centers_, dtype=np.float32)


def different_rows(vectors: np.ndarray, enough: int) -> np.ndarray:
    """The different rows of [N, D], sorted; or, once there are more than ``enough``, the vectors as they are."""
    some = np.unique(vectors[: 4 * enough], axis=0)
    return vectors if len(some) > enough else np.unique(vectors, axis=0)


def relative_error(vectors: np.ndarray, found: np.ndarray) -> float:
    """Squared distance of the reconstruction [N, D], as a share of that of the mean: 0 exact, 1 no better than one vector for all."""
    spread = float(((vectors - vectors.mean(0)) ** 2).sum(dtype=np.float64))
    error = float(((vectors - found) ** 2).sum(dtype=np.float64))
    # Of vectors that are all equal nothing is left but rounding.
    return error / spread if spread > 1e-9 * len(vectors) else 0.0
