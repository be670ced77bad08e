"""Stand-ins for texts of a machine."""

import pytest

from recbench.core.errors import UserError
from recbench.posthoc.probes.rewrites import rewritten

TEXTS = ["Soft Soap blue", "soft soap red", "hard soap blue", "Soft zyx soap", "blue soft soap", "red hard soap"]


def test_style_leaves_rare_words_out_and_bigram_puts_likely_ones_in():
    assert rewritten(TEXTS, "identical") == TEXTS
    assert rewritten(TEXTS, "style")[3] == "this is soap, soft"
    assert rewritten(TEXTS, "bigram")[3] == "soft soft soap" or rewritten(TEXTS, "bigram")[3] == "soft soap soap"
    assert rewritten(TEXTS, "bigram")[0] == "soft soap soap"  # blue and red are rare: after "soft soap", before the end


def test_texts_of_rare_words_alone_and_none():
    assert rewritten(["only once", ""], "style") == ["this is once, only", ""]
    assert rewritten(["only once", ""], "bigram") == ["only once", ""]
    with pytest.raises(UserError, match="unknown copies 'stile'; did you mean 'style'"):
        rewritten(TEXTS, "stile")
