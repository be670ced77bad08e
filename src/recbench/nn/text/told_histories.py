"""Which histories of training a language model is told, and in which words.

A row is a user and how many of their first events are told; the event that follows is one of training too, so the row has a target there. Nothing of
the target, or of what comes after it, is looked at.

Shapes: U users, R rows, V items with the pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError
from recbench.data.batches import training_windows
from recbench.data.cases import flat_ranges
from recbench.data.training import TrainingData
from recbench.nn.text.item_prompts import numbered, short_title

#: Auxiliary -> what is asked about a history. {titles} and {noun} stand for the history and for what an item is called.
PROMPTS = {
    "rationale": "A person chose these {noun}s, oldest first: {titles}. What does this person like? In one sentence:",
    "llm_cf": "A person chose these {noun}s, oldest first: {titles}. Why did they choose these, and what does that say about them? Step by step:",
}
TITLES, NOUN = "{titles}", "{noun}"


@dataclass(frozen=True)
class Rows:
    """user [R], events [R]: so many of the user's first events are told. Ordered by user, then events."""

    user: np.ndarray
    events: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def drawn(self, n: int, seed: int) -> Rows:
        """n of them, or all if there are no more, in their order."""
        if n >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        return Rows(self.user[chosen], self.events[chosen])


def window_rows(train: TrainingData, max_length: int) -> Rows:
    """The history of each training window, up to its last event that has a target."""
    windows = training_windows(train.start, train.end, max_length)
    return _ordered(train, windows.user, windows.start + windows.length)


def target_rows(train: TrainingData) -> Rows:
    """The history before each training target."""
    user, position = flat_ranges(np.minimum(train.start + 1, train.end), train.end)
    return _ordered(train, user, position)


def _ordered(train: TrainingData, user: np.ndarray, end: np.ndarray) -> Rows:
    order = np.lexsort((end, user))
    user, end = user[order], end[order]
    return Rows(user, end - np.asarray(train.data.offsets)[user])


def histories(train: TrainingData, rows: Rows, titles: Sequence[str], longest: int) -> list[list[str]]:
    """The titles of the last events of each history, at most ``longest``, oldest first. titles [V]."""
    end = np.asarray(train.data.offsets)[rows.user] + rows.events
    start = np.maximum(np.asarray(train.start)[rows.user], end - longest)
    return [
        [titles[item] for item in np.asarray(train.data.items[first:last]).tolist()]
        for first, last in zip(start.tolist(), end.tolist(), strict=True)
    ]


def titles_of(texts: Sequence[str], n_words: int) -> list[str]:
    """[V] the first words of the text of each item. texts [V]."""
    return [short_title(text, n_words) for text in texts]


def prompt_of(template: str, titles: Sequence[str], noun: str) -> str:
    """
    >>> prompt_of("These {noun}s: {titles}. Likes:", ["red", "blue"], "mug")
    'These mugs: 1. red; 2. blue. Likes:'
    """
    return template.replace(NOUN, noun).replace(TITLES, numbered(titles))


def check_template(template: str) -> None:
    """Raise UserError for a prompt that tells no history."""
    if TITLES not in template:
        raise UserError(
            f"--prompt must hold {TITLES}, where the history is told, as in --prompt '{PROMPTS['rationale']}'"
        )
