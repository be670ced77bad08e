"""LLMGR: a language model that reads the graph of a session, its nodes given as vectors of a graph recommender [arXiv 2402.16539].

What is different about this model: the session goes in as what the paper calls its behaviour pattern, all nodes, then all edges in order, then
the last node, and every token of it is a projected vector of a converged ``gcsan`` run plus the item's text. Two stages in one run:

    1  alignment, ``alignment_epochs``: the description of an item -> which item.  Trained are the projection and the language model's adapters.
    2  the task: behaviour pattern -> next item, by a linear head over the catalogue.

    token of item i    W_p x_i + mean of the vectors of i's words + a vector for what the token stands for (``nn.behaviour_pattern``)
    last token         W_p z + ..., z the graph run's own state of the session
    stage 1            score of item j for a description's last state h:  h . (W_p x_j), without j's text

After the paper's abstract and a public note on it; no code was to be had, and where the two are silent this is ours. Stages are told apart by the
number of targets that were trained on, which is part of the state, so that a resumed run goes on in its stage; a run of its own would
have trained on sessions what has none. Under distillation there is no stage 1: objectives need the states of sessions.

``language: frozen_text`` is the control beside it (``conf/model/llmgr_text_control.yaml``): the same graph run and the same head, no language
model. Events are weighed by how well their text vectors fit the graph's state, and their mean, the last one and the state go
through one hidden layer. The text vectors are those of the frozen ``backbone``, or with ``tiny`` TF-IDF and SVD of the texts of training items.

Glossary (paper -> here): x ID embedding of the pre-trained GC-SAN -> ``graph.item_vectors``; W_p -> ``project``; placeholder tokens -> ``_tokens``;
MLP head -> ``head``; behaviour pattern, node-text alignment -> ``hidden_states``, ``alignment_loss``.

Where this deviates, and why:
- Learned vectors tell nodes, ends of edges and the last node apart, in the place of the words between the paper's placeholders: a prompt of constant
  text would cost more positions than the graph. ``prompt: text`` puts an instruction around it all the same.
- An item's text enters each of its tokens as one mean vector, and in full (``text_words`` tokens) only in stage 1.
- The public note says both that the graph part is frozen in stage 2 and that it is not: ``train_graph``.
- Stage 1 walks over the distinct items of each training batch, so a popular item is met more often than a rare one.
- ``tiny`` has no tokenizer and no pretrained weights: words are hashed into ``text_buckets`` vectors that are trained, as is all of the backbone;
  it stands for the adapters.

Shapes: B rows, L positions, W tokens of a pattern, H width of the language model, E width of the graph run's vectors, V = n_items + 1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.laid_over import parts_of
from recbench.models.language.frozen_part import load_learned
from recbench.models.language.stored_config import config_of, packed
from recbench.models.registry import lookup, model_names, register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.language.backbone import backbone_width, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.graph_language import FrozenText, GraphLanguage
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.prefix_rows import states_of_prefixes

LANGUAGES: dict[str, type[GraphLanguage] | type[FrozenText]] = {"llm": GraphLanguage, "frozen_text": FrozenText}
HEADS = ("free", "tied")


@dataclass
class LLMGRConfig(BackboneConfig, SequenceConfig):
    """Backbone keys, loss keys, the run that gives the graph's states, and what is made of them."""

    name: str = "llmgr"
    dropout: float = 0.1
    language: str = "llm"  # llm | frozen_text
    graph: dict[str, Any] = field(default_factory=lambda: {"model": "gcsan"})
    train_graph: bool = False
    head: str = "free"  # free | tied
    alignment_epochs: int = 1
    text_words: int = 24
    text_buckets: int = 4096
    text_width: int = 64
    prompt_prefix: str = "### Instruction:\nName the item that the input leads to.\n\n### Input:\n"


