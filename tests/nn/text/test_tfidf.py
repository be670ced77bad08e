"""TF-IDF on singular directions, against sums by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from recbench.nn.text.tfidf import tfidf_svd

TEXTS = ["red soap", "red red brush", "blue soap for hair", "", "hair brush"]


def by_hand(texts):
    """[N, N]: products of the TF-IDF rows, which no turn to singular directions changes."""
    counts = [Counter(text.split()) for text in texts]
    df = Counter(word for count in counts for word in count)
    rows = []
    for count in counts:
        row = {w: (1 + math.log(c)) * (math.log((1 + len(texts)) / (1 + df[w])) + 1) for w, c in count.items()}
        length = math.sqrt(sum(v * v for v in row.values())) or 1.0
        rows.append({w: v / length for w, v in row.items()})
    return np.array([[sum(a[w] * b.get(w, 0) for w in a) for b in rows] for a in rows])


def test_with_all_directions_the_products_are_those_of_tf_idf():
    vectors = tfidf_svd(TEXTS, 50)
    assert vectors.shape == (5, 5)
    np.testing.assert_allclose(vectors @ vectors.T, by_hand(TEXTS), atol=1e-5)


def test_fewer_directions_are_the_leading_ones():
    whole, cut = np.linalg.svd(by_hand(TEXTS))[1], tfidf_svd(TEXTS, 2)
    assert cut.shape == (5, 2)
    np.testing.assert_allclose(np.linalg.svd(cut @ cut.T)[1][:2], whole[:2], rtol=1e-4)


def test_texts_without_words_and_single_items_have_vectors_too():
    assert not tfidf_svd(["", " ; "], 8).any()
    assert np.isfinite(tfidf_svd(["red soap"], 8)).all()
    assert np.isfinite(tfidf_svd(["red", "red"], 8)).all()
    np.testing.assert_array_equal(tfidf_svd(TEXTS, 3), tfidf_svd(TEXTS, 3))
