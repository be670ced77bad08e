"""Which parameters an answer reads."""

from __future__ import annotations

import torch
from torch import nn

from recbench.evaluation.cost.parameters import active_parameters, buffer_values


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.rows = nn.Parameter(torch.randn(6, 4))
        self.used = nn.Linear(4, 3)
        self.idle = nn.Linear(50, 50)
        self.register_buffer("counts", torch.zeros(7))

    def forward(self, x):
        return self.used(self.table(x) + self.rows[x])


def test_tables_are_counted_apart_and_what_is_not_read_not_at_all():
    model = Model()
    read = active_parameters(model, lambda: model(torch.tensor([1, 2])))
    assert (read.network, read.tables) == (4 * 3 + 3, 10 * 4 + 6 * 4)
    assert buffer_values(model) == 7


def test_a_table_that_is_multiplied_is_a_table_all_the_same():
    model = nn.Embedding(10, 4)
    read = active_parameters(model, lambda: torch.ones(2, 4) @ model.weight.T)
    assert (read.network, read.tables) == (0, 40)


def test_a_view_is_not_reading():
    model = nn.Linear(4, 3)
    assert active_parameters(model, lambda: model.weight.T).network == 0
    assert active_parameters(model, lambda: torch.ones(2, 4) @ model.weight.T).network == 12


def test_shared_memory_counts_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert active_parameters(model, lambda: model(torch.ones(1, 4))).network == 16


def test_parts_that_only_training_uses_are_left_out():
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head_of_training": nn.Linear(4, 9)})
    assert active_parameters(model, lambda: model["body"](torch.ones(1, 4))).network == 20
