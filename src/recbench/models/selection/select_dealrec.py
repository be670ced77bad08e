"""DEALRec: a share of the targets by influence and effort, spread over the whole range of scores [Lin et al., SIGIR 2024].

    influence  I(z) = g^T F^-1 grad L(z)        larger: leaving z out would hurt more
    effort     D(z) = | grad L(z) |             how much z asks of the model
    score      minmax(I) + effort_weight * minmax(D)
    then       the hardest share is left out, the scores are cut into bins of equal width, and from the smallest bin on each gives an even share

All gradients are of one matrix of a small surrogate, the last square one of its top layer. There the projection of attention at a position acts on
that position's target alone, so the gradient of a target is one outer product, and the Fisher matrix F of all of them is inverted exactly (damped).

Where this deviates:
- g is the mean gradient of each user's last training event, which the surrogate was not trained on (``select_holdout``): at convergence the mean
  gradient over what it was trained on is almost zero, and a scalar product with it is noise. ``gradient_ratio`` in the report says how long g is.
- For the same reason the surrogate is trained for five epochs unless told otherwise, not to its end.
- These held-out events are candidates too. They pull along g by their nature, so both groups are scaled for themselves.
- The unit is a target; the paper's surrogate has a user, its language model an answer. The effort is the surrogate's, not the target model's.
- A saved training time has to count the surrogate: ``cost/train_seconds_with_dependencies``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.cases import flat_ranges
from recbench.data.training import TrainingData
from recbench.models.registry import register
from recbench.models.selection.event_selection import EventSelection, ShareConfig, budget_of, is_target
from recbench.models.selection.select_holdout import last_targets
from recbench.models.sequence_model import SequenceModel

#: Targets whose outer products make the Fisher matrix, at most; a draw of them is enough for its 4,096 columns.
FISHER_TARGETS = 16_384
WINDOWS_AT_ONCE = 256


@dataclass
class SelectDealRecConfig(ShareConfig):
    """The budget, the surrogate, and how the two scores are weighed."""

    name: str = "select_dealrec"
    surrogate: dict[str, Any] = field(default_factory=lambda: {"model": "sasrec", "training": {"max_epochs": 5}})
    effort_weight: float = 0.5
    influence_weight: float = 1.0  # 0: effort alone, a control
    damping: float = 0.1  # times the mean of F's diagonal
    too_hard: float = 0.1  # share of the highest scores that is left out
    bins: int = 50
    coverage: bool = True  # false: the highest scores, without bins; a control


@register("select_dealrec", SelectDealRecConfig)
class SelectDealRec(EventSelection):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: SelectDealRecConfig) -> dict[str, dict[str, Any]]:
        training = {**(config.surrogate.get("training") or {}), "selection": "holdout"}
        return {"surrogate": {**config.surrogate, "training": training}}

    def choose(self, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        config.check()
        if not 0 <= config.too_hard < 1 or config.bins < 1 or not config.damping > 0:
            raise UserError(
                f"training.selection_keys: too_hard={config.too_hard:g} must lie in 0..1, bins={config.bins} be at least 1, "
                f"damping={config.damping:g} be positive"
            )
        user, _, _ = train.flat()
        target = is_target(user)
        given, found = outer_products(self.parts["surrogate"], train)
        left_out = last_targets(user)
        generator = np.random.default_rng(self.seed)
        influence, ratio = influences(given, found, target, left_out, config.damping, generator)
        effort = np.linalg.norm(given, axis=1) * np.linalg.norm(found, axis=1)
        self.made_figures["gradient_ratio"] = ratio
        score = np.empty(target.sum())
        for group in (left_out[target], ~left_out[target]):
            parts = (min_max(values[target][group]) for values in (influence, effort))
            score[group] = sum(
                w * x for w, x in zip((config.influence_weight, config.effort_weight), parts, strict=True)
            )
        chosen = covering(score, budget_of(config.share, len(score)), config, generator)
        keep = np.zeros(len(user), dtype=bool)
        keep[np.flatnonzero(target)[chosen]] = True
        return keep, np.ones(len(user))


def covering(score: np.ndarray, budget: int, config: SelectDealRecConfig, generator: np.random.Generator) -> np.ndarray:
    """``budget`` places of the scores: an even share of each bin, smallest bin first, once the hardest are left out."""
    order = np.argsort(score, kind="stable")
    allowed = order[: max(budget, len(order) - int(config.too_hard * len(order)))]
    if not config.coverage:
        return allowed[len(allowed) - budget :]
    values = score[allowed]
    width = max(float(np.ptp(values)), 1e-12) / config.bins
    bin_of = np.minimum(((values - values.min()) / width).astype(np.int64), config.bins - 1)
    bins = [allowed[bin_of == number] for number in np.unique(bin_of)]
    chosen: list[np.ndarray] = []
    left = budget
    for place, members in enumerate(sorted(bins, key=len)):
        take = min(len(members), -(-left // (len(bins) - place)))
        chosen.append(generator.permutation(members)[:take])
        left -= take
    return np.concatenate(chosen)


def outer_products(surrogate: Any, train: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """(inputs [M, A], output gradients [M, O]) at the event before each target: the gradient of its loss by the matrix is their outer product.

    Rows of events that are no target are 0. Raises UserError for a surrogate without a square matrix in its top layer.
    """
    matrix = top_matrix(surrogate)
    windows = training_windows(train.start, train.end, surrogate.max_length)
    dataset = WindowDataset(train.data, windows)
    _, place = flat_ranges(train.start, train.end)
    number = np.full(len(train.data.items), -1)
    number[place] = np.arange(len(place))
    given = np.zeros((len(place), matrix.in_features), dtype=np.float32)
    found = np.zeros((len(place), matrix.out_features), dtype=np.float32)
    for rows in np.array_split(np.argsort(windows.length, kind="stable"), -(-len(windows.length) // WINDOWS_AT_ONCE)):
        batch = dataset[rows]
        inputs, gradients = _at_matrix(surrogate, matrix, batch)
        _, targets = flat_ranges(windows.start[rows] + 1, windows.start[rows] + windows.length[rows] + 1)
        given[number[targets]], found[number[targets]] = inputs.numpy(), gradients.numpy()
    return given, found


def _at_matrix(model: SequenceModel, matrix: nn.Linear, batch: Any) -> tuple[Tensor, Tensor]:
    """[n, A] what the matrix reads and [n, O] the gradient of each target's own loss by what it gives, at the real positions."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        found = found.detach().requires_grad_(True)
        kept.extend((given[0].detach(), found))
        return found

    hook = matrix.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            states = model.hidden_states(batch)[-1][batch.mask]
            logits = model.queries(states) @ model.item_vectors().detach().T
            logits = logits.index_fill(1, torch.zeros(1, dtype=torch.int64), -torch.inf)
            loss = nn.functional.cross_entropy(logits, batch.targets[batch.mask], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, kept[-1])
    finally:
        hook.remove()
    return kept[-2][batch.mask], gradient[batch.mask]


