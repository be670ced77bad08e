"""SASRec: a causal transformer over the history, scored against an item table [Kang and McAuley, ICDM 2018], and its stronger variants.

One network with four named configs under ``conf/model``:

    sasrec            pre-norm blocks, exact softmax, tied table: what the others are measured against
    sasrec_original   the authors' own block, d 50, one head, binary cross-entropy with one negative
    gsasrec           the same block, a separate output table, 256 negatives and a calibrated loss [Petrov and Macdonald, RecSys 2023]
    esasrec           LiGR's gated blocks, softmax over 256 negatives of each position without logQ [eSASRec, RecSys 2025]

What ``sasrec`` changes against the paper, and why:
- The default loss is the exact softmax over the catalogue. With the paper's one sampled negative (``loss: bce, n_negatives: 1``) the same
  network stays far below what it can do, which made it a weak baseline for years [Klenitskiy and Vasilev, RecSys 2023].
- Blocks are pre-norm with an output projection in attention; the paper adds the residual onto the normalised query and has no projection.
What all four change: histories are padded on the right and positions counted from the oldest event, so that no real position sees a pad;
weights start at N(0, 0.02), positions at ``position_deviation``; a negative may be an item of the user's past, only not the target; AdamW has
its usual betas.

Glossary (paper -> here): E_hat input matrix -> ``embed``; M item table -> ``item_embedding``; P positions -> ``position_embedding``;
F_t^(b) -> entry b of ``hidden_states``; r_{i,t} relevance -> column i of ``score``; b blocks -> ``n_layers``; d -> ``hidden_size``.

Shapes: B rows, L positions, D hidden size, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_heads, check_sizes
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceConfig, SequenceModel
from recbench.nn.losses.catalogue import CatalogueLoss
from recbench.nn.transformer.attention import TransformerLayer, at_position
from recbench.nn.transformer.dropout import Dropout
from recbench.nn.transformer.sasrec_blocks import LiGRLayer, OriginalLayer

#: The block of each layer, and whether the stack ends in a norm: LiGR's published stack does not.
BLOCKS: dict[str, tuple[type[TransformerLayer | OriginalLayer | LiGRLayer], bool]] = {
    "pre_norm": (TransformerLayer, True),
    "original": (OriginalLayer, True),
    "ligr": (LiGRLayer, False),
}


@dataclass
class SASRecConfig(SequenceConfig):
    """Sizes, dropout and the choices that make a variant; the loss keys are those of every scoring model."""

    name: str = "sasrec"
    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    feedforward_size: int = 256
    dropout: float = 0.5
    block: str = field(default="pre_norm", metadata=LATER)  # pre_norm | original | ligr
    scale_embedding: bool = field(default=True, metadata=LATER)  # item vectors times sqrt(hidden_size) at the input
    output_table: str = field(default="tied", metadata=LATER)  # tied | separate: what states are compared with
    position_deviation: float = field(default=0.02, metadata=LATER)  # of the initial position vectors


@register("sasrec", SASRecConfig)
class SASRec(SequenceModel):
    """See the head of this file."""

    def __init__(self, config: SASRecConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        check_sizes(config, "hidden_size", "n_layers", "n_heads", "feedforward_size")
        check_heads(config)
        check_choices(config, {"block": tuple(BLOCKS), "output_table": ("tied", "separate")})
        if not config.position_deviation >= 0:
            raise UserError(f"model.position_deviation={config.position_deviation:g} must be 0 or more")
        d = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.position_embedding = nn.Embedding(context.max_length, d)
        self.dropout = Dropout(config.dropout)
        layer, ends_in_norm = BLOCKS[config.block]
        self.layers = nn.ModuleList(
            layer(d, config.n_heads, config.feedforward_size, config.dropout) for _ in range(config.n_layers)
        )
        self.final_norm = nn.LayerNorm(d) if ends_in_norm else nn.Identity()
        if config.output_table == "separate":
            self.output_embedding = nn.Embedding(context.n_items + 1, d, padding_idx=0)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)
        self.width = d
        self.apply(_initialise)
        if config.position_deviation != 0.02:  # the same draws, another scale
            with torch.no_grad():
                self.position_embedding.weight.mul_(config.position_deviation / 0.02)

    def inputs(self, batch: Batch) -> Tensor:
        """[B, L, D]: what the first block reads."""
        return self.embed(batch.items)

    def embed(self, items: Tensor, more: Tensor | None = None) -> Tensor:
        """Items [B, L] -> input states [B, L, D]: item vector, times sqrt(D) unless told otherwise, plus position vector, plus ``more`` [B, L, D].

        The factor is the paper's. Without it the small initial item vectors drown in the positions, and Beauty takes twice the epochs.
        """
        scale = self.config.hidden_size**0.5 if self.config.scale_embedding else 1.0
        positions = self.position_embedding.weight[: items.shape[1]]
        states = self.item_embedding(items) * scale + positions
        return self.dropout(states if more is None else states + more)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = [self.inputs(batch)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states[-1] = self.final_norm(states[-1])
        return states

    def last_states(self, batch: Batch) -> list[Tensor]:
        if self.training:  # attention's dropout is drawn for all positions
            return super().last_states(batch)
        states, last = self.inputs(batch), batch.lengths - 1
        found = [at_position(states, last)]
        for layer in self.layers[:-1]:
            states = layer(states)
            found.append(at_position(states, last))
        top = cast("TransformerLayer | OriginalLayer | LiGRLayer", self.layers[-1])
        return [*found, self.final_norm(top.last(states, last))]

    def item_vectors(self) -> Tensor:
        """[V, D]: what hidden states are compared with."""
        return self.item_embedding.weight if self.config.output_table == "tied" else self.output_embedding.weight

    def normed(self, states: Tensor) -> Tensor:
        return self.final_norm(states)


def _initialise(module: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases, as the transformer recommenders since BERT4Rec do."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx] = 0.0
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
