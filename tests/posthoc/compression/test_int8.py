"""Numbers in 8 bits: what they mean, what is computed with them, and which tensors of a model become them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, Recommender
from recbench.posthoc.compression.int8 import (
    Int8Linear,
    Int8Matrix,
    Int8Table,
    float_product,
    quantise,
    quantise_rows,
    whole_product,
)


@pytest.fixture
def numbers():
    return lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_every_number_is_within_half_a_step(numbers):
    matrix = numbers(20, 33) * torch.logspace(-6, 6, 20)[:, None]  # rows of very different size
    values, scales = quantise_rows(matrix)
    assert values.dtype == torch.int8
    assert (values.float().abs().amax(1) == 127).all()
    assert ((values * scales - matrix).abs() <= 0.5001 * scales).all()


def test_a_row_of_zeros_stays_one_and_a_nan_is_not_hidden():
    values, scales = quantise_rows(torch.tensor([[0.0, 0.0], [1.0, torch.nan]]))
    assert (values[0] * scales[0]).tolist() == [0.0, 0.0]
    assert scales[1].isnan().all()
    out = Int8Matrix(torch.eye(2)).product(torch.tensor([[torch.nan, 1.0], [1.0, 1.0]]))
    assert out[0].isnan().all()
    assert not out[1].isnan().any()


def test_the_product_is_that_of_the_rounded_numbers(numbers):
    matrix, x = numbers(30, 16), numbers(5, 7, 16)
    packed = Int8Matrix(matrix)
    values, scales = quantise_rows(x.view(-1, 16))
    expected = ((values.double() * scales) @ packed.detach().double().T).view(5, 7, 30)
    torch.testing.assert_close(packed.product(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert (packed.product(x) - x @ matrix.T).norm() < 0.02 * (x @ matrix.T).norm()


def test_elsewhere_than_on_a_cpu_the_same_numbers_come_out():
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randint(-127, 128, (n, 1000), dtype=torch.int8, generator=generator) for n in (5, 30))
    assert torch.equal(float_product(left, right), whole_product(left, right))
    assert torch.equal(whole_product(left, right).long(), left.long() @ right.long().T)


def test_a_row_does_not_depend_on_its_neighbours(numbers):
    packed, x = Int8Matrix(numbers(30, 16)), numbers(9, 16)
    alone = torch.cat([packed.product(row[None]) for row in x])
    assert torch.equal(alone, packed.product(torch.cat([x, 1e6 * numbers(3, 16)]))[:9])


def test_it_stands_where_a_weight_stood(numbers):
    matrix, x = numbers(30, 16), numbers(5, 16)
    packed = Int8Matrix(matrix)
    assert packed.weight is packed
    assert packed.shape == (30, 16)
    assert torch.equal(x @ packed.T, packed.product(x))
    ids = torch.tensor([[3, 0], [29, 3]])
    assert torch.equal(packed[ids], packed.detach()[ids])
    assert (packed.detach() - matrix).abs().max() < 0.02


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_layer_keeps_its_bias_and_the_type_of_its_input(numbers, bias, dtype):
    layer = nn.Linear(16, 30, bias=bias).to(dtype)
    x = numbers(4, 16).to(dtype)
    out = Int8Linear(layer)(x)
    assert out.dtype == dtype
    assert (out - layer(x)).float().norm() < 0.03 * layer(x).float().norm()


def test_parameters_are_counted_and_buffers_are_not():
    assert sum(p.numel() for p in Int8Matrix(nn.Parameter(torch.ones(3, 4))).parameters()) == 12
    assert list(Int8Matrix(torch.ones(3, 4)).parameters()) == []


def test_layers_and_item_vectors_of_a_model_become_int8(original, model_of, batch):
    model = model_of(original)
    before = model.score(batch)
    item_vectors = model.item_vectors().clone()
    quantise(model)
    kinds = {name: type(module) for name, module in model.named_modules() if isinstance(module, Int8Matrix)}
    assert kinds.pop("item_embedding") is Int8Table
    assert len(kinds) == 2 * 4  # two projections in attention and two around the feed-forward neurons, in each layer
    assert set(kinds.values()) == {Int8Linear}
    assert isinstance(model.position_embedding, nn.Embedding)
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    after = model.score(batch)
    assert (after - before).norm() < 0.03 * before.norm()
    assert not torch.equal(after, before)
    assert (model.item_vectors().detach() - item_vectors).abs().max() < 0.01 * item_vectors.abs().max()


class Bare(Recommender):
    """A model whose item vectors are a plain buffer, beside another one of the same height."""

    def __init__(self, n_items):
        super().__init__(SimpleNamespace(name="bare"), ModelContext(n_items, 1, 5))
        self.register_buffer("table", torch.randn(n_items + 1, 8))
        self.register_buffer("counts", torch.ones(n_items + 1, dtype=torch.int64))

    def score(self, batch):
        return self.table[batch.items[:, -1]] @ self.table.T


def test_a_bare_table_is_read_and_multiplied_as_before(batch, stage):
    model = Bare(stage.data.n_items)
    before = model.score(batch)
    quantise(model)
    assert isinstance(model.table, Int8Table)
    assert model.counts.dtype == torch.int64
    assert (model.score(batch) - before).norm() < 0.02 * before.norm()


def test_a_model_without_layers_is_refused():
    class Empty(Recommender):
        pass

    with pytest.raises(UserError, match=r"'empty' has no linear layer and no item vectors for compression=int8"):
        quantise(Empty(SimpleNamespace(name="empty"), ModelContext(5, 1, 5)))
