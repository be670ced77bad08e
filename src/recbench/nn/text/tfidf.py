"""TF-IDF of words on its leading singular directions: item vectors without a language model and without a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Words are runs of letters and digits; a single letter is one too.
WORD = r"(?u)\w+"


def tfidf_svd(texts: Sequence[str], width: int) -> np.ndarray:
    """[N, D] float32, D = width or as many as there are words or items. Rows of texts without words are 0.

    tf is 1 + log count, idf log((1 + N) / (1 + df)) + 1, rows of length 1 before the truncated SVD (randomised, fixed seed). The vocabulary
    is that of all items: text is known of an item before anybody meets it.
    """
    try:
        weighted = _words().fit_transform(texts)
    except ValueError:  # sklearn's word for texts without any word
        return np.zeros((len(texts), 1), dtype=np.float32)
    if min(weighted.shape) < 2:  # the solver wants two columns at least
        return np.asarray(weighted.toarray(), dtype=np.float32)
    return np.ascontiguousarray(_directions(width, weighted.shape).fit_transform(weighted), dtype=np.float32)


def tfidf_svd_of(texts: Sequence[str], others: Sequence[str], width: int) -> np.ndarray:
    """[M, D] the vectors that ``others`` [M] have in the space of ``texts`` [N]: words, weights and directions are those of ``tfidf_svd(texts)``."""
    words = _words()
    weighted = words.fit_transform(texts)
    directions = _directions(width, weighted.shape).fit(weighted)
    return np.ascontiguousarray(directions.transform(words.transform(others)), dtype=np.float32)


def _words() -> Any:
    """Of texts, the words and their weights."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, dtype=np.float32)


def _directions(width: int, shape: tuple[int, int]) -> Any:
    """Of weights of this shape, the leading ``width``; no more than there are."""
    from sklearn.decomposition import TruncatedSVD

    return TruncatedSVD(min(width, *shape), n_iter=7, random_state=0)


def item_words(texts: Sequence[str], most: int) -> Tensor:
    """[N, 1 + W] float32 TF-IDF of the ``most`` most frequent words, rows of length 1; the first column is nobody's, as the first item is the pad."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        found = TfidfVectorizer(token_pattern=WORD, max_features=most, dtype=np.float32).fit_transform(texts).toarray()
    except ValueError:  # sklearn's word for texts without any word
        found = np.zeros((len(texts), 1), dtype=np.float32)
    return torch.from_numpy(np.pad(found, ((0, 0), (1, 0))))
