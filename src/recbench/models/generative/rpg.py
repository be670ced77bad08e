"""RPG: all codes of the next item at once, from one state of a causal transformer [Hou et al., KDD 2025].

What is different about this model: the codes of an item are many (16 to 64) and unordered, so they are predicted in parallel, each by a head of its
own, and nothing is searched. The score of an item is the mean of the log-probabilities of its codes: a gather from m small softmaxes, whatever
the size of the catalogue. So this is a scoring model, though it generates; it has no item table.

    e_i = mean of the vectors of item i's codes,   s = transformer(e_1 .. e_t),   g_j(s) = s + SiLU(W_j s)
    p_j(c) = softmax over c of cos(g_j(s), v_jc) / tau,   loss = - mean over j of log p_j(code j of the next item), at every position

Glossary (paper -> here): m -> the tokenizer's ``levels``; tau -> ``temperature``; projection heads g_j -> ``head_weight``, ``head_bias`` (the
weights start at 0, so the heads at the identity); token embeddings v_jc -> ``token_embedding``, which inputs and outputs share.

Deviations, and why:
- The full scoring of the paper's section on exact inference; its graph-constrained search, which trades accuracy for time on catalogues far larger
  than the published data, is not built.
- ``decode: confidence`` is not RPG's: codes are decided one after the other, the most certain first (``nn.decoding.confident``); what it loses
  against full scoring is what order-free decoding costs.
- Published training: lr 0.01 (Beauty) or 0.003, cosine with 10,000 steps of warm-up, gradients clipped at 1, 150 epochs, 50 events; see
  ``conf/tuned``.

Heads and softmaxes are computed level by level, with their gradients in the same pass, and in bfloat16 where the processor has it while training
(``nn.losses.code_softmax``, ``hardware.logits``). When ranking, the topmost layer runs at the last event alone.

Runs made before ``residual_dropout`` and ``activation`` existed have ReLU, and dropout also on what attention and feed-forward add and inside
the feed-forward, where the published code has none. Their keys are others.

Shapes: B rows, L positions, N real positions, D width, M codes an item, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_choices, check_heads, check_sizes
from recbench.models.fallback_config import FallbackConfig
from recbench.models.generative.coded import CodedItems
from recbench.models.registry import register
from recbench.nn.decoding.confident import confident_lists
from recbench.nn.losses.code_softmax import code_log_probs, code_softmax
from recbench.nn.transformer.attention import at_position
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.gpt2_layer import ACTIVATIONS, NORM_EPS, GPT2Layer

DECODES = ("full", "confidence")
#: Items of the best scores that count as generated where a fallback ranks them together with cold items.
GENERATED = 50


@dataclass
class RPGConfig(FallbackConfig, ModelConfig):
    """Sizes, dropout, temperature, and the run that gives the codes."""

    name: str = "rpg"
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "opq"})
    hidden_size: int = 448
    n_layers: int = 2
    n_heads: int = 4
    feedforward_size: int = 1024
    dropout: float = 0.5  # of the input vectors and of the attention weights
    temperature: float = 0.03
    residual_dropout: float = 0.0  # of what attention and feed-forward add
    activation: str = "gelu_new"
    decode: str = field(default="full", metadata=LATER)  # full | confidence
    beams: int = field(default=10, metadata=LATER)  # of decode=confidence: codes of a level that are kept


@register("rpg", RPGConfig)
class RPG(CodedItems):
    """See the head of this file."""

    def __init__(self, config: RPGConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "n_heads", "feedforward_size")
        check_heads(config)
        if not config.temperature > 0:
            raise UserError(f"model.temperature={config.temperature:g} must be positive")
        check_choices(config, {"activation": tuple(ACTIVATIONS), "decode": DECODES})
        if config.beams < 1:
            raise UserError(f"model.beams must be at least 1, not {config.beams}")
        d = config.hidden_size
        #: Whether the heads and their softmaxes run in bfloat16 while training (``hardware.logits``).
        self.bfloat16_logits = False
        self.position_embedding = nn.Embedding(context.max_length, d)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            GPT2Layer(
                d,
                config.n_heads,
                config.feedforward_size,
                config.dropout,
                config.residual_dropout,
                config.activation,
            )
            for _ in range(config.n_layers)
        )
        self.final_norm = nn.LayerNorm(d, eps=NORM_EPS)
        self.apply(_initialise)
        if self.codes.numel():
            self.build()

    def build(self) -> None:
        d, n_levels = self.config.hidden_size, len(self.level_sizes)
        self.token_embedding = nn.Embedding(sum(self.level_sizes), d)
        self.token_embedding.apply(_initialise)
        self.head_weight = nn.Parameter(torch.zeros(n_levels, d, d))
        self.head_bias = nn.Parameter(torch.zeros(n_levels, 1, d))

    def item_inputs(self, items: Tensor) -> Tensor:
        """items [B, L] -> [B, L, D]: the mean of the vectors of each one's codes. Of the batch's different items, each is looked up once."""
        different, place = items.unique(return_inverse=True)
        return F.embedding_bag(self.tokens()[different], self.token_embedding.weight, mode="mean")[place]

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = self._below(batch)
        states.append(self.final_norm(self.layers[-1](states[-1])))
        return states

    def last_state(self, batch: Batch) -> Tensor:
        """[B, D]: the state after the last layer at the last event of each history, all that ranking needs; in evaluation mode only."""
        top: Any = self.layers[-1]
        return self.final_norm(top.last(self._below(batch)[-1], batch.lengths - 1))

    def _below(self, batch: Batch) -> list[Tensor]:
        """The states after the input layer and after each block but the topmost, [B, L, D] each."""
        positions = self.position_embedding.weight[: batch.items.shape[1]]
        states = [self.dropout(self.item_inputs(batch.items) + positions)]
        for layer in self.layers[:-1]:
            states.append(layer(states[-1]))
        return states

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        real = batch.mask
        return code_softmax(
            states[-1][real],
            self.head_weight,
            self.head_bias,
            self.token_embedding.weight,
            self.codes[batch.targets[real]],
            self.level_sizes,
            self.config.temperature,
            self.bfloat16_logits,
        )

    @property
    def gives_lists(self) -> bool:
        return bool(self.config.decode == "confidence")

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        if self.config.decode == "full":
            return super().recommend(batch, k)
        items, scores = confident_lists(
            self._code_table(batch), self.tokens()[1:], self.level_sizes, self.config.beams, min(k, self.n_items)
        )
        return (
            (items, scores) if self.fallback is None else self.fallback.into_lists(items, scores, batch, items.shape[1])
        )

    def score(self, batch: Batch) -> Tensor:
        """[B, V]: mean log-probability of each item's codes; items of equal codes tie. The pad's is -inf."""
        # A row a code and a column a user: an item gathers M rows that lie in one piece each.
        scores = F.embedding_bag(self.tokens()[1:], self._code_table(batch), mode="mean").T
        scores = F.pad(scores, (1, 0), value=-torch.inf)
        return scores if self.fallback is None else self.fallback.into_scores(scores, batch, GENERATED)

    def _code_table(self, batch: Batch) -> Tensor:
        """[T, B]: log-probabilities of the codes of all levels after each history."""
        states = (
            at_position(self.hidden_states(batch)[-1], batch.lengths - 1) if self.training else self.last_state(batch)
        )
        return code_log_probs(
            states,
            self.head_weight,
            self.head_bias,
            self.token_embedding.weight,
            self.level_sizes,
            self.config.temperature,
        )


def _initialise(module: nn.Module) -> None:
    """As every transformer here: N(0, 0.02), and no bias."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
