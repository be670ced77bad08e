"""The text of an item: what the template says, less what is not known."""

from __future__ import annotations

import pytest

from recbench.core.errors import UserError
from recbench.data.text_config import TextConfig
from recbench.nn.text.template import template_texts


def test_unknown_segments_are_left_out_and_counted(holey):
    texts, missing = template_texts(holey, TextConfig().template)
    assert texts == ["Red soap; 9.99; acme; Beauty, Hair", "blue brush", "", "0.50; Hair"]
    assert missing == {"title": 2, "brand": 3, "categories": 2, "price": 2, "text": 1}


def test_a_template_has_words_of_its_own(holey):
    texts, missing = template_texts(holey, "Title: {title} by {brand}; Categories: {categories};")
    assert texts == ["Title: Red soap by acme; Categories: Beauty, Hair", "", "", "Categories: Hair"]
    assert missing["text"] == 2


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{titel}", r"unknown field '{titel}'; did you mean 'title'"),
        ("Buy this; {title}", "'Buy this' names no field"),
        (" ; ", "is empty"),
        ("{title", "cannot read"),
    ],
)
def test_a_mistake_in_a_template_is_named(template, words):
    with pytest.raises(UserError, match=words):
        TextConfig(template=template).validate()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"precision": "float16"}, "overflows in T5"),
        ({"precision": "half"}, "unknown data.text.precision"),
        ({"encoder": ""}, "is empty"),
        ({"encoder": "file"}, "go together"),
        ({"path": "x.npy"}, "go together"),
        ({"max_tokens": 0}, r"data.text.max_tokens must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys, words):
    with pytest.raises(UserError, match=words):
        TextConfig(**keys).validate()
