"""TF-IDF of words on its leading singular directions: item vectors without a language model and without a download."""

from __future__ import annotations

from collections.abc import Sequence

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
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        weighted = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, dtype=np.float32).fit_transform(texts)
    except ValueError:  # sklearn's word for texts without any word
        return np.zeros((len(texts), 1), dtype=np.float32)
    # No more directions than there are, and the solver wants two columns at least.
    width = min(width, *weighted.shape)
    if min(weighted.shape) < 2:
        return np.asarray(weighted.toarray(), dtype=np.float32)
    svd = TruncatedSVD(width, n_iter=7, random_state=0)
    return np.ascontiguousarray(svd.fit_transform(weighted), dtype=np.float32)


def tfidf_svd_of(texts: Sequence[str], others: Sequence[str], width: int) -> np.ndarray:
    """[M, D] the vectors that ``others`` [M] have in the space of ``texts`` [N]: words, weights and directions are those of ``tfidf_svd(texts)``."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, dtype=np.float32)
    weighted = words.fit_transform(texts)
    width = min(width, *weighted.shape)
    svd = TruncatedSVD(width, n_iter=7, random_state=0).fit(weighted)
    return np.ascontiguousarray(svd.transform(words.transform(others)), dtype=np.float32)


def item_words(texts: Sequence[str], most: int) -> Tensor:
    """[N, 1 + W] float32 TF-IDF of the ``most`` most frequent words, rows of length 1; the first column is nobody's, as the first item is the pad."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        found = TfidfVectorizer(token_pattern=WORD, max_features=most, dtype=np.float32).fit_transform(texts).toarray()
    except ValueError:  # sklearn's word for texts without any word
        found = np.zeros((len(texts), 1), dtype=np.float32)
    return torch.from_numpy(np.pad(found, ((0, 0), (1, 0))))
