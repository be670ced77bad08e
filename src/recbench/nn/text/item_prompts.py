"""Prompts over item titles, in our own words: what was chosen, what may be chosen next, and the question.

A prompt ends without a blank; the answer that follows begins with one, in training as in use.
"""

from __future__ import annotations

from collections.abc import Sequence

#: How a history is told: as a list; as a list and once more its last item; as a list whose last item is the answer to the ones before it.
FORMS = ("sequential", "recency", "in_context")
#: What names a candidate where the answer is a letter; there can be no more candidates.
LETTERS = "ABCDEFGHIJKLMNOPQRST"
#: What stands for an item without text.
UNTITLED = "an item without a title"


def short_title(text: str, n_words: int) -> str:
    """The first words of an item's text.

    >>> short_title("Blue  mug, 2 cups. Acme", 3), short_title("", 3)
    ('Blue mug, 2', 'an item without a title')
    """
    return " ".join(text.split()[:n_words]) or UNTITLED


def numbered(titles: Sequence[str]) -> str:
    """
    >>> numbered(["red", "blue"])
    '1. red; 2. blue'
    """
    return "; ".join(f"{place}. {title}" for place, title in enumerate(titles, 1))


def history_text(titles: Sequence[str], form: str, noun: str) -> str:
    """What was chosen, oldest first, in one of FORMS; a history of one item is always told as a list.

    >>> history_text(["red", "blue"], "recency", "mug")
    'A person chose these mugs, oldest first: 1. red; 2. blue. The last one was blue.'
    """
    shown = titles[:-1] if form == "in_context" and len(titles) > 1 else titles
    told = f"A person chose these {noun}s, oldest first: {numbered(shown)}."
    if form == "recency":
        told += f" The last one was {titles[-1]}."
    if len(shown) < len(titles):
        told += f" The {noun} chosen next was {titles[-1]}, and after it comes another."
    return told


def listed(titles: Sequence[str], noun: str) -> str:
    """Candidates in one line."""
    return f" The next {noun} is one of these: {'; '.join(titles)}."


def ask_letter(titles: Sequence[str], noun: str) -> str:
    """Candidates with a letter each; the answer is a letter.

    >>> ask_letter(["red", "blue"], "mug")
    ' Which of these mugs is chosen next? A. red; B. blue. Answer:'
    """
    choices = "; ".join(f"{letter}. {title}" for letter, title in zip(LETTERS, titles, strict=False))
    return f" Which of these {noun}s is chosen next? {choices}. Answer:"


def ask_yes_no(title: str, noun: str) -> str:
    """The answer is yes or no."""
    return f" Is the {noun} {title} chosen next? Answer yes or no:"


def ask_title(noun: str) -> str:
    """The answer is a title."""
    return f" The next {noun} is:"
