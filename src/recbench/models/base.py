"""The contract that every model keeps, and what each is built from.

Most models keep it by way of ``models.sequence_model`` or ``models.closed_form``.

Shapes: B rows, L the longest history of the batch, D hidden size, k length of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.data.training import TrainingData

if TYPE_CHECKING:
    from recbench.data.clicks.known_fields import Fields
    from recbench.data.clicks.rows import ClickBatch
    from recbench.data.knowledge import Knowledge

#: An order beside a model's own (``Recommender.controls``): asked for the catalogue, and for given candidates.
Control = tuple[Callable[[Batch], Tensor], Callable[[Batch, Tensor], Tensor] | None]


@dataclass
class ModelConfig:
    """What the config of every model holds: the registered name. Model configs derive from it."""

    name: str = "?"


@dataclass(frozen=True)
class ModelContext:
    """What a model is built from besides its config.

    Building a model for a stored run passes the same context less ``dependencies``: whatever a model takes from a dependency it
    must keep in its own state, so that its checkpoint is complete.
    """

    n_items: int
    n_users: int
    max_length: int
    item_counts: Tensor | None = None
    dependencies: Mapping[str, Recommender] = field(default_factory=dict)
    #: [n_items + 1], the pad's empty; given to models that require "text" (``data.item_text``).
    item_texts: list[str] | None = None
    #: For statistics of the training events, such as the mean time between them; they too belong into the model's state.
    train: TrainingData | None = None
    #: Of the run. Torch's generator is seeded with it before a model is built; a computed model draws from generators of its own.
    seed: int = 0
    #: [n_items + 1, D] float32, the pad's all 0; given to models that require "text_vectors" when they are made, not when they are read.
    text_vectors: Tensor | None = None
    #: The protocol's rule on items of the history, "mask" or "keep", for a model that chooses items before they are ranked; None: not known.
    seen_items: str | None = None
    #: Kind ("image", "audio", "text") -> [n_items + 1, D] float32, the pad's and that of an item without a vector all 0; given to models that
    #: require "features" when they are made, not when they are read.
    features: Mapping[str, Tensor] = field(default_factory=dict)
    #: Given to models that require "knowledge" when they are made, not when they are read.
    knowledge: Knowledge | None = None
    #: ``data.rewards``: what a behaviour is worth, by name; empty: the usual words (``recbench.data.rewards``).
    rewards: Mapping[str, float] = field(default_factory=dict)
    #: The fields of impressions; given under ``protocol=clicks`` alone.
    fields: Fields | None = None
    #: Name of an attribute -> [n_users] words, None where nothing is known; given where an auxiliary reads them, never to rank by.
    user_attributes: Mapping[str, Sequence[str | None]] | None = None
    #: [U], empty where nothing is known; given to models that require "user_text". Ratings and reviews are in ``train.data``.
    user_texts: list[str] | None = None


class Recommender(nn.Module):
    """A sequential recommender. A subclass gives ``loss_from_states`` or ``training_loss``, and ``score`` or ``recommend``.

    Most models that are trained derive from ``SequenceModel``, which asks for less.

    A plain module: the one LightningModule is ``recbench.training.learner.Learner``, which wraps it. So to list, configure, score or serve a
    model nobody has to import a trainer, which alone takes seconds.
    """

    #: What the data must offer: any of "timestamps", "text", "behaviours", "text_vectors" (``recbench.nn.text``), "features", "knowledge"
    #: (``recbench.data.features``, ``knowledge``), "ratings", "reviews" (``recbench.data.kept``), "user_text" (``recbench.data.user_text``).
    #: Data that lacks one is refused before training, by name.
    requires: ClassVar[frozenset[str]] = frozenset()
    #: False for models that are computed rather than trained by gradient (see ClosedForm).
    trains_by_gradient: ClassVar[bool] = True
    #: Whether the scores of a prefix stay the same whatever comes after it; the contract test checks what is claimed.
    is_causal: ClassVar[bool] = True
    #: Whether the seed of a run can change its result, and so belongs into its key.
    uses_seed: ClassVar[bool] = True
    #: False for a model that draws random numbers which the seed of a run does not decide; its runs say determinism "none".
    is_seeded: ClassVar[bool] = True
    #: Whether histories are sets to it, of any size: under protocols with such histories ``training.max_length`` does not cut them.
    reads_whole_history: ClassVar[bool] = False
    #: What a row of its training is: "windows", "events" or "users" (``recbench.data.training_rows``).
    trains_on: ClassVar[str] = "windows"
    #: Whether it holds a vector for each training user. It then has a key ``cold_users``: users without training events are refused, or folded in.
    reads_users: ClassVar[bool] = False
    #: What a model can be asked: "ranking" (which items come next), "clicks" (how likely a row of impressions is a click: ``click_logits``), or both.
    answers: ClassVar[frozenset[str]] = frozenset({"ranking"})
    #: Whether ``click_logits`` are log-odds, so that log loss and calibration mean something.
    gives_odds: ClassVar[bool] = True
    #: Whether it meets the rows of a test in order of time and sees their labels on its way (``observe``).
    learns_while_asked: ClassVar[bool] = False
    #: Whether rows are answered by several networks, each of which reads some of them.
    has_groups: ClassVar[bool] = False
    #: Whether the answer to a row depends on what was clicked before it.
    reads_histories: ClassVar[bool] = False
    #: False for a run that only serves others, such as an item tokenizer: in place of ranks it leaves the figures of its ``report``.
    ranks: ClassVar[bool] = True
    #: Histories that are ranked between two words about how far it is, for models that take seconds for each; None: what fits into memory.
    rows_at_once: ClassVar[int | None] = None
    #: Whether a fresh model has learned weights already: then they are validated before the first epoch, and kept if no epoch beats them.
    starts_trained: ClassVar[bool] = False
    #: Whether a loss of the model's own reads ``Batch.target_weights``. That of SequenceModel does.
    reads_target_weights: ClassVar[bool] = False
    #: Whether it reads what behaviours are worth (``data.rewards``), so that its figures say how it does by events that count.
    reads_rewards: ClassVar[bool] = False

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__()
        self.config = config
        self.n_items, self.max_length = context.n_items, context.max_length

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        """Runs that must exist before this model is built: a name -> {"model": registered name, its keys ...}."""
        return {}

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        """What of ``requires`` a model of this config reads: all of it, unless keys leave out a part that reads some."""
        return cls.requires

    def needs_whole_batch(self) -> str:
        """Why the loss of a batch is no mean over its targets, so that several processes cannot share one; "" if it is."""
        return ""

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Called before the first step of each epoch: the place to draw a graph or a cluster anew. generator: a CPU one of (seed, epoch), the same
        in all processes, so that a training that is resumed goes on as if nothing had happened. A model must work without it too."""

    def training_loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a training batch. A model with hidden states gives ``loss_from_states`` instead."""
        return self.loss_from_states(self.hidden_states(batch), batch)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        """Scalar loss from the states of the batch, so that a distillation objective can share one forward pass."""
        raise NotImplementedError(f"{type(self).__name__} is not trained by gradient")

    def click_logits(self, rows: ClickBatch) -> Tensor:
        """[B] of impressions, or [B, T] of a model that answers for T labels; the larger, the likelier a click."""
        raise NotImplementedError(f"{type(self).__name__} cannot be asked for clicks")

    def click_loss(self, rows: ClickBatch) -> Tensor:
        """Scalar loss of impressions, for a model that learns from them. One that does not is trained on the clicks alone, as ever."""
        raise NotImplementedError(f"{type(self).__name__} does not learn from impressions")

    def observe(self, rows: ClickBatch) -> None:
        """See the labels of the rows that were answered last; of a model that ``learns_while_asked``."""

    def forget(self) -> None:
        """Forget what was observed."""

    @property
    def learns_clicks(self) -> bool:
        """Whether it is trained on impressions under ``protocol=clicks``."""
        return type(self).click_loss is not Recommender.click_loss

    def score(self, batch: Batch) -> Tensor:
        """[B, n_items + 1] scores of the item that follows each history; column 0 is the pad and is never ranked."""
        raise NotImplementedError(f"{type(self).__name__} gives no scores over the catalogue, only lists")

    def score_candidates(self, batch: Batch, items: Tensor) -> Tensor:
        """[B, C] scores of the given items [B, C] alone. A model that overrides this is asked for no others where a protocol ranks candidates."""
        return self.score(batch).gather(1, items)

    @property
    def scores_candidates(self) -> bool:
        """Whether it scores given candidates at another cost, or in another way, than the catalogue."""
        return type(self).score_candidates is not Recommender.score_candidates

    @property
    def gives_ratings(self) -> bool:
        """Whether it can be asked which rating a user gives an item (``ratings``); its test then has the figures of ``experiment.rating_figures``."""
        return False

    def ratings(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        """user [B], items [B] -> [B] ratings, by kind: "" is the model's own answer, others have a name that ends in "_"."""
        raise NotImplementedError(f"{type(self).__name__} gives no ratings")

    def controls(self) -> dict[str, Control]:
        """Orders that stand beside the model's own in the figures of its test: name -> (as ``score``, as ``score_candidates``). With None in place
        of the second, candidates keep their scores of the catalogue. An order that is ``self.score`` itself is not asked for again."""
        return {}

    @property
    def gives_lists(self) -> bool:
        """Whether the model is to be asked for lists: those without scores, and those that are asked for scores only as a check."""
        return type(self).score is Recommender.score

    @classmethod
    def longest_list(cls, config: Any) -> int | None:
        """The longest list that a model of this config can give, such as the beams of its search; None where it is as long as asked."""
        return None

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """(items [B, k], scores [B, k]), best first. k is cut to the catalogue."""
        scores = self.score(batch).float()
        scores[:, 0] = -torch.inf
        best = scores.topk(min(k, self.n_items), dim=1)
        return best.indices, best.values

    def report(self, train: TrainingData) -> dict[str, Any]:
        """The figures of a run that ranks nothing, by name."""
        raise NotImplementedError(f"{type(self).__name__} ranks items, and that is its report")

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """States after the input layer and after each block, [B, L, D] each, for distillation."""
        raise NotImplementedError(
            f"{type(self).__name__} exposes no hidden states, so it can neither teach nor learn by them"
        )

    def stored_state(self) -> dict[str, Tensor]:
        """What the checkpoint holds; a model with a frozen pretrained part leaves that part out."""
        return self.state_dict()

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``stored_state`` gave. Raises RuntimeError if names or shapes differ."""
        self.load_state_dict(dict(state))


def count_parameters(model: nn.Module) -> dict[str, int]:
    """{"total", "trainable"}: number of parameter values."""
    return {
        "total": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