@register("llmgr", LLMGRConfig)
class LLMGR(SequenceModel):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"text"})
    graph: SequenceModel | None
    #: Scalars int64: targets trained on so far, and in all of stage 1.
    targets_seen: Tensor
    targets_of_alignment: Tensor
    graph_config: Tensor

    @classmethod
    def dependencies(cls, config: LLMGRConfig) -> dict[str, dict[str, Any]]:
        # Asked before anything is trained: neither a wrong key nor an absent backbone must cost a graph run first.
        _check(config)
        return {"graph": config.graph}

    @classmethod
    def state_width(cls, config: LLMGRConfig) -> int | None:
        return backbone_width(config)

    def __init__(self, config: LLMGRConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        self.n_users = context.n_users
        self.width = backbone_width(config)
        source = context.dependencies.get("graph")
        # A stored run brings its own text vectors, as it brings its graph.
        texts = context.item_texts if source is not None else None
        seen = None if context.item_counts is None else (context.item_counts > 0).numpy()
        self.language = LANGUAGES[config.language](config, context.max_length, self.n_items, texts, seen)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        if config.head == "free":
            self.head = nn.Linear(self.width, context.n_items + 1, bias=False)
        epoch = 0 if context.train is None else int((context.train.end - context.train.start - 1).clip(0).sum())
        epochs = config.alignment_epochs if config.language == "llm" else 0
        self.register_buffer("targets_seen", torch.tensor(0))
        self.register_buffer("targets_of_alignment", torch.tensor(epochs * epoch))
        self.register_buffer("graph_config", torch.empty(0, dtype=torch.uint8))
        self.graph = None
        if source is not None:
            self._take_graph(copy.deepcopy(_fit_to_lend(source)))

    def _take_graph(self, graph: SequenceModel) -> None:
        """Keep the graph run's model as a part of this one, and build the map that depends on its width."""
        self.graph = graph.requires_grad_(self.config.train_graph)
        self.graph_config = packed(graph.config)
        self.project = nn.Linear(graph.item_vectors().shape[1], self.width)
        self.train(self.training)

    def train(self, mode: bool = True) -> LLMGR:
        super().train(mode)
        if self.graph is not None and not self.config.train_graph:
            self.graph.eval()  # frozen: its dropout too
        return self

    def needs_whole_batch(self) -> str:
        stage = (
            "model.alignment_epochs is a stage over the distinct items of each batch"
            if self.targets_of_alignment
            else ""
        )
        return stage or super().needs_whole_batch()

    @property
    def aligning(self) -> bool:
        """Whether the next training step belongs to stage 1."""
        return bool(self.targets_seen < self.targets_of_alignment)

    def _table(self) -> Tensor:
        """[V, E]: x of every item."""
        assert self.graph is not None
        table = self.graph.item_vectors()
        return table if self.config.train_graph else table.detach()

    def item_vectors(self) -> Tensor:
        """[V, H]: the rows of the head."""
        return self.head.weight if self.config.head == "free" else self.project(self._table())

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        return states_of_prefixes(self._states, batch)

    def last_states(self, batch: Batch) -> list[Tensor]:
        return self._states(batch)

    def _states(self, batch: Batch, inner: bool = True) -> list[Tensor]:
        """The states of whole histories, [B, H] each; the last layer's alone if not ``inner``."""
        assert self.graph is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train_graph):
            state = self.graph.queries(self.graph.last_states(batch)[-1])
        return self.language(batch, self.project(self._table()[batch.items]), self.project(state), inner)

    def score(self, batch: Batch) -> Tensor:
        # The same as from ``last_states``, without keeping the states of every layer of a deep backbone.
        return self.queries(self._states(batch, inner=False)[-1]) @ self.item_vectors().T

    def normed(self, states: Tensor) -> Tensor:
        return self.language.normed(states)

    def training_loss(self, batch: Batch) -> Tensor:
        align = self.aligning
        if self.training:
            self.targets_seen += batch.lengths.sum()
        return self.alignment_loss(batch.items) if align else super().training_loss(batch)

    def alignment_loss(self, items: Tensor) -> Tensor:
        """Stage 1 on the distinct ones of these items [..]: a description -> its item among the whole catalogue. 0 where none has a text."""
        assert isinstance(self.language, GraphLanguage)
        vectors = self.project(self._table().detach())
        states, items = self.language.descriptions(items)
        return self.loss(states, vectors, items) if len(items) else vectors.sum() * 0.0

    def stored_state(self) -> dict[str, Tensor]:
        backbone = getattr(self.language, "backbone", None)
        left_out: set[str] = set()
        if backbone is not None and backbone.frozen:
            named = {f"language.backbone.{name}" for name in backbone.state_dict()}
            left_out = named - {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        state = {
            name: value
            for name, value in self.state_dict().items()
            if name not in left_out and not name.startswith("graph.")
        }
        if self.graph is not None:
            state |= {f"graph.{name}": value for name, value in self.graph.stored_state().items()}
        return state

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        if self.graph is None:
            stored = config_of(state["graph_config"])
            graph = lookup(stored.name).model(stored, ModelContext(self.n_items, self.n_users, self.max_length))
            assert isinstance(graph, SequenceModel)
            # Its widths may come with its weights.
            graph.load_stored_state(_part(state, "graph."))
            self._take_graph(graph)
        else:
            self.graph.load_stored_state(_part(state, "graph."))
        self.graph_config = state["graph_config"].clone()
        own = {name: value for name, value in state.items() if not name.startswith("graph.")}
        load_learned(self, own, [name for name in self.stored_state() if not name.startswith("graph.")])


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _fit_to_lend(graph: Any) -> SequenceModel:
    """The graph run's model; raises UserError if it gives no states and item vectors, or could not be built again from its config alone."""
    name = graph.config.name
    if not isinstance(graph, SequenceModel):
        raise UserError(
            f"model.graph.model={name} has no states and item vectors to lend; name one that has, such as gcsan"
        )
    if parts_of(type(graph), graph.config):
        raise UserError(f"model.graph.model={name} itself needs another run; name one that does not, such as gcsan")
    return graph


def _check(config: LLMGRConfig) -> None:
    check_choices(config, {"language": tuple(LANGUAGES), "head": HEADS})
    sizes = ("n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")
    check_sizes(config, *sizes, "text_words", "text_buckets", "text_width")
    if config.alignment_epochs < 0:
        raise UserError(f"model.alignment_epochs must be at least 0, not {config.alignment_epochs}")
    check_backbone(config)
    named = config.graph.get("model")
    if named in model_names() and not issubclass(lookup(named).model, SequenceModel):
        raise UserError(
            f"model.graph.model={named} has no states and item vectors to lend; name one that has, such as gcsan"
        )
