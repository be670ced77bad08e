"""Stand-ins for texts that a machine wrote of the same items: smoother than the originals, without a language model and without a download.

    identical  the text as it is: the control, which must change nothing
    style      lower case, the words in alphabetical order, rare words left out, in one frame
    bigram     rare words exchanged for those that a bigram model of all texts finds likeliest between their neighbours

They stand for the rewrites of the Source Echo Chamber [arXiv 2405.17998], whose claim is of large language models: what is found with these is no
test of that claim.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from recbench.core.errors import UserError, nearest

REWRITES = ("identical", "style", "bigram")
WORD = re.compile(r"\w+")
#: A word that fewer texts hold is rare.
LEAST_TEXTS = 4


def rewritten(texts: Sequence[str], how: str) -> list[str]:
    """Each text anew. Raises UserError for an unknown way."""
    if how not in REWRITES:
        raise UserError(f"unknown copies '{how}'; {nearest(how, REWRITES)}")
    if how == "identical":
        return list(texts)
    words = [WORD.findall(text.lower()) for text in texts]
    held = Counter(word for found in words for word in set(found))
    rare = {word for word, n in held.items() if n < LEAST_TEXTS}
    if how == "style":
        return [_in_frame(found, rare) for found in words]
    pairs = Counter(pair for found in words for pair in zip(["", *found], [*found, ""], strict=True))
    common = sorted(held.keys() - rare)
    return [" ".join(_smoothed(found, rare, common, pairs)) if common else " ".join(found) for found in words]


def _in_frame(words: list[str], rare: set[str]) -> str:
    kept = sorted(set(words) - rare) or sorted(set(words))
    return f"this is {', '.join(kept)}" if kept else ""


def _smoothed(words: list[str], rare: set[str], common: list[str], pairs: Counter[tuple[str, str]]) -> list[str]:
    """From the left: a rare word becomes the common one of the highest count(before, word) * count(word, after), each plus a hundredth."""
    made: list[str] = []
    for place, word in enumerate(words):
        if word not in rare:
            made.append(word)
            continue
        before = made[-1] if made else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        made.append(max(common, key=lambda w: (pairs[before, w] + 0.01) * (pairs[w, after] + 0.01)))
    return made
