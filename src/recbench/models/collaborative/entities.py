"""What models share that hold a vector for each training user and each item, and score by their product [Rendle et al., UAI 2009].

A subclass gives ``vectors()``, the vectors that are compared, and may give more: ``served()`` if scoring shall do without what they are made of,
such as a graph, and ``fold_in`` for users without training events. Its loss, penalty, negatives, scores and cold users follow:

    L = mean over the events (u, i) of the batch of  softplus(s_uj - s_ui)  +  penalty/2 * (|e_u|^2 + |e_i|^2 + |e_j|^2)

with s the product of the vectors, e the rows of the two tables, and j drawn from the items that u does not have. With several negatives
both are means over them. The penalty reads the rows of a batch only, as LightGCN's own code has it; RLMRec and SSLRec penalise whole tables at
every step, and MMRec the unsquared norm, so weights do not carry over between code bases.

**Users without training events** have no vector. ``cold_users=refuse``, the default, says so before anything is trained, and to whoever asks
for a typed history. ``cold_users=fold_in`` makes a vector of the items of the history. A known user always has the vector of training,
whatever history is given: what happened since is not in it.

Shapes: B rows, U users, V = n_items + 1, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_choices, check_number
from recbench.models.user_item_terms import UserItemAuxiliaryConfig
from recbench.nn.item_sets import distinct_items
from recbench.nn.losses.pairs import pair_loss, weighted_squares
from recbench.nn.negatives import Negatives

COLD_USERS = ("refuse", "fold_in")
#: What the names of the stored vectors begin with.
SERVED = "served_"


@dataclass
class EntityConfig(UserItemAuxiliaryConfig, ModelConfig):
    """Sizes, the loss, and what becomes of users without training events."""

    hidden_size: int = 64
    deviation: float = 0.1  # of the initial vectors
    penalty: float = 1e-4  # of the squared vectors of a batch's rows
    n_negatives: int = 1
    bpr_weight: float = 1.0  # of the loss above; 0 leaves it to the auxiliaries
    cold_users: str = "refuse"  # refuse | fold_in


class Step(NamedTuple):
    """What a training step compares, for the auxiliaries: numbers of its rows [B], and vectors of all users [U, D] and items [V, D]."""

    user: Tensor
    item: Tensor
    users: Tensor
    items: Tensor


class EntityModel(Recommender):
    """See the head of this file."""

    trains_on = "events"
    reads_users = True
    reads_whole_history = True
    is_causal = False
    #: Whether a step reads only the rows of its events, so that the tables may have sparse gradients.
    reads_rows_only: ClassVar[bool] = False
    #: Parts that serve training alone and are not stored: their names, or what these begin with.
    training_only: ClassVar[tuple[str, ...]] = ()
    known: Tensor  # [U] bool, users with training events

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        check_entities(config)
        self.n_users, self.train_data = context.n_users, context.train
        #: [V, F], for auxiliaries that read texts.
        self.text_vectors = context.text_vectors
        self.user_embedding = nn.Embedding(context.n_users, config.hidden_size)
        self.item_embedding = nn.Embedding(context.n_items + 1, config.hidden_size, padding_idx=0)
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config.deviation)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0
        known = torch.ones(context.n_users, dtype=torch.bool)
        if context.train is not None:
            known = torch.from_numpy(context.train.end > context.train.start)
        self.register_buffer("known", known)
        for name in self.served_names():
            self.register_buffer(f"{SERVED}{name}", None, persistent=False)
        self.negatives: Negatives | None = None
        #: Of the step that is being trained.
        self.step: Step | None = None

    # ---- what a subclass gives

    def vectors(self) -> tuple[Tensor, Tensor]:
        """(users [U, D], items [V, D]) whose products are the scores; with a gradient."""
        return self.user_embedding.weight, self.item_embedding.weight

    @classmethod
    def served_names(cls) -> tuple[str, ...]:
        """What is kept and stored for scoring: none where ``vectors`` are the parameters themselves."""
        return ()

    def make_served(self) -> dict[str, Tensor]:
        """The tensors of ``served_names``, "users" [U, D] and "items" [V, D] among them, without a gradient."""
        users, items = self.vectors()
        return {"users": users, "items": items}

    def fold_in(self, batch: Batch) -> Tensor:
        """[B, D]: vectors of users of whom nothing is known but their items: the mean of the items' vectors (ours)."""
        return self.sums_of_history(batch, self.served()["items"]) / distinct_count(batch)

    # ---- training

    def training_data(self) -> TrainingData:
        """Of the run. Raises RuntimeError for a model that was built without."""
        if self.train_data is None:
            raise RuntimeError(
                f"{type(self).__name__} is trained on the events that it is built with (ModelContext.train)"
            )
        return self.train_data

    def train(self, mode: bool = True) -> EntityModel:
        super().train(mode)
        if mode:
            for name in self.served_names():
                setattr(self, f"{SERVED}{name}", None)
        self.step = None
        return self

    def needs_whole_batch(self) -> str:
        names = self.config.auxiliary
        return f"model.auxiliary=[{','.join(names)}] compares the rows of a batch with each other" if names else ""

    def training_loss(self, batch: Batch) -> Tensor:
        """batch: one event a row, items [B, 1]."""
        user, item = batch.user, batch.items[:, 0]
        negative = self.draw_negatives(user) if self.config.bpr_weight else item.new_empty(len(item), 0)
        if self.reads_rows_only and not self.config.auxiliary:
            return self.loss_of_rows(user, item, negative)
        users, items = self.vectors()
        self.step = Step(user, item, users, items)
        weight = self.config.bpr_weight
        loss = weight * pair_loss(users, items, user, item, negative) if weight else users.new_zeros(())
        return loss + self.penalty_of_events(user, item, negative) if self.config.penalty else loss

    def loss_of_rows(self, user: Tensor, item: Tensor, negative: Tensor) -> Tensor:
        """The same where vectors and tables are one, with each row looked up once."""
        own, others = self.user_embedding(user), self.item_embedding(torch.cat([item[:, None], negative], 1))
        loss = self.bpr(own, others) if self.config.bpr_weight else own.new_zeros(())
        return loss + self.penalty_of(own, others)

    def bpr(self, own: Tensor, others: Tensor) -> Tensor:
        """own [B, D], others [B, 1 + n, D], the positive first -> scalar."""
        scores = (others @ own[:, :, None])[:, :, 0]
        return self.config.bpr_weight * F.softplus(scores[:, 1:] - scores[:, :1]).mean()

    def penalty_of(self, own: Tensor, others: Tensor) -> Tensor:
        """own [B, D], others [B, 1 + n, D] -> scalar; negatives are averaged, so that their number does not change it."""
        size = own.square().sum() + others[:, 0].square().sum()
        if others.shape[1] > 1:
            size = size + others[:, 1:].square().sum() / (others.shape[1] - 1)
        return self.config.penalty / 2 * size / len(own)

    def penalty_of_events(self, user: Tensor, item: Tensor, negative: Tensor) -> Tensor:
        """The same by how often each row of the two tables stands in the batch: user, item [B], negative [B, n]."""
        often = torch.bincount(user, minlength=self.n_users), torch.bincount(item, minlength=self.n_items + 1).float()
        if negative.shape[1]:
            drawn = torch.bincount(negative.flatten(), minlength=self.n_items + 1)
            often[1].add_(drawn, alpha=1 / negative.shape[1])
        size = weighted_squares(self.user_embedding.weight, often[0].float())
        size = size + weighted_squares(self.item_embedding.weight, often[1])
        return self.config.penalty / 2 * size / len(user)

    def draw_negatives(self, user: Tensor) -> Tensor:
        """[B, n_negatives] items that the users [B] do not have in training."""
        if self.negatives is None:
            self.negatives = Negatives(self.training_data()).to(user.device)
        return self.negatives.draw(user, self.config.n_negatives)

    # ---- scoring

    def served(self) -> dict[str, Tensor]:
        """What scoring reads; made once after each training."""
        names = self.served_names()
        if not names:
            return {"users": self.user_embedding.weight.detach(), "items": self.item_embedding.weight.detach()}
        if self.training:
            return self.make_served()
        if getattr(self, SERVED + names[0]) is None:
            with torch.inference_mode(False), torch.no_grad():
                for name, value in self.make_served().items():
                    setattr(self, SERVED + name, value.detach().clone())
        return {name: getattr(self, SERVED + name) for name in names}

    def user_states(self, batch: Batch) -> Tensor:
        """[B, D]: the vector of each row's user, or one folded in. Raises UserError for users without training events that are to be refused."""
        users = self.served()["users"]
        if torch.compiler.is_exporting():  # of nobody in particular: an exported model holds no user
            if self.config.cold_users != "fold_in":
                raise UserError(
                    "it has no vector for users without training events; train it with model.cold_users=fold_in"
                )
            return self.fold_in(batch)
        inside = (batch.user >= 0) & (batch.user < self.n_users)
        number = torch.where(inside, batch.user, 0)
        known = inside & self.known[number]
        if bool(known.all()):
            return F.embedding(number, users)
        if self.config.cold_users != "fold_in":
            raise UserError(
                f"'{self.config.name}' has no vector for users without training events, which {int((~known).sum())} of the {len(known)} asked "
                "are; train it with model.cold_users=fold_in, or ask for users of the training data"
            )
        return torch.where(known[:, None], F.embedding(number, users), self.fold_in(batch))

    def item_vectors(self) -> Tensor:
        """[V, D]; row 0 is the pad."""
        return self.served()["items"]

    def score(self, batch: Batch) -> Tensor:
        return self.user_states(batch) @ self.item_vectors().T

    def score_into(self, out: Tensor, batch: Batch) -> Tensor:
        """``score`` written into ``out`` [at least B, V] of the scores' type; returns its first B rows."""
        states = self.user_states(batch)
        return torch.mm(states, self.item_vectors().T, out=out[: len(states)])

    def sums_of_history(self, batch: Batch, table: Tensor) -> Tensor:
        """[B, D]: the sum of the rows of a table [V, D] over the distinct items of each history."""
        items, there = distinct_items(batch.items)
        return F.embedding_bag(items, table, mode="sum", per_sample_weights=there.to(table.dtype))

    # ---- stored state

    def stored_state(self) -> dict[str, Tensor]:
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(self.training_only)}
        if self.served_names():
            was, _ = self.training, self.eval()
            state |= {f"{SERVED}{name}": value for name, value in self.served().items()}
            self.train(was)
        return state

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        served = {f"{SERVED}{name}" for name in self.served_names()}
        if missing := served - state.keys():
            raise RuntimeError(f"the checkpoint of {type(self).__name__} lacks {sorted(missing)}")
        own = {name: value for name, value in self.state_dict().items() if name.startswith(self.training_only)}
        self.load_state_dict({**own, **{name: value for name, value in state.items() if name not in served}})
        self.eval()
        for name in served:
            setattr(self, name, state[name].to(self.known.device))


def distinct_count(batch: Batch) -> Tensor:
    """[B, 1] float: distinct items of each history, at least 1."""
    return distinct_items(batch.items)[1].sum(1, keepdim=True).clamp(min=1).float()


def check_entities(config: Any) -> None:
    """Raise UserError for values of the shared keys that make no sense."""
    for name in ("hidden_size", "n_negatives"):
        if getattr(config, name) < 1:
            raise UserError(f"model.{name}={getattr(config, name)} must be at least 1")
    check_number("model.deviation", config.deviation, above=0.0)
    for name in ("penalty", "bpr_weight"):
        check_number(f"model.{name}", getattr(config, name), least=0.0)
    check_choices(config, {"cold_users": COLD_USERS})
    if not config.bpr_weight and not config.auxiliary:
        raise UserError(
            "model.bpr_weight=0 leaves nothing to learn from; name a term in model.auxiliary, such as [directau]"
        )
