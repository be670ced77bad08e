"""Every token has one id, and every conversion between the spaces of numbers leads back."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.language.token_ids import Kind, TokenIds

SIZES = (4, 5, 2)


@pytest.fixture(params=[0, 3], ids=["no words", "words"])
def ids(request):
    return TokenIds(n_special=2, n_words=request.param, level_sizes=SIZES)


def test_every_id_but_nothing_is_of_one_kind(ids):
    every = torch.arange(len(ids))
    kinds = torch.stack([ids.is_kind(every, kind) for kind in Kind])
    assert kinds.sum(0).tolist() == [0, *[1] * (len(ids) - 1)]
    assert kinds.sum(1).tolist() == [ids.count(kind) for kind in Kind]


@pytest.mark.parametrize("kind", list(Kind))
def test_rows_of_a_table_become_ids_and_rows_again(ids, kind):
    rows = torch.arange(ids.count(kind))
    found = ids.from_rows(rows, kind)
    assert ids.is_kind(found, kind).all()
    assert torch.equal(ids.to_rows(found, kind), rows)


def test_what_is_none_becomes_nothing(ids):
    assert ids.from_rows(torch.tensor([-1]), Kind.CODE).tolist() == [0]
    assert ids.of_items(torch.tensor([[-1, -1, -1]])).tolist() == [[0, 0, 0]]
    assert ids.of_words(torch.tensor([0])).tolist() == [0]


def test_words_are_numbered_from_one():
    ids = TokenIds(n_special=2, n_words=3, level_sizes=SIZES)
    assert ids.of_words(torch.tensor([[1, 3, 0]])).tolist() == [[3, 5, 0]]
    assert ids.to_rows(torch.tensor([3, 5]), Kind.WORD).tolist() == [0, 2]


def test_the_codes_of_items_are_found_again_level_by_level(ids):
    codes = torch.tensor([[-1, -1, -1], [0, 0, 0], [3, 4, 1], [1, 0, 1]])
    found = ids.of_items(codes)
    first = ids.first(Kind.CODE)
    assert found[1].tolist() == [first, first + 4, first + 9]
    assert found[2].tolist() == [first + 3, first + 8, first + 10]
    for level, (here, code) in enumerate(ids.by_level(found)):
        assert here.nonzero().tolist() == [[item, level] for item in (1, 2, 3)]
        assert torch.equal(code, codes[1:, level])
