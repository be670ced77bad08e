"""Several adapters side by side through one frozen backbone, mixed after every layer by a small learned layer (X-Cross).

    h_m      what layer l makes of stream m with the adapter of source m
    z        = W_l [h_1; ...; h_n] + b_l, n x n numbers at each position, all 0 at the start
    x_m      = h_m + z_mm h_m + sum_{j != m} z_mj (h_j - h_m)        goes into layer l + 1 of stream m
    read     the mean of the streams behind the last layer

Streams stand side by side in the batch, so a layer is read once for all of them.

Shapes: B rows, L positions, d width, n streams.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.nn.language.adapter_bank import AdapterBank, MixedLinear
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.lora import FEEDFORWARD

#: How streams become one: by integrators in each layer, or by one share for each adapter, in one stream.
MERGES = ("layers", "shares")
ADAPTER = re.compile(r"(?:.*\.)?model\.base_model\.model\.(.+)\.lora_([AB])\.default\.weight")


class Integrated(nn.Module):
    """A layer of the backbone, and the integrator behind it. What goes in and out: [n B, L, d], stream by stream."""

    def __init__(self, layer: nn.Module, n: int, width: int) -> None:
        super().__init__()
        self.layer, self.n = layer, n
        self.mix = nn.Linear(n * width, n * n)
        #: Which kind of attention a layer has; asked by some families.
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, states: Tensor, *given: Any, **named: Any) -> Any:
        out = self.layer(states, *given, **named)
        if isinstance(out, tuple):
            return self._mixed(out[0]), *out[1:]
        return self._mixed(out)

    def _mixed(self, states: Tensor) -> Tensor:
        n = self.n
        streams = states.unflatten(0, (n, -1))
        z = self.mix(streams.permute(1, 2, 0, 3).flatten(2).to(self.mix.weight.dtype)).unflatten(-1, (n, n))
        others = z.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), 0.0)
        own = 1.0 + z.diagonal(dim1=-2, dim2=-1) - others.sum(-1)
        weights = others + torch.diag_embed(own)
        return torch.einsum("blmj,jbld->mbld", weights.to(states.dtype), streams).flatten(0, 1)


class CrossBackbone(Backbone):
    """A backbone with ``config.n_streams`` adapters; ``config.merge`` as in MERGES. A frozen one learns the mixing alone.

    Raises UserError as Backbone does, and for a backbone whose layers do not stand in one list.
    """

    def __init__(self, config: Any, max_length: int, keep_tokens: bool = False) -> None:
        super().__init__(config, max_length, keep_tokens)
        if self.frozen:
            self.model = self.model.unload()
        self.n, self.merge = config.n_streams, config.merge
        targets = config.lora_targets or [target for group in FEEDFORWARD for target in group]
        start = 0.0 if config.source_keys else 0.1
        self.bank = AdapterBank(self.model, targets, self.n, config.lora_rank, config.lora_alpha, "sum", start)
        #: By the names that they have without integrators, as in the runs that they come from.
        self.adapted = {name: part for name, part in self.model.named_modules() if isinstance(part, MixedLinear)}
        if self.frozen:
            for part in self.adapted.values():
                part.down.requires_grad_(False)
                part.up.requires_grad_(False)
        if self.merge == "shares":
            self.shares = nn.Parameter(torch.zeros(self.n))
            return
        layers = next(
            (
                part
                for part in self.model.children()
                if isinstance(part, nn.ModuleList) and len(part) == config.n_layers
            ),
            None,
        )
        if layers is None:
            raise UserError(f"the layers of the backbone '{config.backbone}' stand in no list; set model.merge=shares")
        for place, layer in enumerate(layers):
            layers[place] = Integrated(layer, self.n, self.width)
        self.reset()

    def integrators(self) -> list[Integrated]:
        """Of the layers, first to last; none where shares are learned in their place."""
        return [part for part in self.model.modules() if isinstance(part, Integrated)]

    @property
    def one_position(self) -> list[nn.Module | None]:
        """None: what the adapters are mixed by is told of every position."""
        return []

    def reset(self) -> None:
        """Integrators as at the start: each stream is its own adapter's."""
        for part in self.integrators():
            nn.init.zeros_(part.mix.weight)
            nn.init.zeros_(part.mix.bias)

    def read(
        self, vectors: Tensor, cache: Any = None, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        rows, length = vectors.shape[:2]
        if self.merge == "shares":
            with self.bank.mixing(self.shares.softmax(0).expand(rows, length, -1)):
                return super().read(vectors, cache, mask, positions)

        def streams(some: Tensor | None) -> Tensor | None:
            return None if some is None else torch.cat([some] * self.n)

        own = torch.eye(self.n, device=vectors.device).repeat_interleave(rows, 0)[:, None].expand(-1, length, -1)
        with self.bank.mixing(own):
            read = super().read(torch.cat([vectors] * self.n), cache, streams(mask), streams(positions))
        return read.unflatten(0, (self.n, rows)).mean(0)

    @torch.no_grad()
    def take(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Put the adapters that a run stored into place ``number``. Raises UserError where they are of other layers or of another size."""
        found = {(match[1], match[2]): value for name, value in state.items() if (match := ADAPTER.fullmatch(name))}
        if {name for name, _ in found} != set(self.adapted):
            raise UserError(
                "its adapters are in other layers; set model.lora_targets and model.n_layers to those of the run"
            )
        for name, part in self.adapted.items():
            down, up = found[name, "A"], found[name, "B"]
            if down.shape != part.down.shape[1:] or up.shape != part.up.shape[1:]:
                raise UserError("its adapters are of another size; set model.lora_rank to that of the run")
            part.down[number] = down
            part.up[number] = up