def top_matrix(model: Any) -> nn.Linear:
    """The last square linear layer of the model's top layer."""
    layers = getattr(model, "layers", None)
    if isinstance(model, SequenceModel) and isinstance(layers, nn.ModuleList) and len(layers):
        square = [m for m in layers[-1].modules() if isinstance(m, nn.Linear) and m.in_features == m.out_features]
        if square:
            return square[-1]
    raise UserError(
        f"training.selection_keys.surrogate.model={model.config.name} has no top layer with a square matrix; use sasrec"
    )


def influences(
    given: np.ndarray,
    found: np.ndarray,
    target: np.ndarray,
    left_out: np.ndarray,
    damping: float,
    generator: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """(influence [M] of each target on the loss of those left out, length of their mean gradient over that of a typical one)."""
    held = target & left_out
    if not held.any():
        raise UserError("no user has three training events, so there is nothing to hold out; use another selection")
    mean = found[held].T @ given[held] / held.sum()
    size = np.linalg.norm(found[held], axis=1) * np.linalg.norm(given[held], axis=1)
    trained = np.flatnonzero(target & ~left_out)
    drawn = generator.choice(trained, min(len(trained), FISHER_TARGETS), replace=False)
    products = (found[drawn][:, :, None] * given[drawn][:, None, :]).reshape(len(drawn), -1)
    fisher = products.T @ products / len(drawn)
    fisher[np.diag_indices(len(fisher))] += damping * np.diag(fisher).mean() + 1e-12
    moved = np.linalg.solve(fisher.astype(np.float64), mean.reshape(-1).astype(np.float64)).reshape(mean.shape)
    return np.einsum("mo,oa,ma->m", found, moved, given, optimize=True), float(
        np.linalg.norm(mean) / max(float(np.median(size)), 1e-12)
    )


def min_max(values: np.ndarray) -> np.ndarray:
    """Scaled to 0..1; all 0 where they are alike."""
    spread = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.zeros(len(values))
