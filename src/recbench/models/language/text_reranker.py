"""What ``prompted`` and ``llamarec`` share: a reranker that shows titles to a causal language model and reads an order out of it.

How the answer is read (``answer``):

    likelihood   log p(title | prompt), over its tokens the sum or, with ``normalise: length``, the mean
    yes_no       log p(yes) - log p(no), one question a candidate
    letters      log p(letter) among the letters of all candidates, one question for all of them

Where the candidates stand in the prompt (``letters``, or ``list_candidates``), ``order`` says in which order, and the scores are the mean over
``rotations`` of it: with as many rotations as candidates each stands once at every place.

Shapes: B rows, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.data.meetings import FirstMeetings
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.language.frozen_part import trained_names
from recbench.models.reranker import Reranker, RerankerConfig
from recbench.nn.language.backbone import check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.text import item_prompts as say
from recbench.nn.text.shared_beginning import common_length
from recbench.nn.text.text_reader import TextReader

ANSWERS = ("likelihood", "yes_no", "letters")
ORDERS = ("retriever", "shuffled")
NORMALISES = ("length", "none")
YES_NO = ("yes", "no")


@dataclass
class TextRerankerConfig(BackboneConfig, RerankerConfig):
    """Backbone keys, those of every reranker, and how the prompt is made."""

    history: int = 20
    form: str = "sequential"
    noun: str = "item"
    title_words: int = 8
    answer: str = "letters"
    order: str = "retriever"
    rotations: int = 1
    list_candidates: bool = False
    normalise: str = "length"
    text_buckets: int = 4096
    show_ratings: bool = field(
        default=False, metadata=LATER
    )  # what the user gave each item of the history; needs ratings


class TextReranker(Reranker):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    #: Whether weights of the reader are trained.
    learns: ClassVar[bool] = False
    rows_at_once: ClassVar[int | None] = 64

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        # Asked before anything is trained: neither a wrong key nor an absent backbone must cost a retriever first.
        check_text_keys(config)
        check_backbone(config)
        return super().dependencies(config)

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        return cls.requires | ({"ratings"} if config.show_ratings else frozenset())

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        check_text_keys(config)
        self._ratings: np.ndarray | None = None
        if config.show_ratings:
            if context.train is None or context.train.data.ratings is None:
                raise UserError("model.show_ratings=true needs ratings; keep them with data.keep=[ratings]")
            self._ratings, self._met = context.train.data.ratings, FirstMeetings(context.train.data)
        texts = context.item_texts
        if texts is None or not any(text.strip() for text in texts):
            raise UserError(f"no item has a text, which '{config.name}' reads; use data with titles")
        self.titles = self.titles_of(context)
        self.reader = self.built_reader()
        asks_letters = config.answer == "letters" and config.k
        self.letter_ids = self.reader.answers(say.LETTERS[: config.k]) if asks_letters else []
        self.yes_no_ids = self.reader.answers(YES_NO) if config.answer == "yes_no" else []
        self.reader.check_length(
            self.longest_prompt(),
            f"the longest prompt over {config.history} titles and {config.k} candidates; lower model.history, model.title_words or model.k",
        )

    def titles_of(self, context: ModelContext) -> list[str]:
        """[V] what is told of each item."""
        assert context.item_texts is not None
        return [say.short_title(text, self.config.title_words) for text in context.item_texts]

    def built_reader(self) -> TextReader:
        """The language model that reads the prompts."""
        config = self.config
        return TextReader(config, config.text_buckets, self.learns, getattr(config, "dropout", 0.0))

    def longest_prompt(self) -> int:
        """Tokens that no prompt exceeds: those of the wording, and of the longest title wherever a title may stand."""
        config = self.config
        stars = " (rated 99.9)" if config.show_ratings else ""
        longest = max(map(len, self.reader.ids([f" 99. {title}{stars};" for title in self.titles[1:]])))
        wording = " ".join(
            (
                say.history_text(["x", "x"], config.form, config.noun),
                say.listed(["x"], config.noun),
                say.ask_letter(["x"], config.noun),
                say.ask_yes_no("x", config.noun),
            )
        )
        return len(self.reader.start) + len(self.reader.ids([wording])[0]) + (config.history + config.k + 3) * longest

    def own_state(self) -> dict[str, Tensor]:
        state = self.state_dict()
        if not self.reader.frozen:
            return state
        learned = trained_names(self)
        return {name: value for name, value in state.items() if name in learned or not name.startswith("reader.")}

    def rerank(self, batch: Batch, candidates: Tensor) -> Tensor:
        histories = self.histories(batch)
        config, n_rotations = self.config, 1
        if config.answer == "letters" or config.list_candidates:
            n_rotations = min(config.rotations, candidates.shape[1])
        order = self.first_order(batch, candidates)
        turns = [[turn(row, r * len(row) // n_rotations) for r in range(n_rotations)] for row in order]
        # All turns of a row are read together, for they have its history in common; without turns, all rows.
        every = range(len(order))
        total = torch.zeros(candidates.shape, device=candidates.device)
        for rows in [every] if n_rotations == 1 else [[i] for i in every]:
            told = [(i, places) for i in rows for places in turns[i]]
            items = [[int(candidates[i, place]) for place in places] for i, places in told]
            found = getattr(self, f"by_{config.answer}")([histories[i] for i, _ in told], items)
            for (i, places), scores in zip(told, found, strict=True):
                total[i, places] += scores.to(total.dtype) / n_rotations
        return total

    def histories(self, batch: Batch) -> list[list[str]]:
        """The titles of the last items of each history, oldest first, and behind each what the user gave it if that is asked for."""
        rows = zip(batch.items.tolist(), batch.lengths.tolist(), strict=True)
        cut = [slice(max(0, length - self.config.history), length) for length in batch.lengths.tolist()]
        told = [[self.titles[item] for item in row[part]] for (row, _), part in zip(rows, cut, strict=True)]
        if self._ratings is None:
            return told
        place = self._met.positions(batch.user.cpu().numpy(), batch.items.cpu().numpy())
        given = np.where(place >= 0, np.asarray(self._ratings)[place], np.nan).tolist()
        return [
            [
                title if stars != stars else f"{title} (rated {stars:g})"
                for title, stars in zip(titles, row[part], strict=True)
            ]
            for titles, row, part in zip(told, given, cut, strict=True)
        ]

    def first_order(self, batch: Batch, candidates: Tensor) -> list[list[int]]:
        """The places of each row's candidates in the order in which they are told first; shuffled: by a hash of history and item."""
        counts = (candidates > 0).sum(1).tolist()
        if self.config.order == "retriever":
            return [list(range(n)) for n in counts]
        mixed = scattered(candidates + 7919 * batch.items.sum(1, keepdim=True)).masked_fill(candidates == 0, 2**62)
        return [row[:n] for row, n in zip(mixed.argsort(dim=1).tolist(), counts, strict=True)]

    def begin(self, history: Sequence[str], candidates: Sequence[int]) -> str:
        """The prompt up to the question; history: titles."""
        config = self.config
        told = say.history_text(history, config.form, config.noun)
        if config.list_candidates and config.answer != "letters":
            told += say.listed([self.titles[item] for item in candidates], config.noun)
        return self.examples() + told

    def examples(self) -> str:
        """What stands before every prompt."""
        return ""

    def letter_prompts(self, histories: Sequence[Sequence[str]], items: Sequence[Sequence[int]]) -> list[list[int]]:
        """Tokens of the question for a letter, a row each."""
        texts = [
            self.begin(history, row) + say.ask_letter([self.titles[item] for item in row], self.config.noun)
            for history, row in zip(histories, items, strict=True)
        ]
        return [self.reader.start + ids for ids in self.reader.ids(texts)]

    def by_letters(self, histories: list[list[str]], items: list[list[int]]) -> list[Tensor]:
        """Of each row [K]: log p of each candidate's letter among the letters that stand there."""
        states = self.reader.ends(self.letter_prompts(histories, items))
        logs = self.reader.answer_logits(states, self.letter_ids)
        return [row[: len(told)].log_softmax(0) for row, told in zip(logs, items, strict=True)]

    def by_yes_no(self, histories: list[list[str]], items: list[list[int]]) -> list[Tensor]:
        """Of each row [K]: log p(yes) - log p(no)."""

        def asked(history: Sequence[str], row: Sequence[int], titles: list[str]) -> tuple[list[int], list[list[int]]]:
            begin = self.begin(history, row)
            return shared_start(self._ids([begin + say.ask_yes_no(title, self.config.noun) for title in titles]))

        return self._by_title(histories, items, asked, self._yes_minus_no)

    def _yes_minus_no(self, prompts: list[list[int]], tails: list[list[list[int]]]) -> list[Tensor]:
        ends = self.reader.tail_ends(prompts, tails)
        logs = [self.reader.answer_logits(states, self.yes_no_ids) for states in ends]
        return [row[:, 0] - row[:, 1] for row in logs]

    def by_likelihood(self, histories: list[list[str]], items: list[list[int]]) -> list[Tensor]:
        """Of each row [K]: log p of each candidate's title behind the prompt."""

        def asked(history: Sequence[str], row: Sequence[int], titles: list[str]) -> tuple[list[int], list[list[int]]]:
            begin = self.begin(history, row) + say.ask_title(self.config.noun)
            return self.continued(begin, titles)

        return self._by_title(histories, items, asked, self._title_scores)

    def continued(self, begin: str, titles: list[str]) -> tuple[list[int], list[list[int]]]:
        """(tokens of a prompt, tokens of each title behind it), cut where both are as they would be tokenised together."""
        prompt, *whole = self._ids([begin, *(f"{begin} {title}" for title in titles)])
        return shared_start(whole, prompt)

    def _title_scores(self, prompts: list[list[int]], tails: list[list[list[int]]]) -> list[Tensor]:
        sums = self.reader.log_likelihoods(prompts, tails)
        if self.config.normalise == "none":
            return sums
        return [
            row / torch.tensor([len(tail) for tail in some], device=row.device)
            for row, some in zip(sums, tails, strict=True)
        ]

    def _by_title(self, histories: list[list[str]], items: list[list[int]], asked: Any, score: Any) -> list[Tensor]:
        """Scores of titles, each different one asked once, so that items of one title tie exactly."""
        prompts, tails, places = [], [], []
        for history, row in zip(histories, items, strict=True):
            titles = list(dict.fromkeys(self.titles[item] for item in row))
            prompt, own = asked(history, row, titles)
            prompts.append(prompt)
            tails.append(own)
            places.append([titles.index(self.titles[item]) for item in row])
        return [found[place] for found, place in zip(score(prompts, tails), places, strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [self.reader.start + ids for ids in self.reader.ids(texts)]


def shared_start(whole: list[list[int]], prompt: list[int] | None = None) -> tuple[list[int], list[list[int]]]:
    """(tokens that all of ``whole`` begin with, and the prompt too if given; what follows in each, at least one token).

    >>> shared_start([[1, 2, 3], [1, 2, 4, 5]], [1, 2])
    ([1, 2], [[3], [4, 5]])
    """
    same = min(common_length(whole if prompt is None else [*whole, prompt]), min(map(len, whole)) - 1)
    if not same:
        raise UserError("the prompt has no token in common with its continuations; use another tokenizer")
    return whole[0][:same], [ids[same:] for ids in whole]


def turn(row: list[int], by: int) -> list[int]:
    """
    >>> turn([1, 2, 3], 1)
    [2, 3, 1]
    """
    return row[by:] + row[:by]


def scattered(numbers: Tensor) -> Tensor:
    """int64 numbers -> int64 in [0, 2**31), in an order that carries no meaning."""
    mixed = (numbers * 2654435761 + 97) % (1 << 31)
    return ((mixed ^ (mixed >> 13)) * 1540483477) % (1 << 31)


def check_text_keys(config: Any) -> None:
    """Raise UserError for keys of the prompt that make no sense; reads nothing."""
    check_choices(config, {"answer": ANSWERS, "order": ORDERS, "form": say.FORMS, "normalise": NORMALISES})
    check_counts(config, "history", "title_words", "rotations", "text_buckets")
    if config.answer == "letters" and config.k > len(say.LETTERS):
        raise UserError(
            f"model.k={config.k} candidates have no letters; there are {len(say.LETTERS)}: lower model.k, or set model.answer=likelihood"
        )
