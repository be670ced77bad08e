"""What stands around the input of each task of a language model over codes: ids of special tokens and of words.

Ids are 0 for nothing, then special tokens (a separator of items, learned prompts), then words, then whatever else the model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskPrompts:
    """begin: what precedes the input, by task · answer: what follows it · separator: its id, 0 without one · n_special: the last special id."""

    begin: Mapping[str, list[int]]
    answer: list[int]
    separator: int
    n_special: int

    def longest(self) -> int:
        """Tokens of the longest pair."""
        return max(map(len, self.begin.values())) + len(self.answer)


def learned_prompts(tasks: Sequence[str], n_begin: int, n_answer: int, separator: bool) -> TaskPrompts:
    """So many tokens of its own for each task, and the same ones behind the input of all.

    >>> learned_prompts(["a", "b"], 2, 1, separator=True)
    TaskPrompts(begin={'a': [2, 3], 'b': [4, 5]}, answer=[6], separator=1, n_special=6)
    """
    first = 1 + separator
    begin = {task: list(range(first + n * n_begin, first + (n + 1) * n_begin)) for n, task in enumerate(tasks)}
    end = first + len(tasks) * n_begin
    return TaskPrompts(begin, list(range(end, end + n_answer)), int(separator), end + n_answer - 1)


def worded_prompts(
    instructions: Mapping[str, str], prefix: str, suffix: str, separator: bool, words_of: Callable[[str], list[int]]
) -> TaskPrompts:
    """The words of ``prefix`` with the task's instruction in the place of {instruction}, and those of ``suffix``; words are numbered from 1."""

    def ids(text: str) -> list[int]:
        return [int(separator) + word for word in words_of(text)]

    begin = {task: ids(prefix.replace("{instruction}", said)) for task, said in instructions.items()}
    return TaskPrompts(begin, ids(suffix), int(separator), int(separator))
