"""Preference: a second run that goes on from a finished one, by what its own lists get right and wrong [S-DPO, arXiv 2406.09215; MiniOneRec,
arXiv 2510.24431; the preference step of OneRec, arXiv 2502.18965].

What is different about this run: it is no network of its own. It takes that of the run under ``start`` (``tiger``, ``lcrec``, ``bigrec``, ``rpg``, or
any other that is trained and scores) with its weights, lets it make lists for training histories, and trains it to prefer what came next to what it
had named in its place. The model of before stands beside it, frozen.

    dpo, softmax_dpo   chosen: what came next; rejected: items of the list that did not come (``rejected: beams``), or drawn ones (``uniform``)
    grpo               the items of a list against each other, by ``reward``: exact | rank | prefix (``nn.losses.preference`` has the equations)
    more               none of it: the loss of the start goes on. The control at equal cost: was it preference, or more training?

It is judged by held-out behaviour, as any run here, never by its own reward. The start's weights are validated too, as epoch 0, and kept if no epoch
beats them: so a stage that only harms ends where it began.

Glossary (papers -> here): y_w -> ``good``; y_l, rollouts, beams -> ``lists``; reference policy -> ``before``; G -> ``rollouts``; lambda
of L_next + lambda L_DPO -> 1 / ``next_item``; session of 5 items -> ``ahead`` (model=onerec).

Deviations, and why:
- MiniOneRec, OneRec and S-DPO train models of .5B to 1B on 8 and more GPUs; here any finished run goes on.
- OneRec makes its pairs by a reward model, which then also judges. Here the reward is behaviour: what the training session really held (``ahead`` of
  the next items). Items are listed one by one, where OneRec spells a session of five at once, and there are no experts and no balanced codes.
- Beams are no samples: the estimate of GRPO leans towards the top of the list. MiniOneRec does the same.
- log p is the search's own: what the trie forbids keeps its share of it.
- One step an answer, so there is no ratio to clip. Dropout is off while answers are compared, so that both models agree at the start.
- ``targets_per_window`` histories of each training window, drawn anew, make a list each.
- ``permute`` swaps chosen and rejected by the toss of a coin: the control in which nothing is left to be learned.

Shapes: B windows, N histories, G items of a list, J rejected, A items ahead, M levels, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import NO_KEY
from recbench.data.batches import Batch, drawn_places, prefixes_at
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_choices, check_counts
from recbench.models.generative.generator import CodeGenerator
from recbench.models.generative.likelihood import item_log_probs
from recbench.models.kept_run import KeptRun
from recbench.models.laid_over import made
from recbench.models.language.stored_config import config_of, packed
from recbench.models.registry import lookup, model_names, register
from recbench.nn.losses import preference as losses

OBJECTIVES = ("softmax_dpo", "dpo", "grpo", "more")
CHOICES = {"objective": OBJECTIVES, "rejected": ("beams", "uniform"), "reward": ("rank", "exact", "prefix")}


@dataclass
class PreferenceConfig(ModelConfig):
    """The run that is gone on from, and by what; see ``conf/model/preference.yaml``."""

    name: str = "preference"
    start: dict[str, Any] = field(default_factory=lambda: {"model": "tiger"})
    objective: str = "softmax_dpo"
    beta: float = 0.1
    rollouts: int = 8
    rejected: str = "beams"
    reward: str = "rank"
    ahead: int = 1
    targets_per_window: int = 1
    next_item: float = 0.0
    permute: bool = False
    force: bool = field(default=False, metadata=NO_KEY)  # take a start that popularity beats on validation


@register("preference", PreferenceConfig)
class Preference(Recommender):
    """See the head of this file."""

    is_causal: ClassVar[bool] = False  # says nothing here: no states are lent
    starts_trained: ClassVar[bool] = True
    packed_config: Tensor
    #: The model that is trained; None until a stored state brings one.
    policy: Recommender | None
    before: KeptRun | None

    @classmethod
    def dependencies(cls, config: PreferenceConfig) -> dict[str, dict[str, Any]]:
        _check(config)
        named = config.start.get("model")
        if named in model_names():
            kind = lookup(named).model
            if not (kind.ranks and kind.trains_by_gradient):
                raise UserError(
                    f"model.start.model={named} is not trained by gradient, so it cannot be gone on from; name a generator, such as tiger"
                )
        return {"start": config.start}

    def __init__(self, config: PreferenceConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        # A model is built as a stored run is: what it took from other runs is in its state.
        self._bare = [replace(context, dependencies={}, text_vectors=None)]
        self.register_buffer("packed_config", torch.empty(0, dtype=torch.uint8))
        self.policy, self.before = None, None
        source = context.dependencies.get("start")
        if source is None:
            return
        self._take(source.config, source.stored_state())
        self.before = KeptRun(self._bare[0], source)

    def _take(self, config: Any, state: Mapping[str, Tensor]) -> None:
        policy = made(lookup(config.name).model, config, self._bare[0])
        policy.load_stored_state(state)
        longest = type(policy).longest_list(config)
        if self.config.objective != "more" and longest is not None and longest < self.config.rollouts:
            raise UserError(
                f"model.rollouts={self.config.rollouts} is above the {longest} beams of the start; lower it, or raise model.start.beams"
            )
        self.policy, self.packed_config = policy, packed(config)

    @property
    def tuned(self) -> Recommender:
        """The model that is trained. It answers for the run."""
        assert self.policy is not None, "a preference run without a start"
        return self.policy

    @property
    def gives_lists(self) -> bool:
        return self.policy is not None and self.policy.gives_lists

    def needs_whole_batch(self) -> str:
        return (
            ""
            if self.config.objective == "more"
            else "model=preference draws lists of each window, and its loss is no mean over targets"
        )

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        self.tuned.start_epoch(epoch, generator)

    def train(self, mode: bool = True) -> Preference:
        super().train(mode)
        if self.policy is not None and self.config.objective != "more":
            self.policy.eval()
        return self

    def training_loss(self, batch: Batch) -> Tensor:
        if self.config.objective == "more":
            return next_item_loss(self.tuned, batch)
        loss = self.preference_loss(*self.drawn(batch))
        if self.config.next_item:
            self.tuned.train(self.training)
            loss = loss + self.config.next_item * next_item_loss(self.tuned, batch)
            self.tuned.eval()
        return loss

    def drawn(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Histories that end at drawn positions of the windows [N, L], and what follows them [N, A], 0 behind the window's end."""
        assert batch.targets is not None
        row, last = drawn_places(batch, self.config.targets_per_window)
        place = last[:, None] + torch.arange(self.config.ahead, device=last.device)
        there = place < batch.lengths[row, None]
        good = batch.targets[row[:, None], place.clamp(max=batch.targets.shape[1] - 1)] * there
        return prefixes_at(batch, row, last), good

    def preference_loss(self, histories: Batch, good: Tensor) -> Tensor:
        """Scalar. histories [N, L], good [N, A] the items that came next."""
        config = self.config
        if config.objective == "grpo":
            items = self.lists(histories)
            own, before = self.both(histories, items)
            return losses.grpo(own, before, self.rewards(items, good), items > 0, config.beta)
        rejected = self.lists(histories) if config.rejected == "beams" else self._uniform(good)
        there = (rejected > 0) & (losses.exact_rewards(rejected, good) == 0)
        chosen = good[:, 0] if config.ahead == 1 else self._one_of(good)
        items = torch.cat([chosen[:, None], rejected], 1)
        if config.permute:
            items = self._permuted(items, there)
        own, before = self.both(histories, items.clamp(min=1))
        gap = (own - before).sum(2)
        compare = losses.dpo if config.objective == "dpo" else losses.softmax_dpo
        return compare(gap[:, 0], gap[:, 1:], there, config.beta)

    def both(self, histories: Batch, items: Tensor) -> tuple[Tensor, Tensor]:
        """log p of items [N, C] by the model that is trained and by that of before, [N, C, M] each."""
        assert self.before is not None, "a stored run goes on from nothing"
        assert self.before.model is not None
        with torch.no_grad():
            before = item_log_probs(self.before.model, histories, items.clamp(min=1))
        return item_log_probs(self.tuned, histories, items.clamp(min=1)), before

    @torch.no_grad()
    def lists(self, histories: Batch) -> Tensor:
        """[N, G] items that the model names now, best first; 0 at the end where it finds fewer."""
        items, scores = self.tuned.recommend(histories, self.config.rollouts)
        return torch.where(scores > -torch.inf, items, 0)

    def rewards(self, items: Tensor, good: Tensor) -> Tensor:
        """[N, G] what each item of a list is worth."""
        if self.config.reward == "exact":
            return losses.exact_rewards(items, good)
        if self.config.reward == "rank":
            return losses.rank_rewards(items, good)
        codes: Any = getattr(self.tuned, "codes", None)
        if codes is None:
            raise UserError(
                "model.reward=prefix compares codes, and the start has none: set model.reward=rank or exact"
            )
        return losses.prefix_rewards(codes[items], codes[good[:, 0]])

    def _uniform(self, good: Tensor) -> Tensor:
        return torch.randint(1, self.n_items + 1, (len(good), self.config.rollouts), device=good.device)

    def _one_of(self, good: Tensor) -> Tensor:
        """[N] one of the items ahead."""
        n = (good > 0).sum(1)
        return good.gather(1, (torch.rand(len(good), device=good.device) * n).long()[:, None])[:, 0]

    def _permuted(self, items: Tensor, there: Tensor) -> Tensor:
        """The chosen of [N, 1 + J] changed for its first real rejected one in every other row or so."""
        swap = (torch.rand(len(items), device=items.device) < 0.5) & there.any(1)
        other = 1 + there.byte().argmax(1)
        row = torch.arange(len(items), device=items.device)
        out = items.clone()
        out[row, other] = torch.where(swap, items[:, 0], items[row, other])
        out[:, 0] = torch.where(swap, items[row, other], items[:, 0])
        return out

    def score(self, batch: Batch) -> Tensor:
        return self.tuned.score(batch)

    def recommend(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        return self.tuned.recommend(batch, k)

    def stored_state(self) -> dict[str, Tensor]:
        held = {} if self.policy is None else self.policy.stored_state()
        return {"packed_config": self.packed_config, **{f"policy.{name}": value for name, value in held.items()}}

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        stored = config_of(state["packed_config"])
        held = {name.removeprefix("policy."): value for name, value in state.items() if name.startswith("policy.")}
        if self.policy is None or packed(self.policy.config).tolist() != state["packed_config"].tolist():
            self._take(stored, held)
        else:
            self.policy.load_stored_state(held)


def next_item_loss(model: Recommender, batch: Batch) -> Tensor:
    """The part of a model's loss that is about the next item, without texts, which a stored run is built without."""
    return model.next_item_loss(batch) if isinstance(model, CodeGenerator) else model.training_loss(batch)


def _check(config: PreferenceConfig) -> None:
    check_choices(config, CHOICES)
    check_counts(config, "rollouts", "ahead", "targets_per_window")
    if config.beta < 0 or config.next_item < 0:
        raise UserError("model.beta and model.next_item must be at least 0")
    if config.objective == "grpo" and (config.permute or config.rollouts < 2):
        raise UserError(
            "model.objective=grpo compares the items of a list: set model.rollouts to at least 2 and model.permute=false"
        )
