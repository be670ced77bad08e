"""``model.fallback=dense``: a generator's list first, then the items that training never met, by the vectors of their texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.base import ModelContext
from recbench.models.fallback import DenseFallback, ridge_map
from recbench.models.fallback_config import DenseConfig
from tests.fixtures.model_sizes import SIZES

N_ITEMS = 14
COLD = [3, 8, 12, 14]


def made(seen="mask", **keys):
    """A fallback over 14 items, of which four are cold, and histories of two users."""
    counts = torch.ones(N_ITEMS + 1, dtype=torch.int64)
    counts[COLD] = 0
    vectors = torch.randn(N_ITEMS + 1, 6, generator=torch.Generator().manual_seed(5))
    vectors[0] = 0
    context = ModelContext(N_ITEMS, 2, 10, counts, text_vectors=vectors, seen_items=seen)
    return DenseFallback(DenseConfig(map="none", **keys), context)


def histories():
    items = torch.tensor([[1, 2, 5], [7, 3, 0]])
    return Batch(items, torch.zeros_like(items), torch.tensor([3, 2]), torch.arange(2))


def by_hand(fallback, generated, row, first, masks):
    """Of one history and what was generated, best first: (the first ones, the cold ones behind them), or all in one order without first ones."""
    batch = histories()
    seen = set(batch.items[row].tolist()) if masks else set()
    query = fallback.queries(batch.items, batch.lengths)[row]
    cosine = {item: float(query @ fallback.text[item]) for item in range(1, N_ITEMS + 1)}
    if not first:
        return sorted({*generated, *COLD}, key=lambda item: -cosine[item])
    counted = [item for item in generated if item not in seen][:first]
    cold = sorted((item for item in COLD if item not in counted), key=lambda item: -cosine[item])
    return counted, cold


@pytest.mark.parametrize("seen", ["mask", "keep"])
@pytest.mark.parametrize("first", [0, 2])
def test_lists_and_scores_have_the_order_that_is_said(first, seen):
    fallback, batch = made(seen, first=first), histories()
    scores = torch.randn(2, N_ITEMS + 1, generator=torch.Generator().manual_seed(8)) - 20
    scores[:, 0] = -torch.inf
    best = scores.topk(6, dim=1)
    items, values = fallback.into_lists(best.indices, best.values, batch, 10)
    assert (values[:, 1:] <= values[:, :-1]).all()
    whole = fallback.into_scores(scores, batch, generated=6)
    for row in range(2):
        found = [item for item in items[row].tolist() if item]
        assert len(set(found)) == len(found)
        left_out = set(batch.items[row].tolist()) if seen == "mask" else set()
        own = [item for item in found if item not in left_out]
        order = [item + 1 for item in whole[row, 1:].argsort(descending=True, stable=True).tolist()]
        order = [item for item in order if item not in left_out]
        if first:
            counted, cold = by_hand(fallback, best.indices[row].tolist(), row, first, seen == "mask")
            cold = [item for item in cold if item not in left_out]
            assert own[: len(counted) + len(cold)] == counted + cold == order[: len(counted) + len(cold)]
            rest = [item for item in best.indices[row].tolist() if item not in {*counted, *COLD} | left_out]
            assert own[len(counted) + len(cold) :] == rest
        else:
            expected = by_hand(fallback, best.indices[row].tolist(), row, 0, seen == "mask")
            assert own == [item for item in expected if item not in left_out]


def test_items_of_equal_score_go_on_sharing_their_places():
    fallback = made("keep", first=3)
    items, scores = torch.tensor([[1, 2, 4, 6, 9]] * 2), torch.tensor([[-1.0, -2.0, -2.0, -3.0, -3.0]] * 2)
    found, values = fallback.into_lists(items, scores, histories(), 9)
    assert found[0, :3].tolist() == [1, 2, 4]
    assert values[0, 1] == values[0, 2]
    assert found[0, -2:].tolist() == [6, 9]
    assert values[0, -1] == values[0, -2]


def test_the_map_is_least_squares_over_the_training_events():
    train = TrainingData.of(world().data, world().split)
    text = F.normalize(torch.randn(world().data.n_items + 1, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    text[0] = 0
    xs, ys = [], []
    for start, end in zip(train.start, train.end, strict=True):
        held = torch.zeros(5)
        for at in range(start, end - 1):
            held = held * 0.7 + text[int(train.data.items[at])]
            xs.append(F.normalize(held, dim=0))
            ys.append(text[int(train.data.items[at + 1])])
    x, y = torch.stack(xs).double(), torch.stack(ys).double()
    ridge = 0.01 * (x.T @ x).diagonal().mean() * torch.eye(5, dtype=torch.float64)
    expected = torch.linalg.solve(x.T @ x + ridge, x.T @ y).float()
    torch.testing.assert_close(ridge_map(train, text, 0.7), expected, atol=1e-5, rtol=1e-4)


def test_texts_find_the_cold_item_and_dealt_texts_do_not(tmp_path):
    """Planted: users stay within a group of items, whose texts are alike; two items of each of ten groups are cold."""
    generator = np.random.default_rng(3)
    n_groups, size = 10, 8
    group = np.concatenate([[-1], np.repeat(np.arange(n_groups), size)])
    counts = torch.ones(len(group), dtype=torch.int64)
    counts[1:][np.arange(n_groups * size) % size >= size - 2] = 0
    vectors = torch.from_numpy(
        generator.normal(size=(n_groups, 16))[group] + 0.5 * generator.normal(size=(len(group), 16))
    )
    vectors[0] = 0
    own = generator.integers(n_groups, size=300)
    items = torch.from_numpy(1 + own[:, None] * size + generator.integers(size - 2, size=(300, 4)))
    batch = Batch(items, torch.zeros_like(items), torch.full((300,), 4), torch.arange(300))
    target = 1 + own * size + size - 1 - generator.integers(2, size=300)
    hits = {}
    for name, keys in (("text", {}), ("dealt", {"shuffle": True})):
        context = ModelContext(len(group) - 1, 300, 10, counts, text_vectors=vectors, seen_items="mask")
        fallback = DenseFallback(DenseConfig(map="none", first=5, **keys), context)
        warm = torch.nonzero(counts[1:])[:7, 0].expand(300, -1) + 1
        lists, _ = fallback.into_lists(warm, torch.arange(7, 0, -1).float().expand(300, -1), batch, 12)
        hits[name] = float((lists[:, :10] == torch.from_numpy(target)[:, None]).any(1).float().mean())
    # By chance five to eight of the twenty cold items stand in the ten places.
    assert hits["text"] > 0.95, hits
    assert hits["dealt"] < 0.45, hits


def test_without_cold_items_and_without_a_fallback_nothing_changes_by_a_bit():
    keys, histories = SIZES["tiger"], world().histories
    plain, dense = fresh("tiger", keys), fresh("tiger", {**keys, "fallback": "dense"})
    assert {name for name in dense.stored_state() if name not in plain.stored_state()} == {
        f"fallback.{name}" for name in ("text", "history_map", "is_cold", "masks_seen")
    }
    with torch.no_grad():
        before, after = plain.recommend(histories, 20), dense.recommend(histories, 20)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["tiger", "rpg"])
def test_a_stored_run_answers_as_it_did_and_lists_a_cold_item(name):
    keys = {**SIZES[name], "fallback": "dense", "dense": {"first": 3}}
    model = fresh(name, keys)
    model.fallback.is_cold[11] = True
    model.fallback.masks_seen.fill_(True)
    opened = fresh(name, keys, with_dependencies=False)
    opened.load_stored_state(model.stored_state())
    with torch.no_grad():
        items, scores = model.recommend(world().histories, 10)
        again = opened.eval().recommend(world().histories, 10)
    assert torch.equal(items, again[0])
    assert torch.equal(scores, again[1])
    met = (world().histories.items == 11).any(1)
    assert (items == 11).any(1)[~met].all()


def test_mistakes_are_told_by_name(run_config, tmp_path, cli):
    for words, said in (
        (("model.fallback=dens",), r"unknown model\.fallback 'dens'; did you mean 'dense'"),
        (("model.fallback=dense", "model.dense.map=rige"), r"unknown model\.dense\.map 'rige'; did you mean 'ridge'"),
        (("model.fallback=dense", "model.dense.first=-1"), r"model\.dense\.first=-1 must be 0 or more"),
        (("model.fallback=dense", "model.dense.decay=2"), r"model\.dense\.decay=2 must lie between 0 and 1"),
    ):
        with pytest.raises(UserError, match=said):
            run_config(tmp_path, "model=tiger", *words).check()
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(70)))
    words = (
        "model=tiger",
        "model.tokenizer.model=random_ids",
        "model.fallback=dense",
        "data=table",
        f"data.path={path}",
    )
    done = cli(*words, "data.k_core=0", "tracking=off", cwd=tmp_path)
    assert done.status != 0
    assert "the model 'tiger' needs text_vectors, which data=table does not have" in done.err
