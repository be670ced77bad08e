"""MLLM-MSR in its text form: a language model sums up a history block by block, and is asked yes or no about each candidate [Ye et al., AAAI 2025,
arXiv 2408.09698].

What is different about this model: it is ``prompted`` with one question a candidate, but is not shown the history. The model itself writes what the
person likes from the first ``block`` titles, then again from what it wrote and the next block, and so on; that summary stands in the prompt. Images
are text too: ``captions`` names a file with a sentence about each item, which is told behind its title.

    p_1 = LM(titles 1..b),  p_n = LM(p_{n-1}, titles (n-1) b + 1 .. n b)        score of item i = log p(yes | p, i) - log p(no | p, i)

**Its published figures cannot be used.** The authors' code keeps, of each user, the most popular items by counts over all data, and the target is the
last of them; so counting finds it. Measured under that construction: popularity alone has HR@5 1.000 on ML-1M (AUC .995), and .717 on Beauty, where
chance has .238. Here targets are those of the protocol, and every run prints popularity on the same candidates (popularity_order_*).

Glossary (paper -> here): recurrent user preference summarisation -> ``summaries``; image summary -> ``captions``; block of 3 -> ``block``.

Deviations, and why:
- Nothing is trained: the paper tunes the last step by adapters. ``llamarec`` is the trained reranker here.
- No image is read. Captions are made elsewhere (the paper: LLaVA) and read from a file: JSON lines {"item": raw id, "caption": text}.
- A summary is written greedily, ``summary_tokens`` tokens, by the model that answers; the paper samples at T .6 from a larger one.
- profile=none shows the history in place of a summary. Without captions that is ``prompted`` with answer=yes_no, exactly: the control.
- ``tiny`` has random weights, so its summaries are noise: for trying things out.

Shapes: B rows, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import NO_KEY
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.language.prompted import Prompted, PromptedConfig
from recbench.models.language.text_reranker import shared_start
from recbench.models.registry import register
from recbench.nn.text import item_prompts as say
from recbench.nn.text.generated import content_hash, json_lines

PROFILES = ("recurrent", "none")


@dataclass
class MLLMMSRConfig(PromptedConfig):
    """The keys of prompted, and how a history becomes a summary. captions: a file; captions_content: its hash, which enters the key; filled in."""

    name: str = "mllm_msr"
    answer: str = "yes_no"
    profile: str = "recurrent"
    block: int = 3
    summary_tokens: int = 32
    captions: str = field(default="", metadata=NO_KEY)
    captions_content: str = ""
    caption_words: int = 12

    def __post_init__(self) -> None:
        if self.captions and Path(self.captions).expanduser().is_file():
            self.captions_content = content_hash(Path(self.captions).expanduser())


@register("mllm_msr", MLLMMSRConfig)
class MLLMMSR(Prompted):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        _check(config)
        return super().dependencies(config)

    def titles_of(self, context: ModelContext) -> list[str]:
        titles = super().titles_of(context)
        if not self.config.captions_content:
            return titles
        if context.train is None:
            raise UserError("captions are known by raw ids of items, which this model was built without")
        captions = read_captions(self.config.captions)
        names = ["", *context.train.data.item_table().sort("item_id")["item"].to_list()]
        if not captions.keys() & set(names):
            raise UserError(
                f"model.captions={self.config.captions} knows none of the items; items are named by their raw ids"
            )
        told = [say.short_title(captions.get(name, ""), self.config.caption_words) for name in names]
        return [
            f"{title} ({caption})" if name in captions and captions[name].strip() else title
            for name, title, caption in zip(names, titles, told, strict=True)
        ]

    def longest_prompt(self) -> int:
        return (
            super().longest_prompt()
            + 2 * self.config.summary_tokens
            + len(self.reader.ids([summary_question(["x"], "x")])[0])
        )

    def summaries(self, histories: Sequence[Sequence[str]]) -> list[list[int]]:
        """Tokens of what the model wrote about each history; every title is read once, in its block."""
        noun, block = self.config.noun, self.config.block
        written: list[list[int]] = [[] for _ in histories]
        begin = self.reader.start + self.reader.ids([SO_FAR])[0]
        for first in range(0, max(map(len, histories), default=0), block):
            rows = [row for row, history in enumerate(histories) if first < len(history)]
            asked = self.reader.ids([summary_question(histories[row][first : first + block], noun) for row in rows])
            prompts = [begin + written[row] + ids for row, ids in zip(rows, asked, strict=True)]
            for row, found in zip(rows, self.reader.written(prompts, self.config.summary_tokens), strict=True):
                written[row] = found
        return written

    def by_yes_no(self, histories: list[list[str]], items: list[list[int]]) -> list[Tensor]:
        if self.config.profile == "none":
            return super().by_yes_no(histories, items)
        summaries = iter(self.summaries(histories))
        begin = self.reader.start + self.reader.ids([LIKES])[0]

        def asked(history: Sequence[str], row: Sequence[int], titles: list[str]) -> tuple[list[int], list[list[int]]]:
            own = begin + next(summaries)
            return shared_start(
                [own + ids for ids in self.reader.ids([say.ask_yes_no(title, self.config.noun) for title in titles])]
            )

        return self._by_title(histories, items, asked, self._yes_minus_no)


SO_FAR = "What a person likes, in a few words:"
LIKES = "What a person likes:"


def summary_question(titles: Sequence[str], noun: str) -> str:
    """What stands behind the summary so far.

    >>> summary_question(["red", "blue"], "mug")
    ' Then the person chose these mugs: red; blue. What the person likes now, in a few words:'
    """
    return f" Then the person chose these {noun}s: {'; '.join(titles)}. What the person likes now, in a few words:"


def read_captions(path: str) -> dict[str, str]:
    """Raw id -> caption. Raises UserError, naming the line, for a file that is none of captions."""
    found = {}
    for number, row in json_lines(Path(path).expanduser(), f"model.captions={path}"):
        if "item" not in row or not isinstance(row.get("caption"), str):
            raise UserError(f'{path}, line {number}: a caption needs "item" and "caption"')
        found[str(row["item"])] = row["caption"]
    return found


def _check(config: MLLMMSRConfig) -> None:
    check_choices(config, {"profile": PROFILES})
    check_counts(config, "block", "summary_tokens", "caption_words")
    if config.answer != "yes_no":
        raise UserError("'mllm_msr' asks yes or no: set model.answer=yes_no, or model=prompted for the other answers")
    if config.shots and config.profile == "recurrent":
        raise UserError("examples have no summaries: set model.shots=0, or model.profile=none")
    if config.captions and not config.captions_content:
        raise UserError(f"model.captions={config.captions} is not there; name a file of JSON lines")
