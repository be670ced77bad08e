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
