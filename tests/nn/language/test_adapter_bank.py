"""Adapters that are mixed by weights of each row, against the product written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.nn.language.adapter_bank import AdapterBank


def layer(n, compose, start=0.5, rank=2, alpha=6.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4))
    return model, AdapterBank(model, ["0"], n, rank, alpha, compose, start)


def given(n):
    torch.manual_seed(1)
    return torch.randn(3, 2, 5), torch.rand(3, 2, n)


@pytest.mark.parametrize("compose", ["sum", "factors"])
def test_the_mixture_is_the_product_written_out(compose):
    model, bank = layer(3, compose)
    x, weights = given(3)
    mixed = model[0]
    with torch.no_grad(), bank.mixing(weights):
        found = model(x)
    for b in range(3):
        for place in range(2):
            w = weights[b, place]
            if compose == "sum":
                change = sum(w[k] * mixed.up[k] @ mixed.down[k] for k in range(3))
            else:
                change = torch.einsum("n,nor->or", w, mixed.up) @ torch.einsum("n,nri->ri", w, mixed.down)
            expected = mixed.base(x[b, place]) + 3.0 * change @ x[b, place]
            torch.testing.assert_close(found[b, place], expected, atol=1e-5, rtol=1e-5)
            alone = weights[b : b + 1, place : place + 1]
            with torch.no_grad(), bank.mixing(alone):
                torch.testing.assert_close(model(x[b : b + 1, place : place + 1])[0, 0], expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(x), mixed.base(x))  # outside nothing is added


def test_one_hot_weights_and_equal_adapters_are_one_adapter_in_both_forms_and_else_they_differ():
    x, _ = given(2)
    one_hot = torch.tensor([1.0, 0.0]).expand(3, 2, -1)
    half = torch.full((3, 2, 2), 0.5)

    def both(weights, equal=False):
        out = []
        for compose in ("sum", "factors"):
            model, bank = layer(2, compose)
            with torch.no_grad():
                if equal:
                    model[0].up[1], model[0].down[1] = model[0].up[0], model[0].down[0]
                with bank.mixing(weights):
                    out.append(model(x))
        return out

    torch.testing.assert_close(*both(one_hot))
    torch.testing.assert_close(*both(half, equal=True))
    assert (both(half)[0] - both(half)[1]).abs().max() > 0.01


def test_a_bank_without_a_layer_is_refused():
    with pytest.raises(UserError, match=r"no linear layer is called q_proj; for model.lora_targets there are: 0"):
        AdapterBank(nn.Sequential(nn.Linear(2, 2)), ["q_proj"], 1, 1, 1.0, "sum")


def test_a_program_is_made_without_parting_the_layers_from_their_bank():
    """torch.export puts copies in the place of the lists of a module."""
    model, bank = layer(2, "sum")

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, weights):
            with bank.mixing(weights):
                return self.model(x)

    x, weights = given(2)
    with torch.no_grad():
        before = Mixed()(x, weights)
        program = torch.export.export(Mixed(), (x, weights)).module()
        torch.testing.assert_close(Mixed()(x, weights), before)
        torch.testing.assert_close(program(x, weights), before)
        assert (before - model(x)).abs().max() > 1e-2
