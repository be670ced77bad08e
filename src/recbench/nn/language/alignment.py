"""Questions and answers that tie the codes of items to their texts: the alignment tasks of LC-Rec [Zheng et al., ICDE 2024, section III-C].

An example belongs to a target of the training events: the events before it in its window, and itself. What is asked comes in forms:

    item2index        text of the target -> its codes
    index2item        codes of the target -> its text
    fusionseqrec      codes of the history -> title of the target · the same -> text of the target · titles of the history -> codes of the target
    itemsearch        codes of the history and a query -> codes of the target
    preferenceobtain  codes of the history -> what the user likes

Nothing but ids goes in: 0 stands for nothing, then come special tokens, words, codes; ``packed`` moves the zeros of a row behind its end.

Shapes: V = n_items + 1, N examples, L events of a history, P tokens of an item (codes, perhaps a separator), S levels, T words of a text,
Q and R tokens of a question and an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.nn.text.real_first import real_first


@dataclass(frozen=True)
class Drawn:
    """history [N, L] int64: the items before the target, 0 behind the last one · target [N] int64."""

    history: Tensor
    target: Tensor


@dataclass(frozen=True)
class ItemTokens:
    """Items as ids of tokens, row 0 all 0.

    codes [V, P] · words [V, T] · rarity [n] float32 by id: how much a word tells of a user who likes items with it; 0 of what is no word.
    """

    codes: Tensor
    words: Tensor
    rarity: Tensor
    n_levels: int
    title_words: int
    query_words: int

    def to(self, device: torch.device) -> ItemTokens:
        """The same on a device; itself if it is there."""
        if self.codes.device == device:
            return self
        return replace(self, codes=self.codes.to(device), words=self.words.to(device), rarity=self.rarity.to(device))


@dataclass(frozen=True)
class Example:
    """question [N, Q], answer [N, R] · text: the part of them that is of texts; without any the example is none."""

    question: Tensor
    answer: Tensor
    text: Tensor


@dataclass(frozen=True)
class Form:
    """One way to ask: the task it belongs to, the instruction in words, and how its examples are made."""

    task: str
    instruction: str
    make: Callable[[ItemTokens, Drawn], Example]


def drawn(batch: Batch, share: float) -> Drawn:
    """This share of a training batch's targets, each by its own lot, with the events of the window before them."""
    assert batch.targets is not None
    row, last = batch.mask.nonzero(as_tuple=True)
    lot = torch.rand(len(row), device=row.device) < share
    row, last = row[lot], last[lot]
    before = torch.arange(batch.items.shape[1], device=row.device) <= last[:, None]
    return Drawn(batch.items[row] * before, batch.targets[row, last])


def _text_to_codes(items: ItemTokens, drawn: Drawn) -> Example:
    text = items.words[drawn.target]
    return Example(text, _answer_codes(items, drawn), text)


def _codes_to_text(items: ItemTokens, drawn: Drawn) -> Example:
    text = items.words[drawn.target]
    return Example(items.codes[drawn.target], text, text)


def _codes_to_next_title(items: ItemTokens, drawn: Drawn) -> Example:
    title = items.words[drawn.target, : items.title_words]
    return Example(_history_codes(items, drawn), title, title)


def _codes_to_next_text(items: ItemTokens, drawn: Drawn) -> Example:
    text = items.words[drawn.target]
    return Example(_history_codes(items, drawn), text, text)


def _titles_to_next_codes(items: ItemTokens, drawn: Drawn) -> Example:
    titles = items.words[drawn.history, : items.title_words].flatten(1)
    return Example(titles, _answer_codes(items, drawn), titles)


def _query_to_codes(items: ItemTokens, drawn: Drawn) -> Example:
    query = some_words(items.words[drawn.target], items.query_words)
    return Example(torch.cat([_history_codes(items, drawn), query], 1), _answer_codes(items, drawn), query)


def _codes_to_preference(items: ItemTokens, drawn: Drawn) -> Example:
    words = telling_words(items.words[drawn.history].flatten(1), items.rarity, items.words.shape[1])
    return Example(_history_codes(items, drawn), words, words)


def _history_codes(items: ItemTokens, drawn: Drawn) -> Tensor:
    return items.codes[drawn.history].flatten(1)


