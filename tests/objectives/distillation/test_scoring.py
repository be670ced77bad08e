"""What models say at every position, against asking for one history at a time."""

from __future__ import annotations

import pytest
import torch

from recbench.data.batches import Batch
from recbench.models.base import Recommender
from recbench.objectives.distillation.scoring import best_items, full_scores

TEACHERS = ["sasrec", "slmrec", "markov", "ease", "itemknn", "popularity", "recent_popularity"]


def history(batch, b, i):
    """The history of row b up to position i, as a batch of its own."""
    cut = slice(0, i + 1)
    return Batch(
        batch.items[b : b + 1, cut], batch.timestamps[b : b + 1, cut], torch.tensor([i + 1]), batch.user[b : b + 1]
    )


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("chunk", [1, 700, 10**6])
def test_scores_and_best_items_are_those_of_each_history(build_teacher, batch, by_position, monkeypatch, name, chunk):
    monkeypatch.setattr("recbench.nn.losses.catalogue.CHUNK_VALUES", chunk)
    teacher = build_teacher(name)
    scores = full_scores(teacher, batch)
    best = best_items(teacher, batch, 5)
    assert scores.dtype == torch.float32
    assert (best.dtype, tuple(best.shape)) == (torch.int32, (int(batch.lengths.sum()), 5))
    for n, (b, i) in enumerate(by_position(batch)):
        expected = teacher.score(history(batch, b, i))[0]
        torch.testing.assert_close(scores[n, 1:], expected[1:], atol=1e-5, rtol=1e-5)
        assert 0 not in best[n]
        # By value, because items that are equally good may stand in any order.
        torch.testing.assert_close(expected[best[n].long()], expected[1:].topk(5).values, atol=1e-5, rtol=1e-5)


def test_items_of_the_history_are_not_left_out(build_teacher, batch):
    best = best_items(build_teacher("popularity"), batch, 60)
    assert (best.sort(dim=1).values == torch.arange(1, 61)).all()


class Lists(Recommender):
    """A generator: lists of two items, and nothing where a third should stand."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.n_items = 60

    def recommend(self, batch, k):
        last = batch.items[torch.arange(len(batch)), batch.lengths - 1]
        return torch.stack([last, last % 60 + 1, torch.full_like(last, -1)], dim=1)[:, :k], torch.zeros(len(batch), k)


def test_a_generator_may_give_lists_that_are_too_short(batch, by_position):
    best = best_items(Lists(), batch, 3)
    for n, (b, i) in enumerate(by_position(batch)):
        item = int(batch.items[b, i])
        assert best[n].tolist() == [item, item % 60 + 1, 0]
