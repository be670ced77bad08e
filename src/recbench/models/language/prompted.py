"""Prompted: a language model as it is, asked in words which of a retriever's items comes next [Hou et al., ECIR 2024, LLMRank; arXiv 2304.10149].

What is different about this model: nothing is trained. The history is told as titles, and the model's own probabilities order the K items that a
retriever found (``text_reranker`` says how they are read). Without examples it is asked zero-shot; ``shots`` examples of training users
with their answers may stand before every prompt.

    likelihood   s_i = (1 / |y_i|^p) sum_t log p(y_t | prompt, y_<t),  y_i the title of item i, p 1 with normalise=length and 0 with none
                 calibrate: less the same without any history, which takes away how likely the title is by itself
    yes_no       s_i = log p(yes | prompt, title i) - log p(no | ...)
    letters      s_i = log p(letter of i | prompt, all titles), mean over ``rotations`` of the list

Glossary (LLMRank -> here): sequential, recency-focused and in-context prompts -> ``form``; candidates -> ``k``; bootstrapping -> ``rotations``;
popularity and SASRec on the same candidates -> the figures popularity_order_* and retriever_order_*.

Deviations, and why:
- LLMRank asks an API for a list in free text, and asks again until the target's title is found in the answer; what it cannot parse stands last. Here
  nothing is generated or parsed, and the target is known nowhere: probabilities are read, so every item has a score.
- Its candidates hold the target always (1 and 19 drawn ones). Here they are the best K of a retriever under full ranking; under
  protocol=sampled_999 (protocol.n_candidates=19 model.k=20) they are those.
- Rotations in place of random shuffles: each item stands at each place equally often.
- Prompts are in our own words, with one word for the items (``noun``), where the released one says movies for games too.
- API models change or vanish; only local models are read, from a folder or by name.
- ``tiny`` has random weights and knows nothing: it is for trying things out. Any order of the K can come out of it.

Shapes: V = n_items + 1, S examples, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.language.text_reranker import TextReranker, TextRerankerConfig
from recbench.models.registry import register
from recbench.nn.text import item_prompts as say

#: Titles whose probability without a history is asked for at once.
TITLES_AT_ONCE = 64


@dataclass
class PromptedConfig(TextRerankerConfig):
    """The keys of every reranker over texts, and examples."""

    name: str = "prompted"
    answer: str = "likelihood"
    shots: int = 0
    calibrate: bool = False


@register("prompted", PromptedConfig)
class Prompted(TextReranker, ClosedForm):
    """See the head of this file."""

    uses_seed = True
    #: [S, history] int64 items, 0 in front where there are fewer · [S, K] int64, of which one is the answer · [S] int64 its place.
    shot_history: Tensor
    shot_candidates: Tensor
    shot_answer: Tensor
    #: [V]: score of each title without a history.
    title_prior: Tensor

    @classmethod
    def dependencies(cls, config: PromptedConfig) -> dict[str, dict[str, Any]]:
        if config.shots < 0:
            raise UserError(f"model.shots must be at least 0, not {config.shots}")
        if config.shots and config.show_ratings:
            raise UserError("examples are told without ratings; set model.shots=0, or model.show_ratings=false")
        if config.calibrate and config.answer != "likelihood":
            raise UserError("model.calibrate is about the likelihood of titles; set model.answer=likelihood")
        return super().dependencies(config)

    def __init__(self, config: PromptedConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.requires_grad_(False)
        # A named model is read again from where it came from; a drawn one is a part of the run.
        self.reader.frozen = config.backbone != "tiny" and config.init != "random"
        n_candidates = max(config.k, 1)
        for name, shape in (("history", (config.history,)), ("candidates", (n_candidates,)), ("answer", ())):
            self.register_buffer(f"shot_{name}", torch.zeros(config.shots, *shape, dtype=torch.int64))
        self.register_buffer("title_prior", torch.zeros(context.n_items + 1))
        self._examples: str | None = None
        self._shot_seed = context.seed

    def longest_prompt(self) -> int:
        return super().longest_prompt() * (1 + self.config.shots)

    def fit_to(self, train: TrainingData) -> None:
        """Draw the examples among the training users, and ask for the titles' own probabilities if they are wanted."""
        self._examples = None
        if self.config.shots:
            self._draw_examples(train)
        if self.config.calibrate:
            with torch.no_grad():
                self.title_prior[1:] = self._priors()

    def _draw_examples(self, train: TrainingData) -> None:
        generator = np.random.default_rng(self._shot_seed)
        users = np.flatnonzero(train.end - train.start >= 2)
        if not len(users):
            raise UserError("no user has two training events, so there is no example; set model.shots=0")
        for shot, user in enumerate(generator.choice(users, self.config.shots, replace=len(users) < self.config.shots)):
            events = np.asarray(train.data.items[train.start[user] : train.end[user]], dtype=np.int64)
            last = int(generator.integers(1, len(events)))
            history, target = events[max(0, last - self.config.history) : last], int(events[last])
            others = np.setdiff1d(np.arange(1, self.n_items + 1), [*events, target])
            n_others = min(self.shot_candidates.shape[1] - 1, len(others))
            chosen = np.append(generator.choice(others, n_others, replace=False), target)
            generator.shuffle(chosen)
            self.shot_history[shot, -len(history) :] = torch.from_numpy(history)
            self.shot_candidates[shot, : len(chosen)] = torch.from_numpy(chosen)
            self.shot_answer[shot] = int(np.flatnonzero(chosen == target)[0])

    def examples(self) -> str:
        if self._examples is None:
            self._examples = ""  # an example has none before it
            self._examples = "".join(self._example(shot) for shot in range(self.config.shots))
        return self._examples

    def _example(self, shot: int) -> str:
        config, noun = self.config, self.config.noun
        history = [self.titles[item] for item in self.shot_history[shot].tolist() if item]
        candidates = [item for item in self.shot_candidates[shot].tolist() if item]
        place = int(self.shot_answer[shot])
        begin = super().begin(history, candidates)
        if config.answer == "letters":
            asked = say.ask_letter([self.titles[item] for item in candidates], noun)
            return f"{begin}{asked} {say.LETTERS[place]}\n\n"
        if config.answer == "likelihood":
            return f"{begin}{say.ask_title(noun)} {self.titles[candidates[place]]}\n\n"
        # Every other one is a wrong item, so that neither answer is the usual one.
        right = shot % 2 == 0 or len(candidates) < 2
        item = candidates[place if right else (place + 1) % len(candidates)]
        return f"{begin}{say.ask_yes_no(self.titles[item], noun)} {'yes' if right else 'no'}\n\n"

    def _priors(self) -> Tensor:
        """[n_items]: the score of each title behind the question alone."""
        question = say.ask_title(self.config.noun).strip()
        parts = []
        for first in range(1, self.n_items + 1, TITLES_AT_ONCE):
            asked = [self.continued(question, [title]) for title in self.titles[first : first + TITLES_AT_ONCE]]
            parts += self._title_scores([prompt for prompt, _ in asked], [tails for _, tails in asked])
        return torch.cat(parts)

    def by_likelihood(self, histories: list[list[str]], items: list[list[int]]) -> list[Tensor]:
        found = super().by_likelihood(histories, items)
        if not self.config.calibrate:
            return found
        return [row - self.title_prior[some] for row, some in zip(found, items, strict=True)]

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self._examples = None
        super().load_stored_state(state)
