"""The contract of ``recbench.models.base``, one test for each promise. A subclass names a model:

    class TestMine(ModelContract):
        name = "mine"
        keys = {"hidden_size": 16}

Shapes: B histories, V = n_items + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.experiment.dependencies import check_requirements
from recbench.experiment.model_contract.batches import narrowed, padded, prefixes, rows
from recbench.experiment.model_contract.world import N_HISTORIES, fresh, shared, trained, world
from recbench.models import weights
from recbench.models.base import Recommender
from recbench.models.registry import lookup

#: Checks that only a model trained by gradient can pass or fail.
OF_TRAINED_MODELS = (
    "test_a_later_event_never_changes_an_earlier_state",
    "test_the_state_of_a_prefix_is_the_state_at_its_end",
    "test_every_trainable_parameter_gets_a_finite_gradient",
)


def check_close(found: Tensor, expected: Tensor) -> None:
    """Fail unless two tensors agree up to the rounding of float32."""
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


class ModelContract:
    """The tests of one model that ranks. What a subclass may set:

    name: the model's registered name. keys: its config, small enough for a test. training_keys: what differs from them in the short
    training that has to beat popularity, where every dropout is 0 as well. epochs: of that training. beats_popularity: False for a model
    that gives every user the same list. bound: how many times popularity's NDCG@10 it has to reach.
    """

    name: ClassVar[str] = ""
    keys: ClassVar[Mapping[str, Any]] = {}
    training_keys: ClassVar[Mapping[str, Any]] = {}
    epochs: ClassVar[int] = 30
    beats_popularity: ClassVar[bool] = True
    bound: ClassVar[float] = 1.5

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if not cls.name:
            return
        kind = lookup(cls.name).model
        if not kind.ranks:
            raise UserError(f"the model '{cls.name}' ranks nothing, and this contract is for models that rank")
        left_out = [] if kind.trains_by_gradient else [*OF_TRAINED_MODELS]
        left_out += [] if cls.beats_popularity else ["test_beats_popularity_on_data_with_structure"]
        for check in left_out:
            setattr(cls, check, None)  # pytest collects what can be called

    @property
    def model(self) -> Recommender:
        """The model that the checks share; they must not change it."""
        return shared(self.name, self.keys)

    def scores(self, batch: Batch) -> Tensor:
        """[B, V] of the shared model."""
        with torch.no_grad():
            return self.model.score(batch)

    def test_scores_cover_the_catalogue_and_are_finite(self) -> None:
        scores = self.scores(world().histories)
        assert scores.shape == (N_HISTORIES, world().data.n_items + 1)
        assert scores[:, 1:].isfinite().all()

    @pytest.mark.parametrize("k", [1, 7])
    def test_recommends_k_distinct_real_items_best_first(self, k: int) -> None:
        histories, n_items = world().histories, world().data.n_items
        with torch.no_grad():
            items, scores = self.model.recommend(histories, k)
        assert items.shape == scores.shape == (N_HISTORIES, k)
        assert ((items >= 1) & (items <= n_items)).all()
        assert all(len(set(row)) == k for row in items.tolist())
        assert (scores.diff(dim=1) <= 0).all()
        torch.testing.assert_close(scores[:, 0], self.scores(histories)[:, 1:].amax(dim=1))

    def test_a_list_longer_than_the_catalogue_holds_every_item_once(self) -> None:
        n_items = world().data.n_items
        with torch.no_grad():
            items, _ = self.model.recommend(world().histories, n_items + 5)
        assert items.sort(dim=1).values.tolist() == [list(range(1, n_items + 1))] * N_HISTORIES

    def test_extra_padding_changes_nothing(self) -> None:
        histories = world().histories
        check_close(self.scores(padded(histories, 3)), self.scores(histories))

    def test_order_and_company_in_a_batch_change_nothing(self) -> None:
        histories = world().histories
        together = self.scores(histories)
        shuffled = torch.randperm(N_HISTORIES, generator=torch.Generator().manual_seed(3))
        check_close(self.scores(rows(histories, shuffled)), together[shuffled])
        for row in (0, N_HISTORIES - 1):
            alone = rows(histories, torch.tensor([row]))
            narrow = narrowed(alone, int(alone.lengths[0]))
            check_close(self.scores(narrow)[0], together[row])

    def test_a_history_of_one_event_is_enough(self) -> None:
        assert self.scores(prefixes(world().histories, 1))[:, 1:].isfinite().all()

    def test_the_same_question_twice_has_the_same_answer(self) -> None:
        assert torch.equal(self.scores(world().histories), self.scores(world().histories))

    def test_a_later_event_never_changes_an_earlier_state(self) -> None:
        self._needs_causal_states()
        histories = world().histories
        changed = replace(histories, items=histories.items.clone(), timestamps=histories.timestamps.clone())
        here = int(histories.lengths.min()) - 2
        late = histories.mask & (torch.arange(histories.items.shape[1]) > here)
        changed.items[late] = world().data.n_items + 1 - changed.items[late]
        changed.timestamps[late] += 1_000_000
        with torch.no_grad():
            before, after = self.model.hidden_states(histories), self.model.hidden_states(changed)
        for old, new in zip(before, after, strict=True):
            check_close(new[:, : here + 1], old[:, : here + 1])
        assert not torch.allclose(before[-1][:, here + 1], after[-1][:, here + 1])

    def test_the_state_of_a_prefix_is_the_state_at_its_end(self) -> None:
        self._needs_causal_states()
        histories = world().histories
        with torch.no_grad():
            whole = self.model.hidden_states(histories)
            for length in (1, 2, int(histories.lengths.min())):
                prefix = self.model.hidden_states(prefixes(histories, length))
                for long, short in zip(whole, prefix, strict=True):
                    check_close(short[:, -1], long[:, length - 1])

    def _needs_causal_states(self) -> None:
        if not self.model.is_causal or type(self.model).hidden_states is Recommender.hidden_states:
            pytest.skip("the model does not claim to be causal")

    def test_every_trainable_parameter_gets_a_finite_gradient(self) -> None:
        model = fresh(self.name, self.keys).train()
        torch.manual_seed(1)
        loss = model.training_loss(world().rows[model.trains_on])
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()
        gradients = {key: part.grad for key, part in model.named_parameters() if part.requires_grad}
        assert gradients
        assert [key for key, grad in gradients.items() if grad is None or not grad.any()] == []
        assert [key for key, grad in gradients.items() if grad is not None and not grad.isfinite().all()] == []

    def test_stored_weights_are_complete_and_give_the_same_bits(self, tmp_path: Path) -> None:
        weights.save_weights(self.model, tmp_path / "weights.safetensors")
        # A stored run is opened without the runs that it was built from.
        again = fresh(self.name, self.keys, with_dependencies=False)
        weights.load_weights(again, tmp_path / "weights.safetensors")
        with torch.no_grad():
            assert torch.equal(again.eval().score(world().histories), self.scores(world().histories))
        assert again.stored_state().keys() == self.model.stored_state().keys()

    def test_no_stored_number_is_nan(self) -> None:
        state = self.model.stored_state()
        assert state
        assert [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()] == []

    def test_a_damaged_checkpoint_is_said_to_be_one(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        weights.save_weights(self.model, path)
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(UserError, match=r"cannot be read .*run again"):
            weights.load_weights(fresh(self.name, self.keys, with_dependencies=False), path)

    def test_data_that_lack_what_a_model_needs_are_refused_by_name(self) -> None:
        offers = dict.fromkeys(("has_timestamps", "has_text", "has_behaviours"), True)
        entry = lookup(self.name)
        rich: Any = SimpleNamespace(**offers)
        bare: Any = SimpleNamespace(**dict.fromkeys(offers, False))
        known, unknown = (
            SimpleNamespace(model=entry.config(), data=data, protocol=LeaveOneOutConfig())
            for data in (SyntheticConfig(), TableConfig())
        )
        check_requirements(cast("Any", known), rich)
        if not entry.model.requires:
            check_requirements(cast("Any", unknown), bare)
            return
        with pytest.raises(UserError) as caught:
            check_requirements(cast("Any", unknown), bare)
        assert all(word in str(caught.value) for word in (self.name, "data=table", *entry.model.requires))

    def test_beats_popularity_on_data_with_structure(self) -> None:
        # Models of users and items are asked for what their papers ask: several items of a user at once.
        kept_back = lookup(self.name).model.trains_on != "windows"
        floor = trained("popularity", {}, 1, kept_back)
        reached = trained(self.name, {**self.keys, **self.training_keys}, self.epochs, kept_back)
        assert reached["test/ndcg@10"] > self.bound * floor["test/ndcg@10"]
        if not kept_back:  # what leaks from the future would come out above the best that can be known
            assert reached["test/ndcg@10"] < reached["oracle"]["test/ndcg@10"] + 0.03


def contract_tests(name: str, **settings: Any) -> dict[str, type[ModelContract]]:
    """The tests of a model under a name that pytest collects, for ``globals().update(contract_tests("mine", keys={...}))``.

    settings: those of ``ModelContract``. Raises TypeError for others, and UserError for a model that is not known or ranks nothing.
    """
    known = ("keys", "training_keys", "epochs", "beats_popularity", "bound")
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise TypeError(f"contract_tests() knows {', '.join(known)}, not {', '.join(unknown)}")
    title = f"Test_{name}"
    return {title: type(title, (ModelContract,), {"name": name, **settings})}