def _answer_codes(items: ItemTokens, drawn: Drawn) -> Tensor:
    return items.codes[drawn.target, : items.n_levels]


FORMS = {
    "item2index": Form("item2index", "Name the item that this text describes by its codes.", _text_to_codes),
    "index2item": Form("index2item", "Describe the item that has these codes.", _codes_to_text),
    "next_title": Form("fusionseqrec", "Give the title of the item that follows these items.", _codes_to_next_title),
    "next_text": Form("fusionseqrec", "Describe the item that follows these items.", _codes_to_next_text),
    "after_titles": Form(
        "fusionseqrec", "Name the item that follows the items of these titles by its codes.", _titles_to_next_codes
    ),
    "itemsearch": Form(
        "itemsearch", "After these items a user searches with these words; name the item by its codes.", _query_to_codes
    ),
    "preferenceobtain": Form(
        "preferenceobtain", "Say in words what the user who chose these items likes.", _codes_to_preference
    ),
}
TASKS = tuple(dict.fromkeys(form.task for form in FORMS.values()))


def tasks_of(config: Any) -> tuple[str, ...]:
    """The tasks to which a model config gives a weight."""
    return tuple(task for task in TASKS if getattr(config, task))


def check_tasks(config: Any) -> None:
    """Raise UserError for a weight of a task below 0, or a share of the targets outside (0, 1]."""
    for task in TASKS:
        if getattr(config, task) < 0:
            raise UserError(f"model.{task} must be at least 0, not {getattr(config, task):g}")
    if not 0 < config.alignment_share <= 1:
        raise UserError(
            f"model.alignment_share must lie above 0 and at most 1, not {config.alignment_share:g}; a task of weight 0 is off"
        )


def some_words(words: Tensor, n: int) -> Tensor:
    """words [N, T] -> [N, n]: as many of each row, drawn without repetition and in their order; 0 where it has fewer."""
    chance = torch.rand(words.shape, device=words.device).masked_fill(words == 0, -1.0)
    place = chance.topk(min(n, words.shape[1]), dim=1).indices.sort(dim=1).values
    return words.gather(1, place)


def telling_words(words: Tensor, rarity: Tensor, n: int) -> Tensor:
    """words [N, W] -> [N, n]: the different ones whose number times rarity is largest, best first; 0 where fewer tell anything."""
    weight = torch.zeros(len(words), len(rarity), device=words.device).scatter_add_(1, words, rarity[words])
    best = weight.topk(min(n, len(rarity)), dim=1)
    return torch.where(best.values > 0, best.indices, 0)


def word_rarity(words: Tensor, seen: Tensor, n: int) -> Tensor:
    """[n] float32 by id: log((1 + items) / (1 + items with the word)), of the items ``seen`` [V] in training alone; 0 of words in none.

    words [V, T] ids.
    """
    known = words[seen]
    item = torch.arange(len(known)).repeat_interleave(words.shape[1])
    pairs = torch.stack([item, known.flatten()], 1).unique(dim=0)
    count = torch.bincount(pairs[:, 1], minlength=n).float()
    rarity = torch.log((1 + len(known)) / (1 + count))
    rarity[(count == 0) | (torch.arange(n) == 0)] = 0.0
    return rarity


def packed(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Parts [N, .] side by side, the zeros of each row moved behind its end -> (ids [N, M], which of them are of the last part [N, M]).

    >>> ids, last = packed([torch.tensor([[5, 0], [6, 7]]), torch.tensor([[8], [9]])])
    >>> ids.tolist(), last.tolist()
    ([[5, 8, 0], [6, 7, 9]], [[False, True, False], [False, False, True]])
    """
    ids = torch.cat(parts, 1)
    of_last = torch.arange(ids.shape[1], device=ids.device) >= ids.shape[1] - parts[-1].shape[1]
    return real_first(ids, of_last & (ids > 0))


def sequences(example: Example, instruction: list[int], behind: list[int]) -> tuple[Tensor, Tensor]:
    """(ids [N', M], which of them are the answer's [N', M]): instruction, question, what stands behind it, answer; of examples with a text."""
    worth = (example.text > 0).any(1)
    question, answer = example.question[worth], example.answer[worth]
    begin, then = (question.new_tensor(ids).expand(len(question), -1) for ids in (instruction, behind))
    return packed([begin, question, then, answer])
