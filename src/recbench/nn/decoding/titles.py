"""Titles as codes: word by word, with a token behind the last one, so that a title that begins another can be told from it.

Every title is spelled on as many levels as the longest one has words, and one more:

    red mug            red  mug  <end>  -     -
    red mug of clay    red  mug  of     clay  <end>

So the trie, the beam search and the exact scores of ``nn.decoding`` serve titles as they serve item codes. The codes of a level are the words that
stand there in some title. Behind the end nothing is left to be said: its probability is 1.

Shapes: V = n_items + 1 (row 0 is the pad), T words of a title, M levels, S_l codes of level l, B users, W prefixes, H width, K words that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recbench.nn.decoding.guide import GuideShares
from recbench.nn.decoding.trie import Trie
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.beam_cache import Prefixes, beam_cache, history_of, written_by
from recbench.nn.language.prefix_cache import empty_cache

#: Logits over all words that exist at the same time.
LOGITS = 1 << 24


def title_codes(words: Tensor, end: int) -> tuple[Tensor, list[int], Tensor]:
    """words [V, T] numbered from 1, 0 behind a title, row 0 the pad's -> (codes [V, M], S_l of each level, words of the codes level after level).

    The word of a code is 0 where nothing stands any more. M is that of the longest title.

    >>> codes, sizes, tokens = title_codes(torch.tensor([[0, 0], [5, 7], [5, 0]]), end=9)
    >>> codes.tolist(), sizes, tokens.tolist()
    ([[-1, -1, -1], [0, 0, 1], [0, 1, 0]], [1, 2, 2], [5, 7, 9, 0, 9])
    """
    length = (words > 0).sum(1)
    n_levels = int(length[1:].max()) + 1
    spelled = torch.nn.functional.pad(words, (0, 1))[:, :n_levels].clone()
    row = torch.arange(1, len(words))
    spelled[row, length[1:]] = end
    codes = torch.full(spelled.shape, -1, dtype=torch.int64)
    tokens = []
    for level in range(n_levels):
        there, codes[1:, level] = spelled[1:, level].unique(return_inverse=True)
        tokens.append(there)
    return codes, [len(there) for there in tokens], torch.cat(tokens)


@dataclass(frozen=True)
class Speller:
    """What titles are spelled with. read: the language model · embed: words [...], numbered from 1, -> vectors [..., H] · logits: states [N, H] ->
    [N, K] · tokens: of each level the words of its codes [S_l] · end: the word behind a title · renormalise: over what the trie allows."""

    backbone: Backbone
    embed: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    trie: Trie
    tokens: Sequence[Tensor]
    end: int
    renormalise: bool = False


class State(NamedTuple):
    """Of prefixes: how many codes they have, their keys and values, their nodes in the trie [B, W]."""

    level: int
    prefixes: Prefixes
    node: Tensor


class TitleHistory:
    """A ``decoding.codes.CodeModel`` over titles. The state at the last token of a history predicts the first word of the next title.

    vectors [B, M', H] of the histories' tokens · n_real [B]: how many are real. With a guide the log-probability of a code is ``alpha`` times the
    language model's plus 1 - alpha times that of the guide (D3): the share that the items behind the code have of those behind the prefix.
    """

    def __init__(
        self,
        speller: Speller,
        vectors: Tensor,
        n_real: Tensor,
        guide: GuideShares | None = None,
        alpha: float = 1.0,
    ) -> None:
        self.speller, self.n_real, self.guide, self.alpha = speller, n_real, guide, alpha
        cache = empty_cache()
        states = speller.backbone.read(vectors, cache)
        self.layers = history_of(cache)
        self.real = torch.arange(vectors.shape[1], device=vectors.device) < n_real[:, None]
        self.last = states[torch.arange(len(vectors), device=vectors.device), n_real - 1]

    def first(self) -> tuple[Tensor, State]:
        device, b = self.last.device, len(self.last)
        prefixes = Prefixes([], torch.empty(b, 1, 0, dtype=torch.bool, device=device))
        state = State(0, prefixes, torch.zeros(b, 1, dtype=torch.int64, device=device))
        ended = torch.zeros(b, 1, dtype=torch.bool, device=device)
        return self._log_probs(self.last[:, None], state, ended), state

    def next(self, state: State, parent: Tensor, code: Tensor) -> tuple[Tensor, State]:
        word = self.speller.tokens[state.level][code]
        node = self.speller.trie.child(state.level, state.node.gather(1, parent), code)
        states, prefixes = self._extended(state, parent, word)
        new = State(state.level + 1, prefixes, node)
        return self._log_probs(states, new, (word == 0) | (word == self.speller.end)), new

    def _extended(self, state: State, parent: Tensor, word: Tensor) -> tuple[Tensor, Prefixes]:
        """(states [B, W, H] at the words that stand behind the prefixes, what the search has extended since)."""
        visible = state.prefixes.extended(parent)
        mask = torch.cat([self.real[:, None].expand(-1, parent.shape[1], -1), visible], dim=2)
        positions = (self.n_real + state.level)[:, None].expand_as(parent)
        cache = beam_cache(self.layers, state.prefixes)
        vectors = self.speller.embed(word.clamp(min=1))
        return self.speller.backbone.read(vectors, cache, mask, positions), Prefixes(written_by(cache), visible)

    def _log_probs(self, states: Tensor, state: State, ended: Tensor) -> Tensor:
        """[B, W, S_l]: of the codes of the level."""
        tokens = self.speller.tokens[state.level]
        found = word_logs(self.speller.logits, states.flatten(0, 1), tokens.clamp(min=1) - 1).unflatten(
            0, states.shape[:2]
        )
        nothing = tokens == 0
        found = found.masked_fill(nothing | ended[..., None], -torch.inf)
        found = found.masked_fill(nothing & ended[..., None], 0.0)
        if self.speller.renormalise:
            allowed = children_of(self.speller.trie, state.level, state.node, len(tokens)) >= 0
            found = found.masked_fill(~allowed, -torch.inf).log_softmax(-1)
        if self.guide is None or self.alpha == 1.0:
            return found
        share = self.guide.log_shares(state.level, state.node, len(tokens))
        return share if self.alpha == 0.0 else self.alpha * found + (1.0 - self.alpha) * share

    def free_title(self, most: int) -> Tensor:
        """[B, most]: the likeliest word after the likeliest word, whatever the catalogue holds; 0 from the end of each title on."""
        _, state = self.first()
        states, words = self.last[:, None], []
        ended = torch.zeros_like(self.n_real, dtype=torch.bool)
        here = torch.zeros(len(self.last), 1, dtype=torch.int64, device=self.last.device)
        for _ in range(most):
            word = best_word(self.speller.logits, states[:, 0]) + 1
            ended = ended | (word == self.speller.end)
            words.append(torch.where(ended, 0, word))
            states, prefixes = self._extended(state, here, words[-1][:, None])
            state = State(state.level + 1, prefixes, here)
        return torch.stack(words, 1)


def children_of(trie: Trie, depth: int, node: Tensor, size: int) -> Tensor:
    """node [B, W] at ``depth`` -> [B, W, S_l]: the child by its code, -1 where there is none."""
    child, code = trie.children(depth, node.clamp(min=0))
    if code is None:
        return child
    # Those that are none fall on a column of their own.
    place = torch.where(child >= 0, code, size)
    return child.new_full((*node.shape, size + 1), -1).scatter(-1, place, child)[..., :size]


def word_logs(logits: Callable[[Tensor], Tensor], states: Tensor, rows: Tensor) -> Tensor:
    """states [N, H], rows [S] of words -> [N, S] log p of each word, among all words."""
    parts = []
    for some in in_blocks(logits, states):
        every = logits(some)
        parts.append(every[:, rows] - every.logsumexp(1, keepdim=True))
    return torch.cat(parts)


def best_word(logits: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """states [N, H] -> [N] the row of the likeliest word."""
    return torch.cat([logits(some).argmax(1) for some in in_blocks(logits, states)])


def in_blocks(logits: Callable[[Tensor], Tensor], states: Tensor) -> Sequence[Tensor]:
    """The states in pieces whose logits over all words stay few."""
    with torch.no_grad():
        n_words = logits(states[:1]).shape[1]
    return states.split(max(1, LOGITS // n_words))
