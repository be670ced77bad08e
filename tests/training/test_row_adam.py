"""Sparse gradients are the dense ones' rows; RowAdam is torch's AdamW where every row moves and its SparseAdam where few do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from recbench.training.row_adam import RowAdam, look_up_sparsely

N_ITEMS, WIDTH, POSITIONS = 40, 6, 17

LOSSES = {
    "shared": {"loss": "sampled_softmax", "n_negatives": 8},
    "popularity": {"loss": "sampled_softmax", "n_negatives": 8, "sampling": "popularity"},
    "per_position": {"loss": "sampled_softmax", "n_negatives": 8, "negatives": "per_position"},
    "bce": {"loss": "bce", "n_negatives": 1},
    "gbce": {"loss": "gbce", "n_negatives": 4},
    "bpr_max": {"loss": "bpr_max", "n_negatives": 8},
}


def gradients(keys, sparse):
    """(loss, gradient of the table) of a model that looks its inputs up, adds them up and is trained by the loss."""
    generator = torch.Generator().manual_seed(2)
    embedding = torch.nn.Embedding(N_ITEMS + 1, WIDTH, padding_idx=0)
    with torch.no_grad():
        embedding.weight.copy_(torch.randn(N_ITEMS + 1, WIDTH, generator=generator))
    items = torch.randint(0, N_ITEMS + 1, (POSITIONS, 3), generator=generator)
    targets = torch.randint(1, N_ITEMS + 1, (POSITIONS,), generator=generator)
    loss = CatalogueLoss(LossConfig(**keys), N_ITEMS, torch.arange(N_ITEMS + 1))
    if sparse:
        look_up_sparsely(embedding, N_ITEMS + 1)
        loss.sparse_gradients = True
    torch.manual_seed(5)
    value = loss(embedding(items).sum(1), embedding.weight, targets)
    value.backward()
    return value.detach(), embedding.weight.grad


@pytest.mark.parametrize("keys", LOSSES.values(), ids=LOSSES)
def test_a_sparse_gradient_is_the_dense_one(keys):
    (dense_loss, dense), (sparse_loss, sparse) = gradients(keys, False), gradients(keys, True)
    assert sparse.is_sparse
    assert not dense.is_sparse
    torch.testing.assert_close(sparse_loss, dense_loss)
    torch.testing.assert_close(sparse.to_dense(), dense)


def trained(kind, looked_up, steps=6, restart=None, **keys):
    """The table after some steps that look up the rows ``looked_up[step]``, some of them twice. restart: stored and read back before that step."""
    sparse = kind is not torch.optim.AdamW
    generator = torch.Generator().manual_seed(4)
    table = torch.nn.Parameter(torch.randn(9, 3, generator=generator))
    goal = torch.randn(9, 3, generator=generator)
    optimizer = kind([table], lr=0.05, **keys)
    for step in range(steps):
        if step == restart:
            stored, optimizer = optimizer.state_dict(), kind([table], lr=0.05, **keys)
            optimizer.load_state_dict(stored)
        optimizer.zero_grad()
        rows = torch.tensor(looked_up[step % len(looked_up)])
        (F.embedding(rows, table, sparse=sparse) - goal[rows]).square().sum().backward()
        optimizer.step()
    return table.detach(), optimizer


EVERY, SOME = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 3]], [[1, 2, 2], [5], [1, 7, 5]]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_where_every_row_moves_it_is_adamw(decay):
    ours, _ = trained(RowAdam, EVERY, weight_decay=decay, fused=True)
    torch.testing.assert_close(ours, trained(torch.optim.AdamW, EVERY, weight_decay=decay, fused=True)[0])


def test_where_few_rows_move_it_is_torchs_sparse_adam_and_the_others_stand_still():
    ours, _ = trained(RowAdam, SOME, weight_decay=0.0)
    torch.testing.assert_close(ours, trained(torch.optim.SparseAdam, SOME)[0])
    start, _ = trained(RowAdam, SOME, steps=0)
    untouched = [0, 3, 4, 6, 8]
    assert torch.equal(ours[untouched], start[untouched])
    assert (ours[[1, 2, 5, 7]] != start[[1, 2, 5, 7]]).all()


def test_a_stored_state_goes_on_as_if_nothing_had_happened():
    whole, _ = trained(RowAdam, SOME, weight_decay=0.1, fused=True)
    assert torch.equal(whole, trained(RowAdam, SOME, restart=3, weight_decay=0.1, fused=True)[0])


def test_dense_gradients_beside_sparse_ones_are_adamws():
    torch.manual_seed(0)
    table, layer = torch.nn.Embedding(9, 3, sparse=True), torch.nn.Linear(3, 2)
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(layer.state_dict())
    ours = RowAdam([*table.parameters(), *layer.parameters()], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.1)
    same = table.weight[[1, 2]].detach().clone()
    for optimizer, part, inputs in ((ours, layer, table(torch.tensor([1, 2]))), (theirs, other, same)):
        optimizer.step(lambda o=optimizer, p=part, x=inputs: (o.zero_grad(), p(x).square().sum().backward()))
    assert torch.equal(layer.weight, other.weight)


SAMPLED = ("model=sasrec", "model.loss=sampled_softmax", "model.n_negatives=16", "training.max_epochs=2")


def test_a_run_learns_with_sparse_gradients_under_a_key_of_its_own(run_config, tmp_path):
    from recbench.experiment.run import run

    dense = run(run_config(tmp_path, *SAMPLED))
    sparse = run(run_config(tmp_path, *SAMPLED, "training.embedding_gradients=sparse"))
    again = run(run_config(tmp_path, *SAMPLED, "training.embedding_gradients=dense"))
    assert sparse.folder.key != dense.folder.key == again.folder.key
    assert again.reused
    first, last = sparse.folder.history()
    assert last["train/loss"] < first["train/loss"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("training.embedding_gradients=rows",), "unknown training.embedding_gradients"),
        (("training.embedding_gradients=sparse", "training.l2=0.1"), "training.l2 needs the whole gradient"),
        (("training.embedding_gradients=sparse", "training.gradient_clip=1"), "training.gradient_clip needs"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(run_config, tmp_path, words, told):
    with pytest.raises(UserError, match=told):
        run_config(tmp_path, *SAMPLED, *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model=sasrec", "model.loss=softmax"), "model.loss=softmax, which moves every item"),
        (("model=hstu", "model.loss=sampled_softmax"), "does not fit this model"),
    ],
)
def test_where_gradients_would_be_dense_all_the_same_it_says_so(run_config, tmp_path, words, told):
    from recbench.experiment.run import run

    with pytest.raises(UserError, match=told):
        run(run_config(tmp_path, *words, "training.embedding_gradients=sparse", "training.max_epochs=1"))
