"""TiM4Rec: Mamba-2 layers over the history whose step sizes are modulated by the time between events [arXiv 2409.16182, Neurocomputing 2025].

What is different about this model: how much an event adds to the state of a layer, and how much of the past it lets go, depends on the gap
before it: Delta = softplus(r m + dt_bias), where r comes from the item and m from the gaps. There are no positions.

    u = norm(drop(E[i]));   h = norm(drop(ssd(u, m)) + u);   u' = norm(h + drop(W4 drop(hardswish(W3 h))));   score = u' . E[j]

Two forms (``form``):
- ``released`` does what the released code does. tau is the layer norm, over all max_length slots, of the raw seconds between them, pads
  included; its MLP mixes all slots. So a position sees gaps of later events, and even its distance to the pads: nothing but the last
  state of a row may be read, and every prefix of a history is a row of its own. Those rows are made here, from the batch.
- ``causal`` (default) takes v = log(1 + gap), standardised on the training data, and a per-position MLP. No position sees a later gap, all of
  them are trained at once, which is cheaper by the length of a history, and short histories keep their time signal: under the
  released norm the one gap of a billion seconds between the last event and the first pad drowns all others.
``use_time: false`` makes either a plain SSD recommender: the paper's ablation, and its released setting on KuaiRand.

Glossary (paper -> here): X, Delta, A, B, C, D, L -> ``nn.state_space``; d_i -> ``gaps``; tau -> ``tau``; TiSSD -> ``nn.ssd_mixer`` with the
modulation m of ``nn.time_modulation``; p2p_residual -> ``gate_per_position``.

Where this deviates from the code, and why:
- Timestamps are integers until the gap is taken. The code holds them as float32, which knows them to the nearest 64 seconds on MovieLens
  and so makes half as many zero gaps again as there are.
- The pad is no class of the softmax; the code scores its row as an item.
- ``causal`` feeds the same v to every layer; the code's hand-over of tau from layer to layer is a norm over the sequence.
The text of the paper multiplies the decay itself by the gap; the code, followed here, does it through Delta.

Shapes: B rows, L positions (``released``: always max_length), D hidden size, H heads, V = n_items + 1, R prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.recurrent.causal_conv import CausalConv
from recbench.nn.recurrent.ssd_mixer import SSDMixer
from recbench.nn.recurrent.time_gaps import LogGaps, gaps, warn_of_equal_gaps
from recbench.nn.recurrent.time_modulation import AcrossSequence, PerPosition
from recbench.nn.transformer.attention import at_position
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.feedforward import PostNormFeedForward

FORMS = ("causal", "released")

#: Positions of prefix rows that are computed at once; a batch with more goes piece by piece, each computed again for its gradient.
CHUNK_POSITIONS = 32_768
#: Prefixes are computed together whose lengths, rounded up to this many slots, are the same.
SLOTS = 8


@dataclass
class TiM4RecConfig(SequenceConfig):
    """Sizes, dropout and what is done with time; the loss keys are those of every scoring model."""

    name: str = "tim4rec"
    form: str = "causal"  # causal | released
    use_time: bool = True
    hidden_size: int = 64
    n_layers: int = 2
    expand: int = 2
    head_size: int = 32
    state_size: int = 32
    conv_taps: int = 4
    dropout: float = 0.4
    time_dropout: float = 0.0
    time_hidden_size: int = 16  # of the per-position MLP: causal form only
    gate_per_position: bool = False  # of tau's hand-over between layers: released form only
    norm_eps: float = 1e-5
    kaiming_conv: bool = False  # start of the convolutions: Kaiming with zero bias, or torch's own
    version: int = field(default=1, metadata=LATER)  # of what a seed draws; 2 wherever the form is released

    def __post_init__(self) -> None:
        if self.form == "released":
            self.version = 2

    @property
    def n_ssd_heads(self) -> int:
        return self.expand * self.hidden_size // self.head_size


class TiM4RecLayer(nn.Module):
    """[B, L, D] and what the gaps say, [B, L, H] or none, -> [B, L, D], or [B, D] at one position of each row."""

    def __init__(self, config: TiM4RecConfig, length: int, last: bool) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.norm_eps
        self.residual = config.n_layers > 1
        self.mixer = SSDMixer(d, config.expand, config.head_size, config.state_size, config.conv_taps, F.hardswish, eps)
        self.time: PerPosition | AcrossSequence | None = None
        if config.use_time and config.form == "causal":
            self.time = PerPosition(config.n_ssd_heads, config.time_hidden_size, config.conv_taps, config.time_dropout)
        elif config.use_time:
            rows = length if config.gate_per_position else 1
            self.time = AcrossSequence(
                length, config.n_ssd_heads, config.conv_taps, config.time_dropout, rows, eps, last
            )
        self.norm = nn.LayerNorm(d, eps=eps)
        self.dropout = Dropout(config.dropout)
        self.feedforward = PostNormFeedForward(d, 4 * d, config.dropout, F.hardswish, 1e-12)

    def forward(self, u: Tensor, modulation: Tensor | None, at: Tensor | None = None) -> Tensor:
        mixed = self.dropout(self.mixer(u, modulation, at))
        if not self.residual:
            return self.feedforward(self.norm(mixed))
        return self.feedforward(self.norm(mixed + (u if at is None else at_position(u, at))))


@register("tim4rec", TiM4RecConfig)
class TiM4Rec(SequenceModel):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"timestamps"})

    def __init__(self, config: TiM4RecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        d = config.hidden_size
        # What hidden_states gives for a position never depends on a later event, in either form; but in the released one only because each
        # prefix is computed on its own.
        self.is_causal = config.form == "causal"  # type: ignore[misc]
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.input_norm = nn.LayerNorm(d, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.log_gaps = LogGaps(context.train) if config.use_time and config.form == "causal" else None
        self.gap_norm = None
        if config.use_time and config.form == "released":
            self.gap_norm = nn.LayerNorm(context.max_length, eps=config.norm_eps)
        if config.use_time and context.train is not None:
            warn_of_equal_gaps(config.name, context.train)
        last = config.n_layers - 1
        self.layers = nn.ModuleList(TiM4RecLayer(config, context.max_length, k == last) for k in range(config.n_layers))
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        _initialise(self, config)

    def item_vectors(self) -> Tensor:
        """[V, D]: what hidden states are compared with."""
        return self.item_embedding.weight

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        if self.config.form == "causal":
            return self._states(batch.items, self._log_gap_modulations(batch))
        row, last = batch.mask.nonzero(as_tuple=True)  # [R]
        found = []
        for values in self._prefix_states(batch, row, last):
            states = torch.zeros(*batch.items.shape, self.width, dtype=values.dtype, device=values.device)
            found.append(states.index_put((row, last), values))
        return found

    def last_states(self, batch: Batch) -> list[Tensor]:
        last = batch.lengths - 1
        if self.config.form == "causal":
            return self._states(batch.items, self._log_gap_modulations(batch), last)
        return self._prefix_states(batch, torch.arange(len(last), device=last.device), last)

    def _states(self, items: Tensor, modulations: Iterator[Tensor | None], at: Tensor | None = None) -> list[Tensor]:
        """Input states and those after each layer, [B, L, D] each; at the positions ``at`` [B] alone: [B, D], and the topmost layer is computed
        nowhere else."""
        states = self._input(items)
        found = [states if at is None else at_position(states, at)]
        for layer, modulation in zip(self.layers, modulations, strict=True):
            heard = None if modulation is None else modulation[:, : items.shape[1]]
            topmost = layer is self.layers[-1]
            states = layer(states, heard, at if topmost else None)
            found.append(states if at is None or topmost else at_position(states, at))
        return found

    def _input(self, items: Tensor) -> Tensor:
        return self.input_norm(self.dropout(self.item_embedding(items)))

    def _modulations(self, tau: Tensor | None) -> Iterator[Tensor | None]:
        """What the gaps say to each layer, [B, L, H], or none; tau is [B, L] in the causal form, [B, H, L] in the released one."""
        for layer in self.layers:
            time = cast(TiM4RecLayer, layer).time
            if isinstance(time, AcrossSequence):
                modulation, tau = time(tau)
                yield modulation
            else:
                yield None if time is None else time(tau)

    def _log_gap_modulations(self, batch: Batch) -> Iterator[Tensor | None]:
        return self._modulations(None if self.log_gaps is None else self.log_gaps(batch.timestamps, batch.mask))

    def _prefix_states(self, batch: Batch, row: Tensor, last: Tensor) -> list[Tensor]:
        """The released form at the ends of the prefixes ``batch[row, : last + 1]``, row and last [R] -> [R, D] each.

        Prefixes of like length are computed together, at most ``CHUNK_POSITIONS`` at once.
        """
        width = (last // SLOTS + 1) * SLOTS
        pieces = [
            piece
            for size in width.unique().tolist()
            for piece in (width == size).nonzero()[:, 0].split(max(1, CHUNK_POSITIONS // size))
        ]
        again = torch.is_grad_enabled() and int(width.sum()) > CHUNK_POSITIONS
        done = [
            checkpoint(self._states_of_prefixes, batch, row[piece], last[piece], use_reentrant=False)
            if again
            else self._states_of_prefixes(batch, row[piece], last[piece])
            for piece in pieces
        ]
        back = torch.cat(pieces).argsort()
        return [torch.cat(parts)[back] for parts in zip(*done, strict=True)]

    def _states_of_prefixes(self, batch: Batch, row: Tensor, last: Tensor) -> list[Tensor]:
        """The same for prefixes that are computed together, in as many slots as the longest of them has."""
        modulations = self._modulations(self._raw_gap_tau(_prefixes(batch.timestamps, row, last, self.max_length)))
        return self._states(_prefixes(batch.items, row, last, int(last.max()) + 1), modulations, last)

    def _raw_gap_tau(self, timestamps: Tensor) -> Tensor | None:
        """[R, max_length] -> [R, H, max_length]: raw seconds between slots, pads at time 0 included, normed over the slots."""
        if self.gap_norm is None:
            return None
        tau = self.gap_norm(self.dropout(gaps(timestamps).to(self.gap_norm.weight.dtype)))
        return tau[:, None].expand(-1, self.config.n_ssd_heads, -1)


def _prefixes(values: Tensor, row: Tensor, last: Tensor, slots: int) -> Tensor:
    """``values[row, : last + 1]``, [B, L] -> [R, slots], 0 behind each prefix."""
    width = min(values.shape[1], slots)
    inside = torch.arange(slots, device=row.device) <= last[:, None]
    return F.pad(values[row, :width], (0, slots - width)).masked_fill(~inside, 0)


def _check(config: TiM4RecConfig) -> None:
    if config.form not in FORMS:
        raise UserError(f"unknown model.form '{config.form}'; known: {', '.join(FORMS)}")
    check_sizes(config, "hidden_size", "n_layers", "expand", "head_size", "state_size", "conv_taps", "time_hidden_size")
    if config.expand * config.hidden_size % config.head_size:
        raise UserError(
            f"model.expand * model.hidden_size = {config.expand * config.hidden_size} is not a multiple of model.head_size={config.head_size}"
        )
    if not 0 <= config.time_dropout < 1:
        raise UserError(f"model.time_dropout must lie between 0 and 1, not {config.time_dropout:g}")


def _initialise(model: TiM4Rec, config: TiM4RecConfig) -> None:
    """The released code's start: N(0, 0.02) for linear layers and items, zero biases.

    But the per-position MLP keeps torch's own: its one input is no wider than 1, and at 0.02 it would pass on next to nothing.
    """
    kept = {id(part) for module in model.modules() if isinstance(module, PerPosition) for part in module.mlp}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding) and id(module) not in kept:
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and id(module) not in kept:
            nn.init.zeros_(module.bias)
        if isinstance(module, CausalConv) and config.kaiming_conv:
            nn.init.kaiming_normal_(module.weight[:, None], mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        model.item_embedding.weight[0] = 0.0
