"""TIGER: an encoder-decoder reads the codes of a history and spells the codes of the next item [Rajput et al., NeurIPS 2023].

What is different about this model: there is no item table. An item is a short tuple of codes from a tokenizer (the run under
``model.tokenizer``), so items of like text share parameters, and a list is found by a beam search over the trie of all items.

The network is written here (``nn.t5_blocks``) and not taken from transformers' T5: its decoder reads one history for all beams of a search, or
for all targets of a window, without repeating the history's keys and values, which that one cannot, and every level has its own head.

Glossary (paper -> here): semantic ID (c_0, ..., c_{m-1}) -> ``codes``; codeword of level l -> token ``codes[l]`` + codes of the levels before;
user ID token -> ``user_tokens``; beam size -> ``beams``; invalid IDs -> metric ``invalid@k`` (``constrained: false`` only).

Deviations, and why:
- The defaults are the recipe that reproduces best and not the paper's: 6 + 6 layers, dropout 0.2, no user token, a separator after every item;
  with training.lr=3e-4 training.schedule=cosine training.warmup_steps=10000 training.weight_decay=0.035 training.max_length=20
  (``conf/tuned`` has them for data=amazon). The paper's sizes and schedule are ``model=tiger_paper``.
- ``model.tokenizer.collisions=bucket`` leaves out the code that numbers colliding items; they then share a place in the list, in item order.
- A head for each level instead of one vocabulary, so no code of a wrong level can be spelt. The loss is the sum over the levels: -log p(item).
- ``samples``: prefix (one history a target, as the paper), windows (every contiguous run, as GRID; a step then has several rows a predicted
  event), one_window (one such run a target, drawn anew each epoch). A history longer than training.max_length is cut into windows that
  every model here shares, so a target near the start of one has a shorter history than it might.
- ``encoder: causal`` is not TIGER's: the encoder then reads a window once, and the target after item t asks only the items up to t. One pass
  serves all prefixes, which costs a fraction on long windows; a position then never sees what follows it within its own prefix.
- ``positions: false`` is the control for order [MMGRec, arXiv 2404.16555, reads sets]: codes of one item still know their distance, but codes of two
  items do not, so a history is a set.
- ``decoder: exact`` scores the whole catalogue by visiting every node of the trie: no beam, many times the cost; it can rank given candidates.

Shapes: B rows, L items of a history, P tokens an item, M tokens of a history, T outputs of a history (targets or beams), S levels, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.data.samples import SAMPLES, Samples, samples
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_choices, check_sizes
from recbench.models.fallback_config import FallbackConfig
from recbench.models.generative.generator import DECODERS, CodeGenerator
from recbench.models.registry import register
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.t5_blocks import DecoderLayer, EncoderLayer, KeyValue, RelativeBias, initialise

#: Groups of like length that the samples of a step are encoded in on a CPU. Elsewhere one: what a GPU waits for is the number of operations.
LENGTH_GROUPS = 4
CHOICES = {"encoder": ("bidirectional", "causal"), "samples": SAMPLES, "decoder": DECODERS}


@dataclass
class TIGERConfig(FallbackConfig, ModelConfig):
    """Sizes of the network, how it is trained, and how it is decoded; see ``conf/model/tiger.yaml``."""

    name: str = "tiger"
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"model": "rq_kmeans"})
    hidden_size: int = 128
    n_layers: int = 6
    n_heads: int = 6
    head_size: int = 64
    feedforward_size: int = 1024
    dropout: float = 0.2
    encoder: str = "bidirectional"
    samples: str = "prefix"
    separator: bool = True
    user_tokens: int = 0
    decoder: str = "beam"
    beams: int = 50
    constrained: bool = True
    positions: bool = field(default=True, metadata=LATER)  # false: a history is a set of items


@dataclass(frozen=True)
class Memory:
    """A history as the decoder asks it: keys and values of each layer [B, H, M, E], real [B, M] bool."""

    layers: list[KeyValue]
    real: Tensor


@register("tiger", TIGERConfig)
class TIGER(CodeGenerator):
    """See the head of this file."""

    def __init__(self, config: TIGERConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "n_heads", "head_size", "feedforward_size", "beams")
        check_choices(config, CHOICES)
        if config.encoder == "causal" and config.samples != "prefix":
            raise UserError(
                f"model.encoder=causal reads all prefixes in one pass, but model.samples={config.samples} asks for other "
                "histories; use model.samples=prefix"
            )
        if config.encoder == "causal" and not config.positions:
            raise UserError(
                "model.positions=false reads a history as a set, but model.encoder=causal reads it in order; use model.encoder=bidirectional"
            )
        if config.user_tokens < 0:
            raise UserError(f"model.user_tokens={config.user_tokens} must not be negative (0: no user token)")
        shape = (config.hidden_size, config.n_heads, config.head_size, config.feedforward_size, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(config.n_layers))
        self.encoder_bias = RelativeBias(config.n_heads, both_ways=config.encoder == "bidirectional")
        self.decoder_bias = RelativeBias(config.n_heads, both_ways=False)
        self.encoder_norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.decoder_norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.dropout = Dropout(config.dropout)
        self.begin = nn.Parameter(torch.randn(config.hidden_size))
        if config.separator:
            self.separator = nn.Parameter(torch.randn(config.hidden_size))
        if config.user_tokens:
            self.user_embedding = nn.Embedding(config.user_tokens, config.hidden_size)
        self.apply(initialise)
        if self.codes.numel():
            self.build()

    def build(self) -> None:
        self.token_embedding = nn.Embedding(sum(self.level_sizes), self.config.hidden_size)
        self.heads = nn.ModuleList(nn.Linear(self.config.hidden_size, size, bias=False) for size in self.level_sizes)
        self.token_embedding.apply(initialise)
        self.heads.apply(initialise)

    @property
    def tokens_per_item(self) -> int:
        return len(self.level_sizes) + bool(self.config.separator)

    def encode(self, items: Tensor, lengths: Tensor, user: Tensor) -> Memory:
        """items [B, L], lengths [B], user [B] -> what the decoder asks."""
        return self.memory(*self.encoder_states(items, lengths, user))

    def memory(self, states: Tensor, real: Tensor) -> Memory:
        """Encoder states [B, M, D] and which of them are real [B, M] -> what the decoder asks."""
        return Memory([cast(DecoderLayer, layer).cross_attention.keys(states) for layer in self.decoder], real)

    @property
    def tokens_before(self) -> int:
        """Tokens of the encoder's input that stand before the first item."""
        return int(self.config.user_tokens > 0)

    def inputs(self, items: Tensor, lengths: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        """(vectors of the tokens that the encoder reads [B, M, D], how many of them are real [B])."""
        b, length = items.shape
        x = self.token_embedding(self.tokens()[items])
        if self.config.separator:
            x = torch.cat([x, self.separator.expand(b, length, 1, -1)], dim=2)
        x, n_real = x.flatten(1, 2), lengths * self.tokens_per_item
        if self.config.user_tokens:
            x = torch.cat([self.user_embedding(hashed(user, self.config.user_tokens))[:, None], x], dim=1)
            n_real = n_real + 1
        return x, n_real

    def encoder_states(self, items: Tensor, lengths: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        """(states [B, M, D], which of them are real [B, M])."""
        x, n_real = self.inputs(items, lengths, user)
        real = torch.arange(x.shape[1], device=x.device) < n_real[:, None]
        x = self.dropout(x)
        bias = self.encoder_bias(x.shape[1])
        if not self.config.positions:
            token = torch.arange(x.shape[1], device=x.device) - self.tokens_before
            item = token.div(self.tokens_per_item, rounding_mode="floor").clamp(min=-1)
            bias = bias.masked_fill(item != item[:, None], 0.0)
        if self.config.encoder == "bidirectional":  # else right pads stand behind everything real, where nothing looks
            bias = bias.masked_fill(~real[:, None, None, :], -torch.inf)
        for layer in self.encoder:
            x = layer(x, bias)
        return self.dropout(self.encoder_norm(x)), real

    def decode(
        self, x: Tensor, memory: Memory, visible: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Inputs x [B, T, S, D] -> (states [B, T, S, D], keys and values of all positions so far, of each layer).

        visible [B, 1, 1 or T * S, M] bool: what of the history each position may see.
        """
        before = 0 if past is None else past[0][0].shape[2]
        bias = self.decoder_bias(before + x.shape[2])[:, :, before:]
        x, kept = self.dropout(x), []
        for number, layer in enumerate(self.decoder):
            x, own = layer(x, bias, memory.layers[number], visible, None if past is None else past[number])
            kept.append(own)
        return self.dropout(self.decoder_norm(x)), kept

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over targets of -log p(codes of the target | its history)."""
        if self.config.encoder == "causal":
            return self._loss_of_windows(batch)
        chosen = samples(batch, self.config.samples)
        parts = LENGTH_GROUPS if batch.items.device.type == "cpu" else 1
        losses = [self._loss_of_samples(group) for group in chosen.groups(parts)]
        return torch.stack(losses).sum() / len(chosen.targets)

    def _loss_of_samples(self, chosen: Samples) -> Tensor:
        memory = self.encode(chosen.items, chosen.lengths, chosen.user)
        targets = chosen.targets[:, None]
        states, _ = self.decode(self._shifted(targets), memory, memory.real[:, None, None, :])
        return self.cross_entropy(states[:, 0], chosen.targets)

    def _loss_of_windows(self, batch: Batch) -> Tensor:
        """All prefixes of a window from one pass of the encoder: the outputs of target t see the tokens of the items up to t."""
        assert batch.targets is not None
        memory = self.encode(batch.items, batch.lengths, batch.user)
        n_levels = len(self.level_sizes)
        end = (
            self.tokens_before
            + (torch.arange(batch.items.shape[1], device=batch.items.device) + 1) * self.tokens_per_item
        )
        token = torch.arange(memory.real.shape[1], device=end.device)
        visible = (token < end[:, None]).repeat_interleave(n_levels, dim=0)[None, None]
        states, _ = self.decode(self._shifted(batch.targets), memory, visible)
        real = batch.mask
        return self.cross_entropy(states[real], batch.targets[real]) / real.sum()

    def _shifted(self, targets: Tensor) -> Tensor:
        """targets [B, T] -> inputs [B, T, S, D]: the begin vector, then the codes but the last."""
        spelled = self.token_embedding(self.tokens()[targets][..., :-1])
        return torch.cat([self.begin.expand(*targets.shape, 1, -1), spelled], dim=2)

    def read(self, batch: Batch) -> History:
        return History(self, batch)


class History:
    """The histories of a batch as a ``decoding.codes.CodeModel``: encoded once; beams ask the same keys and values side by side."""

    def __init__(self, model: TIGER, batch: Batch) -> None:
        self.model = model
        self.memory = model.encode(batch.items, batch.lengths, batch.user)
        self.visible = self.memory.real[:, None, None, :]
        self.token_offset = (model.sizes.cumsum(0) - model.sizes).tolist()

    def first(self) -> tuple[Tensor, list[KeyValue]]:
        rows = len(self.memory.real)
        return self._step(self.model.begin.expand(rows, 1, 1, -1), None, 0)

    def next(self, state: list[KeyValue], parent: Tensor, code: Tensor) -> tuple[Tensor, list[KeyValue]]:
        level = state[0][0].shape[2]
        row = torch.arange(len(parent), device=parent.device)[:, None]
        before = state[0][0].shape[0] // len(parent)
        chosen = (row * before + parent).flatten()
        past = [(key[chosen], value[chosen]) for key, value in state]
        x = self.model.token_embedding(code + self.token_offset[level - 1])[:, :, None]
        return self._step(x, past, level)

    def _step(self, x: Tensor, past: list[KeyValue] | None, level: int) -> tuple[Tensor, list[KeyValue]]:
        states, kept = self.model.decode(x, self.memory, self.visible, past)
        return self.model.heads[level](states[:, :, 0]).float().log_softmax(dim=-1), kept


def hashed(user: Tensor, n: int) -> Tensor:
    """Users [B] scattered over 0 .. n - 1, the same in every process (multiplication by a large odd number, the upper bits)."""
    return ((user * 0x9E3779B1) & 0xFFFFFFFF) * n >> 32
