"""Histories as sets, alone and in groups of like lengths."""

import torch

from recbench.nn.item_sets import distinct_items, sets_by_length


def test_an_item_counts_once_and_a_pad_never():
    items, there = distinct_items(torch.tensor([[3, 1, 3, 0], [2, 2, 2, 2]]))
    assert [row[kept].tolist() for row, kept in zip(items, there, strict=True)] == [[1, 3], [2]]


def test_groups_hold_every_set_once_and_few_pads():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([600, 1, 2, 2, 3, 40, 4, 5, 33, 0])
    items = torch.randint(1, 10_000, (10, 600), generator=generator) * (torch.arange(600) < lengths[:, None])
    groups = sets_by_length(items)
    assert [tuple(own.shape) for own, _ in groups] == [(2, 1), (2, 2), (2, 4), (1, 5), (2, 40), (1, 600)]
    found = [set(row[kept].tolist()) for own, there in groups for row, kept in zip(own, there, strict=True)]
    own, there = distinct_items(items[lengths.argsort(stable=True)])
    assert found == [set(row[kept].tolist()) for row, kept in zip(own, there, strict=True)]


def test_rows_of_one_length_are_one_group():
    groups = sets_by_length(torch.randint(1, 50, (4, 6)))
    assert [own.shape for own, _ in groups] == [(4, 6)]
