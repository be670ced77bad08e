"""Negatives are uniform over what a user does not have."""

import numpy as np
import torch

from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.nn.negatives import Negatives


def test_negatives_are_uniform_over_what_a_user_does_not_have(tmp_path):
    items = np.array([1, 2, 3, 2, 5, 1, 2, 3, 4, 5, 6])
    data = PreparedData.from_arrays(tmp_path / "d", items, np.array([0, 4, 5, 11]), np.arange(11), n_items=6)
    drawer = Negatives(TrainingData(data, data.offsets[:-1], data.offsets[1:]))
    torch.manual_seed(0)
    user = torch.tensor([0, 1, 2]).repeat(3000)
    drawn = drawer.draw(user, 2)
    assert drawn.shape == (9000, 2)
    for number, allowed in ((0, [4, 5, 6]), (1, [1, 2, 3, 4, 6])):
        counts = torch.bincount(drawn[user == number].flatten(), minlength=7)
        assert counts.nonzero()[:, 0].tolist() == allowed
        share = counts[allowed] / counts.sum()
        assert (share - 1 / len(allowed)).abs().max() < 0.03
    assert drawn[user == 2].min() >= 1  # whoever has everything gets something all the same


def test_taken_pairs_are_exactly_those_of_training(tmp_path):
    generator = np.random.default_rng(0)
    n_users, n_items = 40, 300
    histories = [generator.choice(n_items, size, replace=False) + 1 for size in generator.integers(1, 60, n_users)]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    data = PreparedData.from_arrays(tmp_path / "d", np.concatenate(histories), offsets, n_items=n_items)
    drawer = Negatives(TrainingData(data, data.offsets[:-1], data.offsets[1:]))
    user, item = torch.arange(n_users)[:, None], torch.arange(1, n_items + 1)[None]
    wanted = torch.zeros(n_users, n_items, dtype=torch.bool)
    for number, history in enumerate(histories):
        wanted[number, history - 1] = True
    assert torch.equal(drawer.taken(user.expand(-1, n_items), item.expand(n_users, -1)), wanted)
    assert drawer.marked.float().mean() < 1 / 4  # so a draw is hardly ever searched for


def test_without_training_pairs_nothing_is_taken(tmp_path):
    data = PreparedData.from_arrays(tmp_path / "d", np.array([1, 2]), np.array([0, 2]), n_items=3)
    drawer = Negatives(TrainingData(data, data.offsets[:-1], data.offsets[:-1]))
    assert not drawer.taken(torch.zeros(3, dtype=torch.int64), torch.arange(1, 4)).any()
