"""BIGRec: a language model continues a list of titles with the next one, which is then tied to an item of the catalogue [Bao et al., TORS 2025,
arXiv 2308.08434; decoding of D3, EMNLP 2024, arXiv 2406.14900].

What is different about this model: items are nothing but their titles, written out. The model learns to continue

    A person chose these items, oldest first: <title 1> <end> <title 2> <end> ... <title t> <end>     with     <title t+1> <end>

and ``decoder`` says how a title becomes an item:

    beam       a beam search along the trie of all titles, so that only titles of the catalogue are spelled (D3)
    exact      the log-probability of every title, by visiting every node of the trie
    grounded   a title is spelled freely, word after likeliest word; items are ranked by how near the states at the ends of their titles are (BIGRec)

With ``alpha`` below 1 a second run, the ``guide``, has its say at every word: alpha log p(word) + (1 - alpha) log share of the word among the items
that the guide expects behind the prefix. Their path adds up to alpha log p(title) + (1 - alpha) log p_guide(items of that title).

    loss = mean over targets of - sum over the words of the title, and its end, of log p(word | what precedes it)

Glossary (paper and released code -> here): h(y) -> ``title_states``; gamma -> ``popularity``; c_i -> ``counts``; alpha and the CF model of D3 ->
``alpha``, ``guide``; length_penalty -> ``length_penalty``; num_beams -> ``beams``.

Deviations, and why:
- All titles of a window are targets in one causal pass, read behind the same words in training and test. The released code draws a few thousand rows
  with one target each, ends the prompt in one blank in training and two in the test, and counts the loss of the prompt too.
- The released code grounds with the states of the base model (``grounding: base``, for named backbones); by default they are the trained model's own.
- gamma is one value, to be chosen on validation. The released code takes the best of 199 on the file it is given, for each metric.
- Titles that are equal tie. There, the last or the best one counts.
- The score of a beam is not divided by the length of its title (length_penalty 0), as D3 found: words that a title forces have a probability near
  1 and would favour long ones. ``renormalise`` divides each word's probability by that of all words the trie allows; forced ones then add nothing.
- No setting of decoding is read from the backbone's own files.
- The paper tunes LLaMA-7B with adapters on 1,024 rows, D3 all of Qwen2-0.5B. ``tiny`` learns words by hash from nothing.

Shapes: B rows, L items, M words of the longest title and its end, V = n_items + 1, W beams, H width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import NO_KEY
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_choices, check_sizes
from recbench.models.generative.generator import CodeGenerator
from recbench.models.kept_run import KeptRun
from recbench.models.language.frozen_part import learned_state, load_learned
from recbench.models.registry import register
from recbench.nn.decoding.beam import beam_search
from recbench.nn.decoding.guide import GuideShares
from recbench.nn.decoding.titles import Speller, TitleHistory, title_codes
from recbench.nn.language.backbone import Backbone, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import check_decoder, check_reads
from recbench.nn.text.grounding import METRICS, grounded_scores
from recbench.nn.text.item_prompts import short_title
from recbench.nn.text.length_buckets import by_length, tokens_at_once
from recbench.nn.text.real_first import real_first
from recbench.nn.text.title_words import TitleWords, widely_drawn
from recbench.nn.transformer.dropout import Dropout

CHOICES = {"decoder": ("beam", "exact", "grounded"), "grounding": ("own", "base"), "metric": METRICS}
#: What a checkpoint holds beside the weights.
BUFFERS = frozenset({"codes", "sizes", "level_tokens", "counts"})


@dataclass
class BIGRecConfig(BackboneConfig, ModelConfig):
    """Backbone keys, how titles are cut, and how a title becomes an item; see ``conf/model/bigrec.yaml``."""

    name: str = "bigrec"
    noun: str = "item"
    title_words: int = 8
    title_tokens: int = 16
    text_buckets: int = 4096
    dropout: float = 0.1
    decoder: str = "beam"
    beams: int = 50
    length_penalty: float = 0.0
    renormalise: bool = False
    alpha: float = 1.0
    guide: dict[str, Any] = field(default_factory=lambda: {"model": "sasrec"})
    grounding: str = "own"
    metric: str = "l2"
    popularity: float = 0.0
    force: bool = field(default=False, metadata=NO_KEY)  # take a trained guide that popularity beats on validation


@register("bigrec", BIGRecConfig)
class BIGRec(CodeGenerator):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    beams_at_once: ClassVar[int] = 1 << 10
    prefixes_at_once: ClassVar[int | None] = 256
    #: [sum of S_l] int64: the words of the codes, level after level; 0 where nothing stands any more.
    level_tokens: Tensor
    counts: Tensor

    @classmethod
    def dependencies(cls, config: BIGRecConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        return {"guide": config.guide} if config.alpha < 1 else {}

    def __init__(self, config: BIGRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        self.backbone = Backbone(replace(config, prompt="none"), context.max_length, keep_tokens=True)
        self.width = self.backbone.width
        said = f"A person chose these {config.noun}s, oldest first:"
        self.words = TitleWords(config, self.backbone, config.text_buckets, said)
        self.end = self.words.end
        if config.backbone == "tiny":
            widely_drawn(self.backbone, self.words.table)
        self.dropout = Dropout(config.dropout)
        self._spellers: tuple[object, Speller] | None = None
        self._states: tuple[object, Tensor] | None = None
        counts = torch.zeros(context.n_items + 1) if context.item_counts is None else context.item_counts.float()
        self.register_buffer("counts", counts.clone())
        self.register_buffer("level_tokens", torch.empty(0, dtype=torch.int64))
        source = context.dependencies.get("guide")
        if source is not None and source.gives_lists:
            raise UserError(
                f"model.guide.model={source.config.name} gives lists and no scores; set model.guide.decoder=exact where it has that, or name another"
            )
        self.guide = KeptRun(context, source) if config.alpha < 1 else None
        if context.item_texts is not None:
            self._take_titles(context.item_texts)
            self.build()

    def _take_titles(self, texts: list[str]) -> None:
        config = self.config
        if not any(text.strip() for text in texts):
            raise UserError("no item has a text, which 'bigrec' spells; use data with titles")
        titles = ["", *(short_title(text, config.title_words) for text in texts[1:])]
        words = self.words.words_of(titles, config.title_tokens)
        codes, sizes, tokens = title_codes(words, self.end)
        self.codes, self.sizes, self.level_tokens = codes, torch.tensor(sizes), tokens
        self._level_sizes = None

    def build(self) -> None:
        self._spellers = self._states = None
        if self.config.backbone != "tiny":
            what = f"{self.max_length + 1} titles of up to {len(self.level_sizes)} tokens; or lower model.title_tokens"
            check_reads(self.config.backbone, self.backbone.model, self._longest(), what)

    def _longest(self) -> int:
        return len(self.words.begin) + (self.max_length + 1) * len(self.level_sizes)

    def take_codes(self, state: Mapping[str, Tensor]) -> None:
        self.level_tokens = state["level_tokens"].clone().to(self.level_tokens.device)
        super().take_codes(state)

    def titles(self) -> Tensor:
        """[V, M]: the words of each title and its end, 0 behind it and in the row of the pad."""
        return self.level_tokens[self.tokens()] * (self.codes >= 0)

    def embed(self, words: Tensor) -> Tensor:
        """words [...] numbered from 1 -> [..., H]."""
        return F.embedding(words - 1, self.words.table.inputs()).float()

    def written(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """items [B, L] -> (words [B, N] of the beginning and all titles, 0 at the end; for each the place of its item in the row, -1 of the
        beginning [B, N])."""
        b, length = items.shape
        words = self.titles()[items].flatten(1)
        place = torch.arange(length, device=items.device).repeat_interleave(len(self.level_sizes)).expand(b, -1)
        words, place = real_first(words, place)
        begin = torch.tensor(self.words.begin, device=items.device).expand(b, -1)
        return (
            torch.cat([begin, words], 1),
            torch.cat([torch.full_like(begin, -1), place], 1),
        )

    def training_loss(self, batch: Batch) -> Tensor:
        assert batch.targets is not None
        words, place = self.written(torch.cat([batch.items[:, :1], batch.targets], 1))
        states = self.backbone.read(self.dropout(self.embed(words[:, :-1].clamp(min=1))))
        # The first title of a window is read, and not asked for.
        asked = (words[:, 1:] > 0) & (place[:, 1:] > 0)
        return self.words.losses(states[asked], words[:, 1:][asked]).sum() / batch.lengths.sum()

    @property
    def speller(self) -> Speller:
        key = (self.codes.data_ptr(), self.level_tokens.data_ptr())
        if self._spellers is None or self._spellers[0] != key:
            tokens = list(self.level_tokens.split(self.level_sizes))
            own = Speller(
                self.backbone, self.embed, self.words.table.logits, self.trie, tokens, self.end, self.config.renormalise
            )
            self._spellers = (key, own)
        return self._spellers[1]

    def read(self, batch: Batch) -> TitleHistory:
        words, _ = self.written(batch.items)
        shares = None
        if self.guide is not None:
            assert self.guide.model is not None, "the guide is a part of a stored run"
            with torch.no_grad():
                shares = GuideShares(self.trie, self.guide.model.score(batch).float())
        vectors = self.dropout(self.embed(words.clamp(min=1)))
        return TitleHistory(self.speller, vectors, (words > 0).sum(1), shares, self.config.alpha)

    def _penalised(self, scores: Tensor, n_words: Tensor) -> Tensor:
        return scores / n_words**self.config.length_penalty if self.config.length_penalty else scores

    def _search(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        leaf, scores = beam_search(self.read(batch), self.trie, self.config.beams)
        lengths = (self.titles() > 0).sum(1)[self.trie.items[self.trie.leaf_first[:-1]]]
        scores, order = self._penalised(scores, lengths[leaf]).sort(dim=1, descending=True, stable=True)
        return self.trie.expand(leaf.gather(1, order), scores, k)

    def score(self, batch: Batch) -> Tensor:
        """[B, V]: log p(title of the item | history), or with decoder=grounded how near it is to the title that was spelled."""
        if self.config.decoder == "grounded":
            made = self.title_states(self.read(batch).free_title(self.config.title_tokens))
            return grounded_scores(
                made, self.catalogue_states(), self.counts, self.config.metric, self.config.popularity
            )
        return self._penalised(super().score(batch), (self.titles() > 0).sum(1).clamp_min(1))

    def title_states(self, words: Tensor) -> Tensor:
        """words [N, T] of titles, 0 behind their ends -> [N, H]: the state at the last word of each, read alone; of an empty one, that of the end."""
        words = torch.where(
            (words[:, :1] == 0) & (torch.arange(words.shape[1], device=words.device) == 0), self.end, words
        )
        length = (words > 0).sum(1)
        out = torch.zeros(len(words), self.width, device=words.device)
        base: Any = contextlib.nullcontext()
        if self.config.grounding == "base":
            base = self.backbone.model.disable_adapter()
        with torch.no_grad(), base:
            for chosen in by_length(length, tokens_at_once(words.device)):
                some = words[chosen, : int(length[chosen].max())]
                states = self.backbone.read(self.embed(some.clamp(min=1)))
                out[chosen] = states[torch.arange(len(some), device=words.device), length[chosen] - 1]
        return out

    def catalogue_states(self) -> Tensor:
        """[V, H] of the titles of all items, kept while no weight changes."""
        version = (self.training, *((id(p), p._version) for p in self.parameters()))
        if self._states is None or self._states[0] != version:
            titles = self.titles()
            self._states = (version, self.title_states(titles.masked_fill(titles == self.end, 0)))
        return self._states[1]

    def train(self, mode: bool = True) -> BIGRec:
        self._states = None  # fused optimisers change weights without raising their version
        return super().train(mode)

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        return super().recommend(batch, k) if self.config.decoder == "beam" else Recommender.recommend(self, batch, k)

    def stored_state(self) -> dict[str, Tensor]:
        learned = learned_state(self, self.backbone.frozen, BUFFERS)
        own = {name: value for name, value in learned.items() if not name.startswith("guide.")}
        kept = {} if self.guide is None else self.guide.stored_state()
        return own | {f"guide.{name}": value for name, value in kept.items()}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.take_codes(state)
        own = {name: value for name, value in state.items() if not name.startswith("guide.")}
        if self.guide is not None:
            kept = {name.removeprefix("guide."): value for name, value in state.items() if name not in own}
            self.guide.load_stored_state(kept)
        load_learned(self, own, [name for name in self.stored_state() if not name.startswith("guide.")])


def _check(config: BIGRecConfig) -> None:
    check_choices(config, CHOICES)
    sizes = ("n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size", "beams")
    check_sizes(config, *sizes, "title_words", "title_tokens", "text_buckets")
    if not 0 <= config.alpha <= 1:
        raise UserError(f"model.alpha must lie between 0 and 1, not {config.alpha:g} (1: the language model alone)")
    if config.length_penalty < 0 or config.popularity < 0:
        raise UserError("model.length_penalty and model.popularity must be at least 0")
    if config.alpha < 1 and config.decoder == "grounded":
        raise UserError(
            "a guide has its say while titles are spelled along the trie: set model.decoder=beam or exact, or model.alpha=1"
        )
    if config.prompt != "none":
        raise UserError("'bigrec' writes its own words around the titles: set model.prompt=none")
    check_backbone(config)
    named = config.backbone != "tiny"
    if config.grounding == "base" and not (named and config.init == "pretrained" and config.lora_rank > 0):
        raise UserError(
            "model.grounding=base reads titles without the adapters, and this backbone has none: set model.grounding=own"
        )
    if named:
        check_decoder(config.backbone, config.n_layers)
