"""RecLoRA: several adapters in one language model, mixed for each user by what an ordinary recommender knows of them [Zhu et al., 2024,
arXiv 2408.03533], over sequences of items.

What is different about this model: the body is ``e4srec``. Its language model has n adapters a layer in place of one, and a gate says how much
each counts:

    g = softmax(gate(u) / T),  u the state of the run under ``item_table`` behind the same events, frozen
    W x + (alpha / r) sum_k g_k B_k A_k x        (compose: factors has (sum_k g_k B_k)(sum_k g_k A_k), as released)

Glossary (paper and released code -> here): meta-LoRA -> ``bank``; CRM, conventional recommendation model -> ``recommender``; T -> ``temperature``;
gate network -> ``gate``; long-short modality retriever -> not here.

Deviations, and why:
- Sequences and a softmax over items, where the paper answers yes or no about one item from ratings: so no ratings are needed, and all items are
  ranked.
- The gate is asked at every position, so that all prefixes of a window share one pass; there, once a user.
- Recommender and language model read the same events. The paper's language model sees few retrieved ones; its second half, "lifelong", is not here.
- compose: sum is the paper's equation; the released code has factors, with cross terms.
- ``gate: constant`` learns one mixture for all users: the control that says whether users matter. n_adapters=1 is one plain adapter.
- ``tiny`` learns all its weights along with the adapters; a named backbone is frozen under them.

Shapes: B rows, L positions, E width of the recommender's states, n adapters, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.kept_run import KeptRun
from recbench.models.language.e4srec import E4SRec, E4SRecConfig
from recbench.models.language.frozen_part import learned_state, load_learned
from recbench.models.registry import register
from recbench.models.sequence_model import SequenceModel
from recbench.nn.language.adapter_bank import COMPOSE, AdapterBank
from recbench.nn.language.lora import FEEDFORWARD
from recbench.nn.transformer.dropout import Dropout

GATES = ("user", "constant")


@dataclass
class RecLoRAConfig(E4SRecConfig):
    """The keys of e4srec; lora_rank, lora_alpha and lora_targets are those of each adapter."""

    name: str = "rec_lora"
    n_adapters: int = 4
    compose: str = "sum"
    gate: str = "user"
    gate_size: int = 60
    temperature: float = 5.0
    adapter_start: float = 0.0


@register("rec_lora", RecLoRAConfig)
class RecLoRA(E4SRec):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        _check(config)
        return super().dependencies(config)

    def __init__(self, config: RecLoRAConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        if self.backbone.frozen:
            self.backbone.model = self.backbone.model.unload()  # the adapters of the bank stand in place of the one
        targets = config.lora_targets or [target for group in FEEDFORWARD for target in group]
        self.bank = AdapterBank(
            self.backbone.model,
            targets,
            config.n_adapters,
            config.lora_rank,
            config.lora_alpha,
            config.compose,
            config.adapter_start,
        )
        source = context.dependencies.get("item_table")
        if source is not None and not isinstance(source, SequenceModel):
            raise UserError(
                f"model.item_table.model={source.config.name} has no states that tell users apart; name a sequence model, such as sasrec"
            )
        self.recommender = KeptRun(context, source) if config.gate == "user" else None
        if config.gate == "constant":
            self.mixture = nn.Parameter(torch.zeros(config.n_adapters))
        elif source is not None:
            self._build_gate(source.width)

    def _build_gate(self, width: int) -> None:
        config = self.config
        self.gate = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.gate_size),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(config.gate_size, config.n_adapters),
        )

    def mixtures(self, batch: Batch) -> Tensor:
        """[B, L, n]: how much each adapter counts at each position; each row of n sums to 1."""
        if self.recommender is None:
            logits = self.mixture.expand(*batch.items.shape, -1)
        else:
            model: Any = self.recommender.model
            with torch.no_grad():
                states = model.hidden_states(batch)[-1]
            logits = self.gate(states)
        return (logits / self.config.temperature).softmax(-1)

    def _mixing(self, batch: Batch) -> AbstractContextManager[None]:
        return self.bank.mixing(self.mixtures(batch))

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        with self._mixing(batch):
            return super().hidden_states(batch)

    def last_states(self, batch: Batch) -> list[Tensor]:
        return SequenceModel.last_states(self, batch)

    def score(self, batch: Batch) -> Tensor:
        return SequenceModel.score(self, batch)

    def stored_state(self) -> dict[str, Tensor]:
        state = learned_state(self, self.backbone.frozen, {"item_table"})
        own = {name: value for name, value in state.items() if not name.startswith("recommender.")}
        kept = {} if self.recommender is None else self.recommender.stored_state()
        return own | {f"recommender.{name}": value for name, value in kept.items()}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        own = {name: value for name, value in state.items() if not name.startswith("recommender.")}
        if self.recommender is not None:
            kept = {name.removeprefix("recommender."): value for name, value in state.items() if name not in own}
            self.recommender.load_stored_state(kept)
            if not hasattr(self, "gate"):
                self._build_gate(state["gate.0.weight"].shape[0])
        self.item_table = state["item_table"].clone()
        if not hasattr(self, "item_to_state"):
            self._build_ends(self.item_table.shape[1])
        load_learned(self, own, [name for name in self.stored_state() if not name.startswith("recommender.")])


def _check(config: RecLoRAConfig) -> None:
    check_choices(config, {"compose": COMPOSE, "gate": GATES})
    check_counts(config, "n_adapters", "lora_rank", "gate_size")
    if not config.temperature > 0:
        raise UserError(f"model.temperature must be positive, not {config.temperature:g}")
    if config.prompt != "none":
        raise UserError("'rec_lora' mixes adapters at the items alone: set model.prompt=none")
    if config.lora_targets == ["all"]:
        raise UserError("model.lora_targets=[all] is not for 'rec_lora'; name the layers, as in [q_proj,v_proj]")
