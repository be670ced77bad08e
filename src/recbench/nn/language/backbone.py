"""A language model's first layers as a sequence encoder: item vectors in, a state after each layer out.

``tiny`` is a small Llama-style decoder with random weights that needs no download; any other name is read through transformers
(``nn.pretrained``), with adapters in a frozen one (``nn.lora``) and perhaps a constant prompt around the items (``nn.prompt``).
The input is right-padded and attention causal, so a real position never sees a pad.

Shapes: B rows, L items of the longest history, H width, P and S positions of the prompt before and behind the items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError, nearest
from recbench.nn.bfloat16 import as_float32, is_emulated
from recbench.nn.language import attention
from recbench.nn.language.backbone_config import (
    INITS,
    PRECISIONS,
    PROMPTS,
    BackboneConfig,
    check_precision,
    is_frozen,
)
from recbench.nn.language.last_position import is_traced, last_attention_end, last_feedforward, read_at
from recbench.nn.language.lora import with_lora
from recbench.nn.language.merged_adapters import ReadyAdapters, in_place, ready_adapters
from recbench.nn.language.pretrained import (
    final_norm,
    first_layers,
    first_position,
    read_config,
    without_token_table,
)
from recbench.nn.language.prompt import build_prompt, check_prompt, masked_positions, placed, sees_before
from recbench.nn.language.tiny import tiny_model

#: Positions of histories that are read at once on a CPU where nothing is learned.
PIECE_POSITIONS = 1024


def check_backbone(config: BackboneConfig) -> None:
    """Raise UserError for keys that cannot go together or a backbone that cannot be found; builds nothing and reads no weights."""
    if config.n_layers < 1:
        raise UserError(f"model.n_layers must be at least 1, not {config.n_layers}")
    if config.lora_rank < 0:
        raise UserError(f"model.lora_rank must be at least 0, not {config.lora_rank}")
    for key, known in (("init", INITS), ("precision", PRECISIONS), ("prompt", PROMPTS)):
        value = getattr(config, key)
        if value not in known:
            raise UserError(f"unknown model.{key} '{value}'; {nearest(value, known)}")
    if config.init == "random_frozen" and config.lora_rank == 0:
        raise UserError("with model.init=random_frozen only adapters learn; set model.lora_rank to at least 1")
    check_precision(config)
    check_prompt(config)
    if config.backbone == "tiny":
        if config.tiny_n_heads > 0 and config.tiny_hidden_size % (2 * config.tiny_n_heads):
            raise UserError(
                f"model.tiny_hidden_size={config.tiny_hidden_size} must be a multiple of twice model.tiny_n_heads={config.tiny_n_heads}"
            )
    else:
        read_config(config.backbone, config.n_layers)


class Backbone(nn.Module):
    """[B, L, H] -> states after the input and after each layer, [B, L, H] each, the last ones after the final norm.

    With a prompt, the state at item t is that of the prompt's last position where the history ends at t. Raises UserError for a config
    that cannot be built, and for histories that with the prompt are longer than the backbone reads. ``keep_tokens`` leaves the token table in
    place, frozen, for a caller that mixes texts of its own with the vectors.
    """

    _is_built = False

    def __init__(self, config: BackboneConfig, max_length: int, keep_tokens: bool = False) -> None:
        super().__init__()
        check_backbone(config)
        self.frozen = is_frozen(config)
        self.width: int = backbone_width(config)
        self.prompt = build_prompt(config, self.width)
        self.dtype = torch.float32 if config.precision == "float32" else torch.bfloat16
        around = self.prompt.length if self.prompt is not None else 0
        tiny = config.backbone == "tiny"
        tokens = config.prompt == "text" or keep_tokens
        model = (
            tiny_model(config, max_length + around)
            if tiny
            else first_layers(config, max_length, around, self.dtype, tokens)
        )
        if not tokens:
            without_token_table(model)
        # Vectors go in, never tokens: the token table would get no gradient.
        model.get_input_embeddings().requires_grad_(False)
        self.first_position = first_position(model)
        self.model: Any = model
        if not tiny:
            self._refuse_foresight(config)
        if self.frozen:
            self.model = with_lora(model, config)
        self.model.train()  # transformers hands a stored model over in evaluation mode, without its dropout
        self._final_norm = final_norm(self.model)
        if self.dtype == torch.bfloat16:
            attention.widen(model)
        # In a list, so that it is not a module of this one a second time.
        self._last_feedforward = [last_feedforward(model)]
        self._last_attention = [last_attention_end(model)]
        #: False reads the prompt's prefix in every row, as in the paper's code: for measuring what reuse saves.
        self.reuse_prefix = True
        self._kept: tuple[Any, Any] | None = None
        self._ready: tuple[Any, ReadyAdapters] | None = None
        self._is_built = True

    def normed(self, states: Tensor) -> Tensor:
        """States of an inner layer [..., H] as the final norm would leave them; themselves where there is none, as in a BERT."""
        if self._final_norm is None:
            return states
        norm = self.model.get_submodule(self._final_norm)
        self._adjust(states.device)
        return norm(states.to(self.dtype)).to(states.dtype)

    def forward(self, vectors: Tensor) -> list[Tensor]:
        if self.prompt is None:
            return self._states(vectors)
        prefix, suffix = self.prompt.ends(self.model.get_input_embeddings())
        rows, length, _ = vectors.shape
        n_suffix = len(suffix)
        copies = suffix.to(vectors.dtype).expand(rows, length, -1, -1).flatten(1, 2)
        mask, positions = masked_positions(len(prefix), length, n_suffix, vectors.device)
        states = self._behind(prefix, torch.cat([vectors, copies], 1), mask, positions)
        if not n_suffix:
            return states
        return [s[:, length:].unflatten(1, (length, n_suffix))[:, :, -1] for s in states]

    def last(self, vectors: Tensor, lengths: Tensor, inner: bool = True) -> list[Tensor]:
        """The states at the end of each history only: vectors [B, L, H], lengths [B] -> [B, H] each; the last layer's alone if not ``inner``.

        With a prompt this is one plain sequence a row, where ``forward`` reads one suffix a position. On a CPU, where nothing is learned, rows are
        read in pieces whose states stay small, for fresh memory for large ones costs as much as the products, and adapters are a part of the weights
        or of their precision (``nn.language.merged_adapters``).
        """
        self._adjust(vectors.device)
        if self.training or torch.is_grad_enabled() or vectors.device.type != "cpu" or is_traced():
            return self._last(vectors, lengths, inner)
        at_once = max(1, PIECE_POSITIONS // vectors.shape[1])
        with in_place(self._ready_adapters()):
            pieces = zip(vectors.split(at_once), lengths.split(at_once), strict=True)
            parts = [self._last(some, ends, inner) for some, ends in pieces]
        return parts[0] if len(parts) == 1 else [torch.cat(states) for states in zip(*parts, strict=True)]

    @property
    def one_position(self) -> list[nn.Module | None]:
        """Parts of the last layer that need compute only what is read."""
        return [*self._last_attention, *self._last_feedforward]

    def _ready_adapters(self) -> ReadyAdapters:
        """Kept until a weight changes, or the model is trained on."""
        if not self.frozen:
            return ReadyAdapters([], [])
        version = self._state_of_weights()
        if self._ready is None or self._ready[0] != version:
            self._ready = (version, ready_adapters(self.model))
        return self._ready[1]

    def _state_of_weights(self) -> tuple[tuple[int, int], ...]:
        return tuple((id(p), p._version) for p in self.parameters())

    def _last(self, vectors: Tensor, lengths: Tensor, inner: bool) -> list[Tensor]:
        if self.prompt is None:
            with read_at(self.one_position, lengths - 1, vectors.shape[1]):
                n_suffix, states = 0, self._states(vectors, inner=inner)
        else:
            prefix, suffix = self.prompt.ends(self.model.get_input_embeddings())
            n_suffix = len(suffix)
            body = placed(vectors, lengths, suffix.to(vectors.dtype))
            positions = torch.arange(len(prefix) + body.shape[1], device=body.device)
            kept = 0 if self.reuse_prefix else len(prefix)
            with read_at(self.one_position, lengths - 1 + n_suffix + kept, body.shape[1] + kept):
                states = self._behind(prefix, body, None, positions, inner)
        rows = torch.arange(vectors.shape[0], device=vectors.device)
        return [s[rows, lengths - 1 + n_suffix] for s in states]

    def read(
        self, vectors: Tensor, cache: Any = None, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """The last layer's states [B, Q, H] of ``vectors`` alone, which stand behind what ``cache`` holds and are added to it.

        mask [B, Q, K] bool, True where a row sees a column, or None for a plain causal one; positions [B, Q], or None: 0, 1, ...
        """
        return self._states(vectors, mask, positions, cache, inner=False)[0]

    def _behind(
        self, prefix: Tensor, body: Tensor, mask: Tensor | None, positions: Tensor, inner: bool = True
    ) -> list[Tensor]:
        """States of ``body`` [B, Q, H], each row of which stands behind ``prefix`` [P, H].

        mask [P + Q, P + Q] bool, True where a row sees a column, or None for a plain causal one; positions [P + Q].
        """
        n_prefix, n_body = len(prefix), body.shape[1]
        if n_prefix and self.reuse_prefix:
            seen = sees_before(n_prefix, n_body, body.device) if mask is None else mask[n_prefix:]
            return self._states(body, seen, positions[n_prefix:], self._prefix_cache(prefix), inner)
        whole = torch.cat([prefix.to(body.dtype).expand(body.shape[0], -1, -1), body], 1) if n_prefix else body
        return [s[:, n_prefix:] for s in self._states(whole, mask, positions, None, inner)]

    def _states(
        self,
        vectors: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
        inner: bool = True,
    ) -> list[Tensor]:
        self._adjust(vectors.device)
        given: dict[str, Any] = {}
        if mask is not None:
            given["attention_mask"] = self._as_read(mask)
        if positions is not None:
            given["position_ids"] = torch.atleast_2d(positions) + self.first_position
        if cache is not None:
            given["past_key_values"] = cache
        output = self.model(
            inputs_embeds=vectors.to(self.dtype),
            use_cache=cache is not None,
            output_hidden_states=inner,
            **given,
        )
        states = output.hidden_states if inner else (output.last_hidden_state,)
        return [s.to(vectors.dtype) for s in states]

    def _adjust(self, device: torch.device) -> None:
        """For a processor that would emulate the weights' precision; not while the model is built, for it may go to a GPU."""
        if self._is_built and is_emulated(device.type, self.dtype):
            as_float32(self.model)
            self.dtype = torch.float32

    def _as_read(self, mask: Tensor) -> Tensor:
        """[Q, K] or [B, Q, K] bool as this model's attention takes it: [1 or B, 1, Q, K], added to the logits where it is not fused."""
        mask = mask.view(-1, 1, *mask.shape[-2:])
        if self.model.config._attn_implementation in ("sdpa", attention.NAME):
            return mask
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill_(~mask, torch.finfo(self.dtype).min)

    def _prefix_cache(self, prefix: Tensor) -> Any:
        """Keys and values of the prefix in every layer, computed for one row. Kept while nothing is trained and no weight changes."""
        from recbench.nn.language.prefix_cache import cache_of

        keep = not self.training and not torch.is_grad_enabled()
        version = self._state_of_weights() if keep else None
        if keep and self._kept is not None and self._kept[0] == version:
            return self._kept[1]
        positions = torch.arange(len(prefix), device=prefix.device)
        cache = cache_of(
            lambda vectors, empty: self._states(vectors, None, positions, empty, inner=False), prefix[None]
        )
        self._kept = (version, cache) if keep else None
        return cache

    def train(self, mode: bool = True) -> Backbone:
        self._kept = self._ready = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Backbone:
        self._kept = self._ready = None
        return super()._apply(*args, **kwargs)

    @torch.no_grad()
    def _refuse_foresight(self, config: BackboneConfig) -> None:
        """Raise UserError if a position sees a later one, as in an encoder that cannot be made a decoder: it would read its own target."""
        place = next(self.model.parameters()).device
        if place.type == "meta":
            return
        was_training = self.model.training
        self.model.eval()
        ramp = torch.linspace(-1.0, 1.0, self.width, device=place)
        pairs = torch.stack([torch.stack([ramp, ramp]), torch.stack([ramp, -ramp])])
        first, second = self._states(pairs, inner=False)[0][:, 0]
        self.model.train(was_training)
        # Outliers of one position change how int8 rounds another.
        tolerance = 0.05 if config.precision == "int8" else 1e-4
        if (first - second).abs().max() > tolerance * first.abs().max().clamp_min(1e-6):
            raise UserError(
                f"the backbone '{config.backbone}' ({self.model.config.model_type}) lets a position see later ones and has no decoder mode; "
                "name a decoder, or an encoder of the BERT, RoBERTa or ELECTRA kind"
            )


def backbone_width(config: BackboneConfig) -> int:
    """H of a backbone with this config, read without weights. Raises UserError if it is named and cannot be had."""
    if config.backbone == "tiny":
        return config.tiny_hidden_size
    return read_config(config.backbone, config.n_layers).hidden_size
