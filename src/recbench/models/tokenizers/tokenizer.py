"""What every item tokenizer gives: a short tuple of codes for each item, for generators that spell items code by code.

A tokenizer is a run of its own, and a dependency of generators under the role ``tokenizer``. It ranks nothing.

Shapes: V = n_items + 1, M levels of the codes (with the level that tells colliding items apart, where there is one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext
from recbench.models.checks import check_counts
from recbench.models.closed_form import ClosedForm
from recbench.nn.codes.quantization import UNIFORM

if TYPE_CHECKING:
    from recbench.data.batches import Batch
    from recbench.nn.codes.learned_codebooks import LearnedCodebooks

COLLISIONS = ("digit", "bucket")
DIGIT_ORDERS = ("index", "popularity", "reversed")


@dataclass
class TokenizerConfig(ModelConfig):
    """What every tokenizer decides: how many codes an item has, and what becomes of items that get the same ones.

    collisions: ``digit`` adds a level that numbers the items of equal codes 0, 1, ... in item order, with a vocabulary of its own;
    ``bucket`` leaves them together, and whoever ranks spends a place of the list on each.

    collision_digit: what ``digit`` numbers by: ``index``, the item order; ``popularity``, the most frequent in training first, so that the digit can
    be guessed [MMGRec, arXiv 2404.16555]; or ``reversed``, the least frequent first, the control of that.
    """

    levels: int = 3
    codebook_size: int = 256
    collisions: str = "digit"
    collision_digit: str = field(default="index", metadata=LATER)


@dataclass
class LearnedTokenizerConfig(TokenizerConfig):
    """What every tokenizer that learns its codebooks decides besides.

    revive_every: epochs after which codes that no item chose are moved; 0 never. uniform_last: ``sinkhorn`` spreads the items evenly over the
    codes of the last level.
    """

    epochs: int = 100
    batch: int = 512
    lr: float = 1e-3
    normalize_residuals: bool = False
    revive_every: int = 10
    uniform_last: str = "none"


class ItemTokenizer(ClosedForm):
    """A subclass gives ``assign``; codes, sizes and what is done about collisions follow.

    state buffer ``codes`` [V, M] int64: codes of each item, in 0..sizes[l] - 1 at level l; the row of the pad is all -1.
    state buffer ``sizes`` [M] int64: number of codes of each level.
    """

    ranks: ClassVar[bool] = False
    uses_seed: ClassVar[bool] = True
    state_names: ClassVar[tuple[str, ...]] = ("codes", "sizes")
    codes: Tensor
    sizes: Tensor

    def __init__(self, config: TokenizerConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        self.seed = context.seed
        check_counts(config, "levels", "codebook_size")
        if config.collisions not in COLLISIONS:
            raise UserError(
                f"unknown model.collisions '{config.collisions}'; {nearest(config.collisions, list(COLLISIONS))}"
            )
        if config.collision_digit not in DIGIT_ORDERS:
            raise UserError(
                f"unknown model.collision_digit '{config.collision_digit}'; {nearest(config.collision_digit, list(DIGIT_ORDERS))}"
            )
        #: [n_items + 1, D], of the tokenizers that require them, until the codes are made.
        self.vectors = context.text_vectors
        #: Figures on the fit itself, such as the reconstruction error; part of the report.
        self.fit_figures: dict[str, float] = {}

    def assign(self, train: TrainingData) -> tuple[np.ndarray, list[int]]:
        """(codes [n_items, levels] int64 of the items 1, 2, ..., number of codes of each level)."""
        raise NotImplementedError

    def fit_to(self, train: TrainingData) -> None:
        codes, sizes = self.assign(train)
        self.vectors = None
        if self.config.collisions == "digit":
            digit = collision_digit(codes, _digit_order(self.config.collision_digit, train))
            codes, sizes = np.column_stack([codes, digit]), [*sizes, int(digit.max(initial=0)) + 1]
        table = np.full((len(codes) + 1, codes.shape[1]), -1, dtype=np.int64)
        table[1:] = codes
        self.set_state("codes", torch.from_numpy(table))
        self.set_state("sizes", torch.tensor(sizes, dtype=torch.int64))

    def semantic_codes(self) -> Tensor:
        """[n_items, levels] int64: the codes of the items without the level that only tells colliding ones apart."""
        return self.codes[1:, : self.codes.shape[1] - (self.config.collisions == "digit")]

    def report(self, train: TrainingData) -> dict[str, float]:
        """Quality of the codes without training a recommender, by names as in ``tokenizer/collision_rate``."""
        from recbench.models.counting.itemknn import nearest_neighbours, user_item_matrix
        from recbench.models.tokenizers.code_report import NEIGHBOURS, last_categories, tokenizer_report

        together = nearest_neighbours(user_item_matrix(train), NEIGHBOURS, shrinkage=0.0)
        codes = self.semantic_codes().cpu().numpy()
        found = tokenizer_report(codes, self.sizes.tolist(), together, last_categories(train.data.item_table()))
        return {f"tokenizer/{name}": value for name, value in {**found, **self.fit_figures}.items()}

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} makes codes of items and recommends none")


def _digit_order(name: str, train: TrainingData) -> np.ndarray | None:
    """[N] the items as they are numbered within a group; None for the item order."""
    if name == "index":
        return None
    count = train.item_counts()[1:]
    return np.argsort(count if name == "reversed" else -count, kind="stable")


def collision_digit(codes: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray:
    """codes [N, levels] -> [N] int64: how many rows before this one are equal to it; 0 where a row is alone. taken: [N] the order of the rows.

    >>> codes = np.array([[1, 2], [0, 0], [1, 2], [1, 2]])
    >>> collision_digit(codes).tolist(), collision_digit(codes, np.array([3, 0, 1, 2])).tolist()
    ([0, 0, 1, 2], [1, 0, 2, 0])
    """
    if taken is not None:
        digit = np.empty(len(codes), dtype=np.int64)
        digit[taken] = collision_digit(codes[taken])
        return digit
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    group = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)  # of numpy 2.0 it has two axes
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    digit = np.empty(len(codes), dtype=np.int64)
    digit[order] = np.arange(len(codes)) - first
    return digit


def item_vectors_of(vectors: Tensor | None) -> np.ndarray:
    """[n_items, D] float32 of the items without the pad."""
    assert vectors is not None, "codes are made from text vectors, which a stored run is built without"
    return np.ascontiguousarray(vectors[1:].cpu().numpy(), dtype=np.float32)


def standardised(vectors: np.ndarray) -> np.ndarray:
    """[N, D] centred, and scaled by one number so that the mean variance of a column is 1; all 0 where all rows are equal."""
    centred = vectors - vectors.mean(0)
    spread = float(np.sqrt((centred**2).mean(dtype=np.float64)))
    return (centred / spread if spread > 1e-6 else np.zeros_like(centred)).astype(np.float32)


def check_uniform(uniform_last: str) -> None:
    """Raises UserError for an unknown way to map the last level."""
    if uniform_last not in UNIFORM:
        raise UserError(f"unknown model.uniform_last '{uniform_last}'; {nearest(uniform_last, list(UNIFORM))}")


def check_learning(config: LearnedTokenizerConfig) -> None:
    """Raises UserError for numbers with which no codebook can learn."""
    check_uniform(config.uniform_last)
    check_counts(config, "epochs", "batch")
    if not config.lr > 0:
        raise UserError(f"model.lr must be positive, not {config.lr:g}")
    if config.revive_every < 0:
        raise UserError(f"model.revive_every={config.revive_every} must not be negative (0: never)")


def revival(
    config: LearnedTokenizerConfig, codebooks: LearnedCodebooks, rows: Callable[[], Tensor]
) -> Callable[[int, torch.Generator], None]:
    """What follows an epoch: every ``revive_every`` epochs the dead codes are moved, but not so late that they could not settle.

    rows: gives what the codebooks quantise, [N, D], at that moment.
    """
    every = config.revive_every

    def after_epoch(epoch: int, generator: torch.Generator) -> None:
        if every and (epoch + 1) % every == 0 and epoch + 1 + every <= config.epochs:
            codebooks.revive(rows(), generator)

    return after_epoch
