"""A causal language model goes on behind prompts: greedily, or by drawing, as the caller says and never as the model's own files do.

Prompts of as many tokens are read together, so nothing is padded; keys and values are kept, so a token costs one position.

Shapes: B prompts, P tokens of each, K words of the vocabulary, H width.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.nn.language.backbone import check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.text.item_text import words_of
from recbench.nn.text.text_reader import GrowingTexts, TextReader

#: Words that ``tiny`` knows.
BUCKETS = 4096
#: The weights of ``tiny`` are drawn from it, so that they are the same in every process.
TINY_SEED = 0


@dataclass(frozen=True)
class Decoding:
    """How a text is written. tokens: at most so many. temperature: 0 takes the likeliest token, and more draws it from the likeliest ones that
    have ``top_p`` of the probability together. seed: of what is drawn."""

    tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Raises UserError for values that cannot be."""
        if self.tokens < 1:
            raise UserError(f"--tokens must be at least 1, not {self.tokens}")
        if not 0.0 <= self.temperature < float("inf"):
            raise UserError(f"--temperature must be at least 0, not {self.temperature:g}")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top-p must be above 0 and at most 1, not {self.top_p:g}")

    def decisive(self) -> dict[str, Any]:
        """What of it decides a text: nothing is drawn at temperature 0."""
        return asdict(self) if self.temperature else {"tokens": self.tokens, "temperature": 0.0}


class Writer:
    """A language model that is asked for what follows.

    vocabulary: texts whose words ``tiny`` may say; it has no tokenizer, and its weights are random. Raises UserError for a backbone that is no causal
    decoder, or has no tokenizer.
    """

    def __init__(
        self, config: BackboneConfig, vocabulary: Iterable[str] = (), device: torch.device | str = "cpu"
    ) -> None:
        check_backbone(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(TINY_SEED)
            reader = TextReader(config, BUCKETS, learns=False)
        self.reader = reader.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        self._words: dict[int, str] = {}
        if self.reader.tiny:
            said = sorted({word for text in vocabulary for word in words_of(text)})
            self._words = {zlib.crc32(word.encode()) % BUCKETS: word for word in said}

    def ids(self, prompts: Sequence[str], chat: bool = False) -> list[list[int]]:
        """The tokens of each prompt, with what the tokenizer puts before every text. chat: as a message that is to be answered, in the form that the
        tokenizer has for it. Raises UserError where it has none."""
        if not chat:
            return [self.reader.start + ids for ids in self.reader.ids(prompts)]
        tokenizer = self.reader.tokenizer
        if getattr(tokenizer, "chat_template", None) is None:
            raise UserError(f"'{self.reader.name}' has no chat template, so it answers no messages; leave out --chat")
        said = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts
        ]
        return self.reader.ids(said)

    def text(self, ids: Sequence[int]) -> str:
        """The words of tokens, in one line."""
        if self.reader.tiny:
            return " ".join(self._words.get(token, f"word{token}") for token in ids)
        return " ".join(self.reader.tokenizer.decode(list(ids), skip_special_tokens=True).split())

    @torch.no_grad()
    def continued(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        """What follows each prompt, up to the tokenizer's end of a text, which is left out. All prompts have P tokens. seeds [B]: of what is drawn
        for each; None: ``decoding.seed`` and the row's number.

        Raises UserError where the model gives NaN or infinity.
        """
        if len({len(prompt) for prompt in prompts}) > 1:
            raise ValueError("prompts that are read together must have the same number of tokens")
        end = None if self.reader.tiny else self.reader.tokenizer.eos_token_id
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds or self._numbered(decoding.seed, len(prompts))]
        out: list[list[int]] = [[] for _ in prompts]
        texts, open_rows = GrowingTexts(self.reader, prompts), [True] * len(prompts)
        for step in range(decoding.tokens):
            chosen = self._chosen(texts.states, decoding, drawn)
            for row, token in enumerate(chosen):
                open_rows[row] &= token != end
                if open_rows[row]:
                    out[row].append(token)
            if not any(open_rows) or step + 1 == decoding.tokens:
                break
            texts.add(torch.tensor(chosen, device=self.device))
        return out

    @staticmethod
    def _numbered(seed: int, n: int) -> list[int]:
        return [seed * 0x9E3779B1 + row for row in range(n)]

    def _chosen(self, states: Tensor, decoding: Decoding, drawn: Sequence[torch.Generator]) -> list[int]:
        """The next token of each row."""
        logits = self.reader.words.logits(states)
        if not bool(torch.isfinite(logits).all()):
            raise UserError(f"'{self.reader.name}' gives NaN or infinity; set model.precision=float32")
        if self.reader.tiny and self._words:
            known = torch.tensor(sorted(self._words), device=logits.device)
            kept = logits[:, known]
            logits = torch.full_like(logits, -torch.inf).index_copy(1, known, kept)
        if not decoding.temperature:
            return logits.argmax(-1).tolist()
        chances, order = (
            (logits.double().cpu() / decoding.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        )
        total = chances.cumsum(-1)
        kept_words = (total - chances < decoding.top_p).sum(-1)  # the first one always
        places = []
        for row, generator in enumerate(drawn):
            n = int(kept_words[row])
            point = torch.rand((), generator=generator, dtype=torch.float64) * total[row, n - 1]
            place = int(torch.searchsorted(total[row, :n], point, right=True))
            places.append(int(order[row, min(place, n - 1)]))
        return places
