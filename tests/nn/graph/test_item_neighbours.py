"""The k largest of rows, where many values are equal."""

import pytest
import torch

from recbench.nn.graph.item_neighbours import largest, nearest


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_are_those_of_a_stable_sort(seed):
    generator = torch.Generator().manual_seed(seed)
    n_rows, width = (int(torch.randint(1, 12, (1,), generator=generator)) for _ in range(2))
    values = torch.randint(0, 4, (n_rows, width), generator=generator).float()
    for k in range(1, width + 1):
        expected = values.sort(dim=1, descending=True, stable=True).indices[:, :k]
        assert torch.equal(largest(values, k), expected)


def test_items_that_are_all_alike_have_the_first_ones_as_neighbours():
    item, near = nearest(torch.ones(6, 3), 2)
    assert item.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert near.tolist() == [0, 1] * 6
