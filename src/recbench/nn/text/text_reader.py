"""A causal language model that reads prompts: the states at their ends, and how probable each of several continuations is.

Continuations of one prompt share it without a cache: they stand one after another behind it in one row (``tails``). What all prompts begin
with, as examples, is read once where nothing is learned (``shared_beginning``).

Shapes: B prompts, A tokens that all of them begin with, P tokens of the longest behind these, K tails of a prompt, S tokens of all of these, at
most, H width. Token ids count from 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from recbench.core.errors import UserError, first_line
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import check_decoder
from recbench.nn.language.last_position import read_at
from recbench.nn.language.pretrained import read_tokenizer
from recbench.nn.text.item_text import words_of
from recbench.nn.text.length_buckets import CPU_TOKENS
from recbench.nn.text.shared_beginning import SharedBeginning, common_length
from recbench.nn.text.tails import Tails, who_sees_whom
from recbench.nn.text.word_table import WordTable
from recbench.nn.transformer.dropout import Dropout

#: Rows times the square of their tokens that are read at once: bounds masks and attention.
CELLS = 1 << 23
#: Tokens that prompts must have in common to be read once; for fewer, a mask in every pass costs more than they do.
WORTH_SHARING = 32
#: Logits over the vocabulary that exist at the same time.
LOGITS = 1 << 24


class TextReader(nn.Module):
    """``tiny`` reads words by hash and has a learned vector for each bucket; any other backbone reads the tokens of its tokenizer.

    learns: whether adapters are wanted in a named backbone, or all of a drawn one is to be trained. kind: of the backbone.
    Raises UserError for a backbone that is no
    causal decoder, or that has no tokenizer.
    """

    def __init__(
        self,
        config: BackboneConfig,
        n_buckets: int,
        learns: bool,
        dropout: float = 0.0,
        kind: type[Backbone] = Backbone,
    ) -> None:
        super().__init__()
        if config.prompt != "none":
            raise UserError("this model writes its own prompts: set model.prompt=none, and choose one with model.form")
        self.name, self.n_buckets = config.backbone, n_buckets
        self.tiny = config.backbone == "tiny"
        self.tokenizer: Any = None
        if not self.tiny:
            check_decoder(config.backbone, config.n_layers)
            self.tokenizer = tokenizer_of(config.backbone)
        self.backbone = kind(replace(config, prompt="none"), 1, keep_tokens=True)
        if self.backbone.frozen and not learns:
            self.backbone.model = self.backbone.model.unload()  # without adapters that nothing trains
        self.words = WordTable(config, self.backbone, n_buckets)
        if self.tiny:
            self._draw()
        self.dropout = Dropout(dropout)
        #: Whether the backbone's weights are those that it was read with, so that no checkpoint needs them.
        self.frozen = self.backbone.frozen

    @torch.no_grad()
    def _draw(self) -> None:
        """Larger weights than large models start with: at their 0.02 one so narrow attends to everything alike, and hardly learns not to."""
        for parameter in self.backbone.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        nn.init.normal_(self.words.table.weight, std=0.2)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text."""
        if self.tiny:
            return [[zlib.crc32(word.encode()) % self.n_buckets for word in words_of(text)] for text in texts]
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []

    @property
    def start(self) -> list[int]:
        """What the tokenizer puts before every text."""
        first = None if self.tiny else self.tokenizer.bos_token_id
        return [first] if first is not None and first in self.tokenizer("")["input_ids"] else []

    def answers(self, words: Sequence[str]) -> list[int]:
        """The one token of each answer word behind a blank. Raises UserError if a word has several, or two words the same."""
        found = self.ids([f" {word}" for word in words])
        several = [word for word, ids in zip(words, found, strict=True) if len(ids) != 1]
        if several:
            raise UserError(
                f"the tokenizer of '{self.name}' has not one token for the answer '{several[0]}', so its first one says too little; "
                "set model.answer=likelihood"
            )
        single = [ids[0] for ids in found]
        if len(set(single)) < len(single):
            advice = "change model.text_buckets" if self.tiny else "set model.answer=likelihood"
            raise UserError(f"two of the answers {', '.join(words)} are one token of '{self.name}'; {advice}")
        return single

    def check_length(self, n_tokens: int, what: str) -> None:
        """Raise UserError unless the backbone reads so many tokens; ``what`` says what they are and which keys make them fewer."""
        model = self.backbone.model
        config = (model.get_base_model() if hasattr(model, "get_base_model") else model).config
        limits = [getattr(config, key, None) for key in ("max_position_embeddings", "sliding_window")]
        reads = min((limit for limit in limits if limit), default=n_tokens)
        if not self.tiny and reads < n_tokens:
            raise UserError(f"the backbone '{self.name}' reads {reads} tokens, fewer than the {n_tokens} of {what}")

    def ends(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """[B, H]: the state at the end of each prompt."""
        out: dict[int, Tensor] = {}
        before = self._read_once(prompts)
        rests = [prompt[before.length :] for prompt in prompts]
        for chosen in self._blocks([len(rest) for rest in rests]):
            ids, length = self._padded([rests[i] for i in chosen])
            with read_at(self.backbone.one_position, length - 1, ids.shape[1], learning=True):
                states = self.backbone.read(self._vectors(ids), *before.for_plain(*ids.shape))
            out.update(zip(chosen, states[torch.arange(len(chosen)), length - 1], strict=True))
        return torch.stack([out[i] for i in range(len(prompts))])

    def written(self, prompts: Sequence[Sequence[int]], n_tokens: int) -> list[list[int]]:
        """The likeliest tokens behind each prompt, one after another: so many, or up to the tokenizer's end of a text."""
        end = None if self.tiny else self.tokenizer.eos_token_id
        out: list[list[int]] = [[] for _ in prompts]
        for chosen in self._blocks([len(prompt) + n_tokens for prompt in prompts]):
            texts, open_rows = GrowingTexts(self, [prompts[i] for i in chosen]), set(chosen)
            for step in range(n_tokens):
                token = torch.cat([self.words.logits(some).argmax(-1) for some in self._pieces(texts.states)])
                likeliest = dict(zip(chosen, token.tolist(), strict=True))
                open_rows -= {i for i in open_rows if likeliest[i] == end}
                for i in open_rows:
                    out[i].append(likeliest[i])
                if not open_rows or step + 1 == n_tokens:
                    break
                texts.add(token)
        return out

    def answer_logits(self, states: Tensor, answers: Sequence[int]) -> Tensor:
        """states [..., H] -> log-probabilities of the answers among themselves [..., n]."""
        logits = self.words.logits(states.flatten(0, -2))[:, list(answers)]
        return logits.log_softmax(-1).unflatten(0, states.shape[:-1])

    def tail_ends(self, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]) -> list[Tensor]:
        """Of each prompt [K, H]: the states at the ends of its tails."""
        found: dict[int, Tensor] = {}
        for chosen, packed, _, states in self._behind(prompts, tails):
            found.update((i, states[row, packed.last[row]]) for row, i in enumerate(chosen))
        return [found[i] for i in range(len(prompts))]

    def log_likelihoods(
        self, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]
    ) -> list[Tensor]:
        """Of each prompt [K]: the sum over the tokens of a tail of log p(token | prompt, tail before it), in float32."""
        found: dict[int, Tensor] = {}
        for chosen, packed, ends, states in self._behind(prompts, tails):
            # A tail's first token is read behind the prompt, every other one behind the one before it.
            before = torch.where((packed.step == 0)[..., None], ends[:, None], states.roll(1, dims=1))
            logs = self._token_logs(before[packed.real], packed.ids[packed.real])
            for i, own, places in zip(chosen, logs.split(packed.real.sum(1).tolist()), packed.tail, strict=True):
                found[i] = own.new_zeros(len(tails[i])).index_add(0, places[places >= 0], own)
        return [found[i] for i in range(len(prompts))]

    def _token_logs(self, states: Tensor, ids: Tensor) -> Tensor:
        """states [n, H], ids [n] -> log p(id) [n], a part of the logits at a time."""
        parts = []
        for some, wanted in zip(self._pieces(states), self._pieces(ids), strict=True):
            logits = self.words.logits(some)
            parts.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(1))
        return torch.cat(parts) if parts else states.new_zeros(0)

    def _behind(
        self, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]
    ) -> Iterator[tuple[list[int], Tails, Tensor, Tensor]]:
        """(rows, their tails, states at the prompts' ends [B, H], states of the tails [B, S, H]) of each block."""
        before = self._read_once(prompts)
        rests = [prompt[before.length :] for prompt in prompts]
        sizes = [len(rest) + sum(map(len, some)) for rest, some in zip(rests, tails, strict=True)]
        for chosen in self._blocks(sizes):
            ids, length = self._padded([rests[i] for i in chosen])
            packed = Tails.of([tails[i] for i in chosen], ids.device)
            mask, positions = who_sees_whom(length, ids.shape[1], packed)
            vectors = self._vectors(torch.cat([ids, packed.ids], 1))
            states = self.backbone.read(vectors, *before.for_masked(mask, positions))
            yield chosen, packed, states[torch.arange(len(chosen)), length - 1], states[:, ids.shape[1] :]

    def _read_once(self, prompts: Sequence[Sequence[int]]) -> SharedBeginning:
        """What all prompts begin with, if that is worth it and nothing is learned: a gradient would need it again in every row."""
        n = 0
        if len(prompts) > 1 and not self.training and not torch.is_grad_enabled():
            n = min(common_length(prompts), min(map(len, prompts)) - 1)  # at least one of each is left
        if n < WORTH_SHARING:
            return SharedBeginning(0, None)
        from recbench.nn.language.prefix_cache import cache_of

        return SharedBeginning(n, cache_of(self.backbone.read, self._vectors(self._padded([prompts[0][:n]])[0])))

    def _blocks(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        return blocks(sizes, CPU_TOKENS if self.words.inputs().device.type == "cpu" and not self.training else None)

    def _pieces(self, rows: Tensor) -> Sequence[Tensor]:
        """Rows [n, ...] in pieces whose logits over all words stay few."""
        return rows.split(max(1, LOGITS // len(self.words.inputs())))

    def _vectors(self, ids: Tensor) -> Tensor:
        return self.dropout(F.embedding(ids, self.words.inputs()).float())

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        device = self.words.inputs().device
        filled = pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)
        return filled.to(device), torch.tensor([len(row) for row in rows], device=device)


class GrowingTexts:
    """Prompts that go on, a token at a time. Keys and values are kept, so a token costs one position.

    states [B, H]: at the ends of the texts so far.
    """

    def __init__(self, reader: TextReader, prompts: Sequence[Sequence[int]]) -> None:
        from recbench.nn.language.prefix_cache import empty_cache

        self._reader, self._cache = reader, empty_cache()
        ids, self._length = reader._padded(prompts)
        self._seen = torch.arange(ids.shape[1], device=ids.device) < self._length[:, None]
        states = reader.backbone.read(reader._vectors(ids), self._cache)
        self.states = states[torch.arange(len(ids)), self._length - 1]

    def add(self, tokens: Tensor) -> None:
        """tokens [B]: the next one of each text."""
        self._seen = F.pad(self._seen, (0, 1), value=True)
        vectors, places = self._reader._vectors(tokens[:, None]), self._length[:, None]
        self.states = self._reader.backbone.read(vectors, self._cache, self._seen[:, None], places)[:, 0]
        self._length = self._length + 1


def blocks(sizes: Sequence[int], most: int | None = None) -> Iterator[list[int]]:
    """Rows that are read at once, those of like size together, so that little is padded. most: tokens of them together, where a row is shorter."""
    block: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        tokens = (len(block) + 1) * sizes[i]
        if block and (tokens * sizes[i] > CELLS or (most is not None and tokens > most)):
            yield block
            block = []
        block.append(i)
    if block:
        yield block


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a named backbone. Raises UserError if it cannot be had or knows nothing but special tokens."""
    advice = f"prompts need the tokenizer of '{name}': put its files beside config.json, or set model.backbone=tiny"
    try:
        tokenizer = read_tokenizer(name)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{advice} ({first_line(error)})") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(advice)
    return tokenizer
