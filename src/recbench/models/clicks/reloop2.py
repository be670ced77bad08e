"""ReLoop2: a trained model that remembers the errors it made lately, and corrects itself by them [arXiv 2306.08808, KDD 2023].

Made after the abstract; the equations are ours. What is different about this model: it learns while it serves, without a gradient. Rows come in
order of time, ``chunk`` by chunk; a chunk is answered first, then its labels are seen.

    e = y - p of a seen row is added to one cell in each of ``tables`` tables, by the signs of ``bits`` random projections of the row's key z
    p' = clip(p + strength * mean over tables of (sum of errors) / (number of errors)),   both halved every ``half_life`` rows

z is what the base model's last layer reads; for a model without a network the vectors of the row's fields. A look-up costs the same however much is
remembered.

``by`` says what a cell is, and holds the controls: ``hidden`` as above; ``item``, ``user``: a running error of each; ``nothing``: one cell, a
correction of the whole level.

Glossary: M -> ``sums`` and ``counts``; lambda -> ``strength``. Any model of clicks can be the ``base``; it is a run of its own, and is not changed.

Its protocol id ends in ``-stream``: it has seen labels of the test before it answers later rows of it, which no other model has.

Deviations: all that the abstract does not say: the decay, the clip at 1e-4, tables that are read as a mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.clicks.rows import ClickBatch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.closed_form import ClosedForm
from recbench.models.kept_run import KeptRun
from recbench.models.registry import lookup, model_names, register
from recbench.nn.fields.embedding import FieldEmbedding

BY = ("hidden", "item", "user", "nothing")


@dataclass
class ReLoop2Config(ModelConfig):
    """base: the run that is corrected. See the head of this file for the others."""

    name: str = "reloop2"
    base: dict[str, Any] = field(default_factory=lambda: {"model": "deepfm"})
    by: str = "hidden"
    strength: float = 0.5
    half_life: int = 20_000
    tables: int = 8
    bits: int = 8
    chunk: int = 256
    hash_seed: int = 0


@register("reloop2", ReLoop2Config)
class ReLoop2(ClosedForm):
    """See the head of this file."""

    answers: ClassVar[frozenset[str]] = frozenset({"clicks"})
    ranks: ClassVar[bool] = False
    learns_while_asked: ClassVar[bool] = True

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        named = config.base.get("model")
        if named in model_names() and not ("clicks" in lookup(named).model.answers and lookup(named).model.gives_odds):
            raise UserError(
                f"model.base.model={named} gives no chances of clicks, so it has no errors to remember; name one such as deepfm"
            )
        if named == "reloop2":
            raise UserError("model.base.model=reloop2 corrects itself already; name the model that it is to correct")
        if config.by == "hidden" and named in model_names() and lookup(named).model.has_groups:
            raise UserError(
                f"model.base.model={named} has a network for each group of rows, so no cell is the same thing for all; set model.by=item"
            )
        return {"base": config.base}

    def __init__(self, config: ReLoop2Config, context: ModelContext) -> None:
        super().__init__(config, context)
        check_choices(config, {"by": BY})
        check_counts(config, "half_life", "tables", "bits", "chunk")
        if config.bits > 20:
            raise UserError(f"model.bits={config.bits} makes tables of {2**config.bits:,} cells; use at most 20")
        self.base = KeptRun(context, context.dependencies.get("base"))
        self.n_users = context.n_users
        self.seen_key: Tensor | None = None
        self._listen()
        self.forget()

    def _listen(self) -> None:
        """Keep what the base's last layer reads, and read histories if the base does."""
        self.planes: Tensor | None = None
        self.reads_histories = getattr(self.base.model, "reads_histories", False)  # type: ignore[misc]
        if self.base.model is None:
            return
        last = [part for part in self.base.model.modules() if isinstance(part, nn.Linear) and part.out_features == 1]
        for part in last:  # what is asked last is the last layer
            part.register_forward_pre_hook(lambda _, given: self._keep(given[0]))
        if last:
            return
        tables = [part for part in self.base.model.modules() if isinstance(part, FieldEmbedding)]
        tables[-1].register_forward_hook(lambda _, __, made: self._keep(made))

    def _keep(self, x: Tensor) -> None:
        self.seen_key = x.detach().flatten(1)

    def forget(self) -> None:
        """Start with an empty memory."""
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None
        self.last: tuple[Tensor, Tensor] | None = None

    def fit_to(self, train: TrainingData) -> None:
        """Nothing: the base is trained, and the memory is empty."""

    def cells(self, rows: ClickBatch) -> tuple[Tensor, int]:
        """([B, T] the cell of each row in each table, how many cells a table has)."""
        if self.config.by == "nothing":
            return torch.zeros_like(rows.item)[:, None], 1
        if self.config.by in ("item", "user"):
            return (rows.item if self.config.by == "item" else rows.user)[:, None], max(self.n_items + 1, self.n_users)
        assert self.seen_key is not None
        z, (t, b) = self.seen_key, (self.config.tables, self.config.bits)
        if self.planes is None or self.planes.shape[0] != z.shape[1]:
            generator = torch.Generator().manual_seed(self.config.hash_seed)
            self.planes = torch.randn(z.shape[1], t * b, generator=generator).to(z)
        signs = (z @ self.planes > 0).view(len(z), t, b).long()
        return (signs << torch.arange(b, device=z.device)).sum(-1), 2**b

    def click_logits(self, rows: ClickBatch) -> Tensor:
        assert self.base.model is not None, "the memory corrects the model that it was made from"
        p = torch.sigmoid(self.base.model.click_logits(rows))
        cell, n_cells = self.cells(rows)
        self.last = p, cell
        if self.sums is None or self.counts is None:
            self.sums = p.new_zeros(cell.shape[1], n_cells)
            self.counts = torch.zeros_like(self.sums)
        held = self.counts.gather(1, cell.T)
        error = torch.where(held > 0, self.sums.gather(1, cell.T) / held.clamp_min(1e-9), 0.0).mean(0)
        return torch.logit((p + self.config.strength * error).clamp(1e-4, 1 - 1e-4))

    def observe(self, rows: ClickBatch) -> None:
        """Remember the errors of the rows that were answered last."""
        assert self.last is not None
        assert self.sums is not None
        assert self.counts is not None
        p, cell = self.last
        error = (rows.label[:, 0].to(p) - p).expand(cell.shape[1], -1)
        fade = 0.5 ** (len(rows) / self.config.half_life)
        self.sums = (self.sums * fade).scatter_add(1, cell.T, error)
        self.counts = (self.counts * fade).scatter_add(1, cell.T, torch.ones_like(error))

    def stored_state(self) -> dict[str, Tensor]:
        return {f"base.{name}": value for name, value in self.base.stored_state().items()}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.base.load_stored_state({name.removeprefix("base."): value for name, value in state.items()})
        self._listen()
