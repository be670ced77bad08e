"""Alignment examples on three items whose tokens are written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbench.nn.language.alignment import (
    FORMS,
    TASKS,
    Drawn,
    ItemTokens,
    packed,
    some_words,
    telling_words,
    word_rarity,
)
from recbench.nn.text.task_prompts import learned_prompts, worded_prompts

#: Words are 2 .. 9, codes 10 .. 15, 1 separates.
WORDS = torch.tensor([[0, 0, 0], [2, 3, 4], [2, 5, 0], [0, 0, 0]])
CODES = torch.tensor([[0, 0, 0], [10, 13, 1], [11, 14, 1], [12, 15, 1]])
RARITY = torch.tensor([0, 0, 0.0, 0.5, 0.4, 0.9, 0, 0, 0, 0])


@pytest.fixture
def items():
    return ItemTokens(CODES, WORDS, RARITY, n_levels=2, title_words=2, query_words=1)


def asked(items, name, history, target):
    """(question, answer) without zeros, of one example."""
    drawn = Drawn(torch.tensor([history]), torch.tensor([target]))
    example = FORMS[name].make(items, drawn)
    return [[i for i in part[0].tolist() if i] for part in (example.question, example.answer)]


def test_forms_belong_to_the_tasks_of_the_paper():
    assert TASKS == ("item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain")


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("item2index", [2, 5], [11, 14]),
        ("index2item", [11, 14, 1], [2, 5]),
        ("next_title", [12, 15, 1, 10, 13, 1], [2, 5]),
        ("next_text", [12, 15, 1, 10, 13, 1], [2, 5]),
        ("after_titles", [2, 3], [11, 14]),  # the other item has no text
        ("preferenceobtain", [12, 15, 1, 10, 13, 1], [3, 4]),
    ],
)
def test_what_is_asked_and_answered(items, name, question, answer):
    assert asked(items, name, [3, 1, 0], 2) == [question, answer]


def test_a_title_is_the_beginning_of_a_text(items):
    assert asked(items, "next_title", [2], 1)[1] == [2, 3]
    assert asked(items, "next_text", [2], 1)[1] == [2, 3, 4]


def test_a_query_follows_the_history_and_is_of_the_target(items):
    torch.manual_seed(0)
    found = set()
    for _ in range(30):
        question, answer = asked(items, "itemsearch", [3, 2], 1)
        assert question[:-1] == [12, 15, 1, 11, 14, 1]
        assert answer == [10, 13]
        found.add(question[-1])
    assert found == {2, 3, 4}


@pytest.mark.parametrize("name", list(FORMS))
def test_without_a_text_there_is_no_example(items, name):
    drawn = Drawn(torch.tensor([[3, 0], [1, 2]]), torch.tensor([3, 2]))
    assert (FORMS[name].make(items, drawn).text > 0).any(1).tolist() == [False, True]


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 2))
def test_packing_keeps_the_order_of_what_is_there(rows, cut):
    ids = torch.tensor(rows)
    found, last = packed([ids[:, :cut], ids[:, cut:]])
    for row, out, mark in zip(rows, found.tolist(), last.tolist(), strict=True):
        real = [i for i in row if i]
        assert out == real + [0] * (len(out) - len(real))
        assert sum(mark) == sum(i > 0 for i in row[cut:])
        assert [i for i, m in zip(out, mark, strict=True) if m] == [i for i in row[cut:] if i]


def test_some_words_are_different_ones_in_their_order():
    torch.manual_seed(1)
    words = torch.tensor([[7, 8, 9, 0], [5, 0, 0, 0]]).repeat(50, 1)
    drawn = some_words(words, 2)
    assert {tuple(row) for row in drawn[::2].tolist()} == {(7, 8), (7, 9), (8, 9)}
    assert {tuple(row) for row in drawn[1::2].tolist()} == {(5, 0)}
    assert some_words(words, 9).shape == (100, 4)


def test_words_tell_by_their_number_and_rarity():
    words = torch.tensor([[2, 3, 3, 5], [2, 2, 0, 0]])
    assert telling_words(words, RARITY, 3).tolist() == [[3, 5, 0], [0, 0, 0]]


def test_rarity_is_counted_over_the_items_of_training_alone():
    rarity = word_rarity(WORDS, torch.tensor([False, True, True, True]), 10)
    assert rarity.tolist() == pytest.approx([0, 0, math.log(4 / 3), *[math.log(2)] * 3, 0, 0, 0, 0])
    unseen = word_rarity(WORDS, torch.tensor([False, True, False, False]), 10)
    assert unseen[5] == 0
    # What every item has tells nothing.
    assert unseen[:5].tolist() == [0, 0, 0, 0, 0]


def test_prompts_have_ids_of_their_own():
    prompts = learned_prompts(["", "a"], 2, 3, separator=False)
    assert (prompts.begin, prompts.answer, prompts.n_special) == ({"": [1, 2], "a": [3, 4]}, [5, 6, 7], 7)
    assert prompts.longest() == 5


def test_prompts_of_words_hold_the_instruction():
    said = {"": "go on", "a": "tell"}
    prompts = worded_prompts(said, "<{instruction}", ">", separator=True, words_of=lambda text: [ord(c) for c in text])
    assert prompts.begin["a"] == [1 + ord(c) for c in "<tell"]
    assert (prompts.answer, prompts.n_special, prompts.separator) == ([1 + ord(">")], 1, 1)
