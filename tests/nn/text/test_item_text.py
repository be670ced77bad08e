"""Item texts as numbers: hashed words, tokens, and vectors that know only the texts of training items."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.item_text import item_texts
from recbench.data.prepared import PreparedData
from recbench.nn.text import item_text
from recbench.nn.text.item_text import hashed_words, tfidf_vectors, tokens_of

TEXTS = ["", "Red shoe, size 9", "red SHOE", "green hat", "hat (green)", "!?", "blue scarf and hat"]


def test_words_are_hashed_alike_whatever_their_case_and_place():
    words = hashed_words(TEXTS, 1000, 3)
    assert words.shape == (7, 3)
    assert words[0].tolist() == words[5].tolist() == [0, 0, 0]
    assert words[1, :2].tolist() == words[2, :2].tolist()
    assert words[2, 2] == 0
    assert sorted(words[3, :2].tolist()) == sorted(words[4, :2].tolist())
    assert (words[1] > 0).all()
    assert int(words.max()) <= 1000
    # A stored model must read the same words on any machine.
    assert hashed_words(["hat"], 1000, 1).item() == zlib.crc32(b"hat") % 1000 + 1


def test_texts_that_share_words_are_near_and_those_without_are_zero():
    vectors = tfidf_vectors(TEXTS, np.array([False] + [True] * 6), 4)
    near = vectors @ vectors.T
    assert near[3, 4] > 0.99
    assert near[1, 2] > near[1, 3]
    assert not vectors[0].any()
    assert not vectors[5].any()
    torch.testing.assert_close(near.diagonal()[[1, 2, 3, 4, 6]], torch.ones(5))


def test_the_vectors_know_only_texts_of_training_items():
    seen = np.array([False, True, True, True, False, False, True])
    other = [text if known else "unheard words of red hats" for text, known in zip(TEXTS, seen, strict=True)]
    kept = torch.from_numpy(seen)
    assert torch.equal(tfidf_vectors(TEXTS, seen, 3)[kept], tfidf_vectors(other, seen, 3)[kept])
    only_elsewhere = np.array([False, True, True, False, False, False, False])
    assert not tfidf_vectors(TEXTS, only_elsewhere, 3)[[3, 4]].any()


def test_the_sparse_decomposition_is_the_dense_one(monkeypatch):
    rng = np.random.default_rng(0)
    texts = ["", *(" ".join(f"w{k}" for k in rng.integers(0, 40, size=8)) for _ in range(60))]
    seen = np.array([False] + [True] * 60)
    dense = tfidf_vectors(texts, seen, 5)
    monkeypatch.setattr(item_text, "DENSE_CELLS", 0)
    sparse = tfidf_vectors(texts, seen, 5)
    # Singular vectors are known up to their sign; what counts is how near two texts are.
    torch.testing.assert_close(sparse @ sparse.T, dense @ dense.T, atol=1e-4, rtol=1e-3)


def test_more_width_than_words_leaves_zeros():
    vectors = tfidf_vectors(["", "one two", "two"], np.array([False, True, True]), 8)
    assert vectors.shape == (3, 8)
    assert not vectors[:, 2:].any()
    assert not tfidf_vectors(["", "!"], np.array([False, True]), 8).any()


def test_a_backbone_without_a_tokenizer_cannot_read_texts(stored_llama):
    with pytest.raises(UserError, match=r"need the tokenizer of .*model\.backbone=tiny"):
        tokens_of(TEXTS, str(stored_llama), 4)


def test_the_texts_of_items_are_their_columns_in_order(tmp_path):
    import polars as pl

    table = pl.DataFrame(
        {
            "item": ["a", "b", "c"],
            "title": ["Hat", None, " "],
            "brand": ["Acme", None, None],
            "categories": [["Wear", "Head"], [], None],
            "description": ["Soft.", "Only this", None],
        }
    )
    data = PreparedData.from_arrays(tmp_path, np.array([1, 2, 3]), np.array([0, 3]), item_table=table)
    assert item_texts(data) == ["", "Hat. Acme. Wear, Head. Soft.", "Only this", ""]
