"""The mask of CL4SRec is an item of its own: read where an item is hidden, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.objectives.contrastive.base import build_auxiliaries, representations
from recbench.objectives.contrastive.cl4srec import hidden_items_read_as, input_table
from recbench.objectives.contrastive.info_nce import info_nce


@pytest.fixture
def view(batch):
    """The batch with the second and the last event of each row hidden."""
    items = batch.items.clone()
    items[:, 1] = 0
    items[torch.arange(len(batch)), batch.lengths - 1] = 0
    return replace(batch, items=items)


def test_a_hidden_item_is_read_as_the_mask_and_everything_else_as_before(build, view):
    table, vector = build().item_embedding, torch.randn(16)
    before = table(view.items)
    with hidden_items_read_as(vector, table, view):
        during = table(view.items)
    hidden = (view.items == 0) & view.mask
    assert hidden.any()
    assert torch.equal(during[hidden], vector.expand(int(hidden.sum()), 16))
    assert torch.equal(during[~hidden], before[~hidden])
    assert torch.equal(table(view.items), before)
    assert not table._forward_hooks


def test_the_table_is_itself_again_after_an_error(build, view):
    table = build().item_embedding
    with pytest.raises(ZeroDivisionError), hidden_items_read_as(torch.zeros(16), table, view):
        1 / 0
    assert not table._forward_hooks


def test_the_mask_is_neither_the_pad_nor_any_item_to_a_model(build, view, model_name):
    model = build(model_name).eval()
    table = input_table(model)
    plain = representations(model, view)
    # Not the same number throughout: a norm would make the pad of that.
    with hidden_items_read_as(torch.linspace(-1, 1, table.embedding_dim), table, view):
        masked = representations(model, view)
    assert not torch.isclose(plain, masked).all(dim=1).any()


def test_pads_never_become_the_mask(build, view, model_name):
    """Even a model that looks at the places behind a history finds pads there."""
    table = input_table(build(model_name))
    with hidden_items_read_as(torch.ones(table.embedding_dim), table, view):
        assert not table(view.items)[~view.mask].any()


def test_the_mask_learns_where_something_is_hidden_and_only_there(build, dataset, batch):
    for mask, learns in ((0.5, True), (0.0, False)):
        model = build(auxiliary=["cl4srec"])
        model.config.cl4srec.mask = mask
        (auxiliary,) = build_auxiliaries(model, dataset)
        torch.manual_seed(1)
        auxiliary.draw(batch)
        sum(auxiliary.terms(model).values()).backward()
        assert bool(auxiliary.mask_vector.grad.any()) == learns


def test_the_term_is_info_nce_of_the_two_views(build, dataset, batch):
    model = build(auxiliary=["cl4srec"])
    model.config.cl4srec.temperature = 0.5
    (auxiliary,) = build_auxiliaries(model, dataset)
    auxiliary.draw(batch)
    vectors = model.item_embedding.weight.detach().clone()
    # Where nothing is hidden the term is InfoNCE of plain representations: give every hidden item the pad's vector.
    with torch.no_grad():
        auxiliary.mask_vector.zero_()
    first, second = (representations(model, part) for part in auxiliary.views[0])
    expected = 0.1 * info_nce(first, second, 0.5)
    torch.testing.assert_close(auxiliary.terms(model)["cl4srec"], expected)
    assert torch.equal(model.item_embedding.weight, vectors)
    assert math.isfinite(expected.item())


def test_a_model_that_looks_no_item_up_is_refused_by_name(build, dataset):
    model = build(auxiliary=["cl4srec"])
    model.item_embedding = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"'sasrec' learns no vectors of the items that it reads.*cl4srec"):
        build_auxiliaries(model, dataset)


def test_a_model_that_reads_nodes_is_refused_by_name(build, dataset):
    with pytest.raises(UserError, match=r"'srgnn' reads items as the nodes of a graph.*cl4srec"):
        build_auxiliaries(build("srgnn", auxiliary=["cl4srec"]), dataset)
