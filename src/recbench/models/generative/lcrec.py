"""LC-Rec: item codes become new tokens of a causal language model, which is also asked what codes and texts mean [Zheng et al., ICDE 2024].

What is different about this model: as in TIGER an item is a tuple of codes from a tokenizer (the run under ``model.tokenizer``) and a list is
found by a beam search over the trie of all items. But the network is a language model, perhaps a pretrained one, and beside the next item it
learns to translate between codes and item texts, so that what it knows of words may reach the codes:

    item2index        text -> codes                        index2item    codes -> text
    fusionseqrec      codes of the history -> title, or text, of the next item; titles of the history -> codes of the next item
    itemsearch        codes of the history and a query -> codes          preferenceobtain    codes of the history -> what the user likes

    loss = mean over codes of the next items of -log p  +  sum over tasks of weight x mean over its examples and their answers of -log p

Each task has its weight (0: off, so an ablation is a run). ``alignment_share`` of the targets also make an example of each task; examples hold
events of the training windows and texts of their items alone. Without any task no text is read, nor asked of the data.

Glossary (paper and released code -> here): index, <a_12><b_7>.. -> ``codes``; seqrec -> ``next_item_loss``; the other tasks by their released
names; instruction and response -> ``prompt``; base model -> ``backbone``; beams -> ``beams``; filter_items -> what ``constrained`` makes needless.

Deviations, and why:
- All prefixes of a window share one causal pass: [instruction][item 1][item 2] ... The state before an item's first code predicts it, as the state
  before any word does. The released code has a row a prefix, with the instruction's end behind each; here only the alignment tasks have one.
- One instruction a task where the released code draws one of about 17, and reports the mean over them.
- A code is predicted among the codes of its level and a word among the words, where the paper has one softmax over both: which of them is due
  follows from the place. Decoding follows the trie of all items; the released code allows whatever code some item has at that level.
- ``itemsearch`` and ``preferenceobtain`` take what GPT-3.5 wrote from reviews in the paper. No such text is here: the query is ``query_words`` drawn
  from the target's own text, and the preference the words of the history that are most frequent for their rarity. Off unless asked for.
- Item tasks meet an item as often as it is a target of training, and no item that is none; the released code walks over the catalogue.
- A weight of 1 lets a task count as much as the next item does. In the released code a task counts by its examples, and an item task has one an
  item: on Beauty 12,101 to 131,413 next items. So by default item tasks weigh about 11 times as much as there (0.09 gives theirs).
- The default tokenizer is that of ``tiger``, so that the two read the same codes, and colliding items get a digit. The paper's: 4 levels, the last
  one spread (model.tokenizer.model=rqvae model.tokenizer.levels=4 model.tokenizer.uniform_last=sinkhorn).
- The paper trains all of a LLaMA 7B at lr 5e-5 (cosine, 1 % warm-up, weight decay 0.01, 4 epochs, batch 128). ``tiny`` learns from nothing, words
  as hashed buckets among it; in a named backbone adapters and the new tokens are trained (lora_rank=0: all of it).
- ``decoder: exact`` scores the whole catalogue by visiting every node of the trie: no beam, many times the cost; it can rank given candidates.

Shapes: B rows, L items of a history, P tokens an item, M tokens of a history, W beams, S levels, H width, N examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_choices, check_number, check_sizes
from recbench.models.fallback_config import FallbackConfig
from recbench.models.generative.generator import DECODERS, CodeGenerator
from recbench.models.language.frozen_part import learned_state, load_learned
from recbench.models.registry import register
from recbench.nn.decoding.causal import CausalHistory
from recbench.nn.language.alignment import FORMS, ItemTokens, check_tasks, drawn, sequences, tasks_of, word_rarity
from recbench.nn.language.backbone import Backbone, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import check_decoder, check_reads
from recbench.nn.language.token_ids import Kind, TokenIds
from recbench.nn.text.length_buckets import by_length
from recbench.nn.text.task_prompts import TaskPrompts, learned_prompts, worded_prompts
from recbench.nn.text.word_table import WordTable
from recbench.nn.transformer.dropout import Dropout

#: Tokens of examples, with their pads, that are read at once: those of like length together.
AT_ONCE = {"cpu": 1 << 12, "gpu": 1 << 17}
NEXT_ITEM = "Name the item that follows these items by its codes."


@dataclass
class LCRecConfig(FallbackConfig, BackboneConfig, ModelConfig):
    """Backbone keys, the run that gives the codes, the weights of the alignment tasks, and how lists are found; see ``conf/model/lcrec.yaml``."""

    name: str = "lcrec"
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "rq_kmeans"})
    dropout: float = 0.1
    separator: bool = True
    prompt_prefix: str = "### Instruction:\n{instruction}\n\n### Input:\n"
    prompt_lengths: list[int] = field(default_factory=lambda: [16, 4])
    item2index: float = 1.0
    index2item: float = 1.0
    fusionseqrec: float = 1.0
    itemsearch: float = 0.0
    preferenceobtain: float = 0.0
    alignment_share: float = 0.1
    text_words: int = 24
    title_words: int = 8
    query_words: int = 4
    text_buckets: int = 4096
    decoder: str = "beam"
    beams: int = 50
    constrained: bool = True
    version: int = 2  # of a step: examples of all tasks are read together; 1 read them form by form


@register("lcrec", LCRecConfig)
class LCRec(CodeGenerator):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    prefixes_at_once: ClassVar[int | None] = 256
    #: Ids of the items' tokens, for alignment; None in a model that is not to be trained.
    item_tokens: ItemTokens | None
    token_ids: TokenIds

    @classmethod
    def needs(cls, config: LCRecConfig) -> frozenset[str]:
        return cls.requires if tasks_of(config) else frozenset()

    @classmethod
    def dependencies(cls, config: LCRecConfig) -> dict[str, dict[str, Any]]:
        # Asked before anything is trained: neither a wrong key nor an absent backbone must cost a tokenizer first.
        _check(config)
        return super().dependencies(config)

    def __init__(self, config: LCRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        self.tasks = tasks_of(config)
        self.reads_words = bool(self.tasks) or config.prompt == "text"
        # Prompts are tokens like any other here, for each task has its own.
        self.backbone = Backbone(replace(config, prompt="none"), context.max_length, keep_tokens=self.reads_words)
        self.width = self.backbone.width
        if self.reads_words:
            self.words = WordTable(config, self.backbone, config.text_buckets)
        self.dropout = Dropout(config.dropout)
        self.prompts = self._prompts()
        self.special_embedding = nn.Embedding(self.prompts.n_special, self.width)
        nn.init.normal_(self.special_embedding.weight, std=0.02)
        self.item_tokens = None
        if self.codes.numel():
            self.build()
            if self.tasks:
                self._take_texts(context)

    def _prompts(self) -> TaskPrompts:
        """Of the next item, under "", and of each form in use."""
        config = self.config
        said = {"": NEXT_ITEM} | {name: form.instruction for name, form in FORMS.items() if form.task in self.tasks}
        if config.prompt == "text":
            return worded_prompts(said, config.prompt_prefix, config.prompt_suffix, config.separator, self.words.prompt)
        n_begin, n_answer = config.prompt_lengths if config.prompt == "learned" else (1, 1)
        return learned_prompts(list(said), n_begin, n_answer if self.tasks else 0, config.separator)

    def build(self) -> None:
        n_words = len(self.words.inputs()) if self.reads_words else 0
        self.token_ids = TokenIds(self.prompts.n_special, n_words, tuple(self.level_sizes))
        self.token_embedding = nn.Embedding(self.token_ids.count(Kind.CODE), self.width)
        self.heads = nn.ModuleList(nn.Linear(self.width, size, bias=False) for size in self.level_sizes)
        for module in (self.token_embedding, *self.heads):
            nn.init.normal_(module.weight, std=0.02)
        if self.config.backbone != "tiny":
            what = f"{self.max_length} items of {self.tokens_per_item} codes and separators, prompts and texts"
            check_reads(self.config.backbone, self.backbone.model, self._longest(), what)

    def _longest(self) -> int:
        """Tokens of the longest sequence that may be read."""
        config, n_levels = self.config, len(self.level_sizes)
        history, answer = (self.max_length + 1) * self.tokens_per_item, n_levels
        if self.tasks:
            history = max(history, self.max_length * config.title_words) + config.query_words
            answer = max(answer, config.text_words)
        return self.prompts.longest() + history + answer

    def _take_texts(self, context: ModelContext) -> None:
        """Number the tokens of all items for the alignment tasks. Raises UserError if no item has a text."""
        texts, counts, config = context.item_texts, context.item_counts, self.config
        if texts is None or not any(text.strip() for text in texts):
            raise UserError(
                "no item has a text, which the alignment tasks of 'lcrec' read; use data with titles or descriptions, or set "
                + " ".join(f"model.{task}=0" for task in self.tasks)
            )
        words = self.token_ids.of_words(self.words.words_of(texts, config.text_words))
        codes = self.token_ids.of_items(self.codes)
        if self.prompts.separator:
            codes = torch.cat([codes, (codes[:, :1] > 0) * self.prompts.separator], 1)
        seen = torch.ones(len(words), dtype=torch.bool) if counts is None else counts > 0
        rarity = word_rarity(words, seen, self.token_ids.first(Kind.CODE))
        n_levels = len(self.level_sizes)
        self.item_tokens = ItemTokens(codes, words, rarity, n_levels, config.title_words, config.query_words)

    @property
    def tokens_per_item(self) -> int:
        return len(self.level_sizes) + bool(self.config.separator)

    def embed(self, ids: Tensor) -> Tensor:
        """ids [N, M] -> [N, M, H], 0 where nothing stands."""
        out = torch.zeros(*ids.shape, self.width, device=ids.device)
        tables = {Kind.SPECIAL: self.special_embedding.weight, Kind.CODE: self.token_embedding.weight}
        if self.reads_words:
            tables[Kind.WORD] = self.words.inputs()
        for kind, table in tables.items():
            here = self.token_ids.is_kind(ids, kind)
            out = out.index_put((here,), F.embedding(self.token_ids.to_rows(ids[here], kind), table).float())
        return out

    def history(self, items: Tensor) -> Tensor:
        """items [B, L] -> vectors [B, M, H] of the instruction and of all their tokens; those of pads mean nothing."""
        b, length = items.shape
        x = self.token_embedding(self.tokens()[items])
        if self.prompts.separator:
            separator = self.special_embedding.weight[self.prompts.separator - self.token_ids.first(Kind.SPECIAL)]
            x = torch.cat([x, separator.expand(b, length, 1, -1)], dim=2)
        begin = self.embed(torch.tensor([self.prompts.begin[""]], dtype=torch.int64, device=items.device))
        return torch.cat([begin.expand(b, -1, -1), x.flatten(1, 2)], dim=1)

    def n_tokens(self, lengths: Tensor) -> Tensor:
        """Real tokens of histories of so many items."""
        return len(self.prompts.begin[""]) + lengths * self.tokens_per_item

    def training_loss(self, batch: Batch) -> Tensor:
        loss = self.next_item_loss(batch)
        return loss + self.alignment_loss(batch) if self.tasks else loss

    def next_item_loss(self, batch: Batch) -> Tensor:
        """Mean over targets and levels of -log p(code | what precedes it), all prefixes of a window in one pass."""
        assert batch.targets is not None
        p, n_levels = self.tokens_per_item, len(self.level_sizes)
        whole = self.history(torch.cat([batch.items[:, :1], batch.targets], dim=1))
        states = self.backbone.read(self.dropout(whole[:, :-1]))
        # The last token of an item predicts the first code of the next one, each code the code behind it.
        states = states[:, len(self.prompts.begin[""]) + p - 1 :].unflatten(1, (-1, p))[:, :, :n_levels]
        real = batch.mask
        return self.cross_entropy(states[real], batch.targets[real]) / (real.sum() * n_levels)

    def alignment_loss(self, batch: Batch) -> Tensor:
        """The tasks, each by its weight: the mean over its share of the batch's targets of what their answers lose.

        The number that is divided by is the expected one, so that the losses of a batch's parts add up to that of the batch.
        """
        share = self.config.alignment_share
        forms = {name: form for name, form in FORMS.items() if form.task in self.tasks}
        assert self.item_tokens is not None, "alignment needs item texts, which a stored run is built without"
        self.item_tokens = self.item_tokens.to(self.codes.device)
        parts, weights = [], []
        for name, form in forms.items():
            n_forms = sum(other.task == form.task for other in forms.values())
            example = form.make(self.item_tokens, drawn(batch, share / n_forms))
            parts.append(sequences(example, self.prompts.begin[name], self.prompts.answer))
            weights.append(torch.full((len(parts[-1][0]),), getattr(self.config, form.task), device=batch.items.device))
        width = max(ids.shape[1] for ids, _ in parts)
        ids, of_answer = (torch.cat([F.pad(part[i], (0, width - part[i].shape[1])) for part in parts]) for i in (0, 1))
        return (torch.cat(weights) * self.answer_losses(ids, of_answer)).sum() / (share * batch.lengths.sum())

    def answer_losses(self, ids: Tensor, of_answer: Tensor) -> Tensor:
        """ids, of_answer [N, M] -> [N]: mean over the tokens of each answer of -log p(token | what precedes it)."""
        if not len(ids):
            return self.special_embedding.weight.sum()[None] * 0
        length, states, rows = (ids > 0).sum(1), [], []
        for some in by_length(length, AT_ONCE["cpu" if ids.device.type == "cpu" else "gpu"]):
            width = int(length[some].max())
            read = self.backbone.read(self.dropout(self.embed(ids[some, : width - 1])))
            states.append(read[of_answer[some, 1:width]])
            rows.append(some)
        order = torch.cat(rows)
        wanted = of_answer[order, 1:]
        losses = torch.zeros(wanted.shape, device=ids.device)
        losses = losses.index_put((wanted,), self._token_losses(torch.cat(states), ids[order, 1:][wanted]))
        return (losses.sum(1) / wanted.sum(1))[order.argsort()]

    def _token_losses(self, states: Tensor, ids: Tensor) -> Tensor:
        """states [K, H], ids [K] -> [K] of -log p: of a code among those of its level, of a word among the words."""
        losses = torch.zeros(len(ids), device=ids.device)
        words = self.token_ids.is_kind(ids, Kind.WORD)
        if words.any():
            logits, rows = self.words.logits(states[words]), self.token_ids.to_rows(ids[words], Kind.WORD)
            losses = losses.index_put((words,), F.cross_entropy(logits, rows, reduction="none"))
        for head, (here, code) in zip(self.heads, self.token_ids.by_level(ids), strict=True):
            losses = losses.index_put((here,), F.cross_entropy(head(states[here]), code, reduction="none"))
        return losses

    def read(self, batch: Batch) -> CausalHistory:
        vectors, n_real = self.history(batch.items), self.n_tokens(batch.lengths)
        heads = list(self.heads)
        return CausalHistory(self.backbone, vectors, n_real, self.token_embedding, heads, self.level_sizes)

    def stored_state(self) -> dict[str, Tensor]:
        kept = {name for name in self.state_dict() if name.startswith("fallback.")}
        return learned_state(self, self.backbone.frozen, {"codes", "sizes"} | kept)

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.take_codes(state)
        load_learned(self, state, self.stored_state())


def _check(config: LCRecConfig) -> None:
    check_choices(config, {"decoder": DECODERS})
    check_number("model.version", config.version, least=2, below=3)
    sizes = ("n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size", "beams")
    check_sizes(config, *sizes, "text_words", "title_words", "query_words", "text_buckets")
    check_tasks(config)
    check_backbone(config)
    if config.prompt == "text" and "{instruction}" not in config.prompt_prefix:
        raise UserError("model.prompt_prefix must hold {instruction}, which each task replaces with its own")
    if config.backbone != "tiny":
        check_decoder(config.backbone, config.n_layers)
