"""P5: what it adds to TIGER, and how much of the target the old numbering of items tells."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, training_windows
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.base import ModelContext
from recbench.models.counting.next_number import NextNumber, NextNumberConfig
from recbench.models.tokenizers.sequential_ids import SequentialIds, SequentialIdsConfig
from tests.fixtures.model_sizes import SIZES

BARE = {"prompts": [""], "direct": 0.0, "test_prompt": "", "whole_words": False}


def build(**keys):
    return fresh("p5", {**SIZES["p5"], **keys})


def test_without_words_and_whole_words_it_is_tiger():
    shared = {name: value for name, value in SIZES["p5"].items() if "prompt" not in name and name != "text_buckets"}
    for encoder in ("causal", "bidirectional"):
        tiger = fresh("tiger", {**shared, "encoder": encoder}).train()
        model = build(**BARE, encoder=encoder).train()
        model.load_state_dict(tiger.state_dict())
        losses = []
        for one in (tiger, model):
            torch.manual_seed(4)
            losses.append(one.training_loss(world().rows["windows"]))
        assert torch.equal(*losses)


def test_whole_words_tell_places_apart_and_the_unseen_prompt_is_asked_where_scores_are_exact():
    histories = world().histories
    model, flat = build(decoder="exact", unseen_prompt="wholly other words"), build(decoder="exact", whole_words=False)
    assert set(dict(flat.named_parameters())) == set(dict(model.named_parameters())) - {"whole_word.weight"}
    with torch.no_grad():
        plain = model.score(histories)
        ((unseen, _),) = model.controls().values()
        assert not torch.allclose(unseen(histories), plain)
        assert torch.equal(model.score(histories), plain)  # what was said is over
        model.whole_word.weight.zero_()
        assert not torch.allclose(model.score(histories), plain)
    assert build().controls() == {}


def test_without_positions_a_history_is_a_set_behind_the_words_of_a_prompt_too():
    model = build(positions=False, encoder="bidirectional", whole_words=False, decoder="exact")
    assert model.said
    rows = torch.tensor([[1, 2, 4], [4, 1, 2]])
    two = Batch(rows, rows * 0, torch.tensor([3, 3]), torch.zeros(2, dtype=torch.int64))
    with torch.no_grad():
        one, other = model.score(two)[:, 1:]
    torch.testing.assert_close(one, other)


def test_the_order_of_the_prompts_changes_nothing_in_a_test():
    one, other = (build(prompts=prompts, decoder="exact") for prompts in (["next", "then"], ["then", "next"]))
    with torch.no_grad():
        assert torch.equal(one.score(world().histories), other.score(world().histories))


def test_a_user_alone_is_enough_for_the_direct_task():
    model = build().train()
    torch.manual_seed(0)
    loss = model.direct_loss(world().rows["windows"])
    loss.backward()
    assert model.user_embedding.weight.grad.any()
    assert not hasattr(build(**{**BARE, "user_tokens": 0}), "word_embedding")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"user_tokens": 0}, r"set model.user_tokens above 0, or model.direct=0"),
        ({"prompts": []}, r"a task without a prompt"),
        ({"prompts": [""]}, r"set model.test_prompt=''"),
    ],
)
def test_bad_keys_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        build(**keys)


def numbered(data, split, over):
    context = ModelContext(data.n_items, data.n_users, 20)
    made = SequentialIds(SequentialIdsConfig(levels=2, codebook_size=16, over=over), context)
    made.fit_to(TrainingData.of(data, split))
    return made


def test_a_rule_without_learning_hits_what_the_old_numbering_tells(training_of):
    # Nobody has an item of another: walking over whole histories numbers the held-out ones right behind the others.
    sequences = [list(range(1 + 5 * user, 6 + 5 * user)) for user in range(20)]
    data = training_of(sequences, n_items=100).data
    split = make_split(data, LeaveOneOutConfig(cold_items="rank"), None)
    hits = {}
    for over in ("training", "everything"):
        context = ModelContext(100, 20, 20, dependencies={"tokenizer": numbered(data, split, over)})
        model = NextNumber(NextNumberConfig(), context)
        model.fit_to(TrainingData.of(data, split))
        found = evaluate(model.eval().score, data, split.test, split, 20)
        hits[over] = float((found.rank <= 1).mean())
    assert hits["everything"] == 1.0
    assert hits["training"] < 0.2


def test_the_largest_number_and_the_last_one_are_followed(histories):
    codes = torch.tensor([[-1], [0], [1], [2], [3], [4]])
    model = NextNumber(
        NextNumberConfig(), ModelContext(5, 2, 9, dependencies={"tokenizer": SimpleNamespace(codes=codes)})
    )
    model.fit_to(SimpleNamespace(item_counts=lambda: torch.tensor([0, 1, 1, 1, 1, 9]).numpy()))
    scores = model.score(histories([3, 1], [5]))
    assert scores[0].argsort(descending=True).tolist()[:3] == [2, 4, 5]
    assert scores[1].argmax() == 5  # nothing follows the last number
    with pytest.raises(UserError, match=r"numbers no items"):
        lent = SimpleNamespace(config=SimpleNamespace(name="sasrec"))
        NextNumber(NextNumberConfig(), ModelContext(5, 2, 9, dependencies={"tokenizer": lent}))


def test_numbers_of_training_events_stay_when_all_others_go(tiny_data, tiny_split):
    made = numbered(tiny_data, tiny_split, "training")
    leaks = numbered(tiny_data, tiny_split, "everything")
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, 20)
    assert len(WindowDataset(tiny_data, windows))
    assert not torch.equal(made.codes, leaks.codes)
    with pytest.raises(UserError, match=r"unknown model.over 'all'"):
        SequentialIds(SequentialIdsConfig(over="all"), ModelContext(3, 3, 3))
