"""Models of users and items: their loss against the formula, their users known, unknown and folded in, their stored vectors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn.models import LightGCN as Theirs

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.data.training_rows import training_rows
from recbench.models.base import ModelContext
from recbench.models.registry import lookup

SEQUENCES = [[1, 2, 3], [2, 3, 4], [], [4, 5, 1, 6], [6, 2, 5]]
MODELS = ("bpr_mf", "lightgcn")


@pytest.fixture
def built(training_of):
    def build(name, sequences=SEQUENCES, seed=0, **keys):
        train = training_of(sequences, n_items=7)
        torch.manual_seed(seed)
        entry = lookup(name)
        keys = {"hidden_size": 5, "deviation": 0.5} | keys
        return entry.model(entry.config(**keys), ModelContext(7, train.n_users, 50, train=train)), train

    return build


def asked(histories, users, *rows):
    return Batch(
        **{**{n: getattr(histories(*rows), n) for n in ("items", "timestamps", "lengths")}, "user": torch.tensor(users)}
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_the_formula(built, name):
    model, train = built(name, penalty=0.3, n_negatives=2)
    batch = training_rows(train, "events", 1)[np.arange(13)]
    torch.manual_seed(3)
    found = model.train().training_loss(batch)
    torch.manual_seed(3)
    negative = model.draw_negatives(batch.user)
    has = [set(row) for row in SEQUENCES]
    assert all(not has[int(user)] & set(row.tolist()) for user, row in zip(batch.user, negative, strict=True))
    users, items = model.vectors()
    own, positive, others = users[batch.user], items[batch.items[:, 0]], items[negative]
    scores = (own[:, None] * others).sum(2) - (own * positive).sum(1, keepdim=True)
    raw_users, raw_items = model.user_embedding.weight, model.item_embedding.weight
    size = raw_users[batch.user].square().sum() + raw_items[batch.items[:, 0]].square().sum()
    size = size + raw_items[negative].square().sum() / 2
    torch.testing.assert_close(found, F.softplus(scores).mean() + 0.15 * size / 13)


def test_lightgcn_is_that_of_torch_geometric_in_forward_and_gradient(built):
    model, _ = built("lightgcn", n_layers=2)
    theirs = Theirs(5 + 8, 5, num_layers=2)
    with torch.no_grad():
        theirs.embedding.weight.copy_(model.nodes())
    users, items = model.train().vectors()
    expected = theirs.get_embedding(model.graph().edge_index.as_tensor())
    torch.testing.assert_close(torch.cat([users, items]), expected)
    weight = torch.randn_like(expected)
    weight[5] = 0  # no loss reads the pad
    (torch.cat([users, items]) * weight).sum().backward()
    (expected * weight).sum().backward()
    found = torch.cat([model.user_embedding.weight.grad, model.item_embedding.weight.grad])
    torch.testing.assert_close(found, theirs.embedding.weight.grad)


@pytest.mark.parametrize("name", MODELS)
def test_users_without_training_events_are_refused_or_folded_in(built, histories, name):
    cold = asked(histories, [0, 2, 9], [1, 2], [3, 3, 4], [5])
    model, _ = built(name)
    with pytest.raises(UserError, match=rf"'{name}' has no vector .* which 2 of the 3 asked are; .*cold_users=fold_in"):
        model.eval().score(cold)
    model, _ = built(name, cold_users="fold_in")
    states = model.eval().user_states(cold)
    torch.testing.assert_close(states[0], model.served()["users"][0])
    if name == "bpr_mf":
        items = model.item_embedding.weight
        torch.testing.assert_close(states[1:], torch.stack([(items[3] + items[4]) / 2, items[5]]))


def test_a_folded_in_user_of_lightgcn_is_the_known_one_less_its_own_vector(built, histories):
    model, _ = built("lightgcn", cold_users="fold_in")
    rows = [row for row in SEQUENCES if row]
    users = torch.tensor([u for u, row in enumerate(SEQUENCES) if row])
    folded = model.eval().user_states(asked(histories, [-1] * 4, *rows))
    own = model.user_embedding.weight[users] / 4
    torch.testing.assert_close(folded, model.served()["users"][users] - own)


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_users_items_and_events_changes_nothing(built, name):
    """The same vectors under other numbers, and histories in another order, give the same scores under those numbers."""
    user_of, item_of = np.array([3, 0, 4, 1, 2]), np.array([0, 4, 7, 1, 2, 6, 3, 5])
    turned = [
        [int(item_of[i]) for i in reversed(SEQUENCES[int(np.flatnonzero(user_of == new)[0])])] for new in range(5)
    ]
    one, _ = built(name)
    other, _ = built(name, turned)
    with torch.no_grad():
        other.user_embedding.weight[user_of] = one.user_embedding.weight
        other.item_embedding.weight[item_of] = one.item_embedding.weight
    found, expected = (m.eval().served()["users"] @ m.item_vectors().T for m in (other, one))
    torch.testing.assert_close(found[user_of][:, item_of], expected)


def test_what_is_stored_scores_without_a_graph(built, histories):
    model, _ = built("lightgcn", cold_users="fold_in")
    state = {name: value.clone() for name, value in model.train().stored_state().items()}
    assert model.training
    again, _ = built("lightgcn", seed=1, cold_users="fold_in")
    again.train_data = None
    again.load_stored_state(state)
    batch = asked(histories, [1, 2], [1, 2], [6])
    torch.testing.assert_close(again.score(batch), model.eval().score(batch))
    with pytest.raises(RuntimeError, match="lacks"):
        again.load_stored_state({name: value for name, value in state.items() if name != "served_fold"})


def test_vectors_that_were_served_are_made_anew_after_a_training(built, histories):
    model, _ = built("lightgcn")
    batch = asked(histories, [1], [1, 2])
    before = model.eval().score(batch)
    model.train()
    with torch.no_grad():
        model.item_embedding.weight += 1
    assert not torch.allclose(model.eval().score(batch), before)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"hidden_size": 0}, r"model\.hidden_size=0 must be at least 1"),
        ({"penalty": -1.0}, r"model\.penalty must be a number at least 0"),
        ({"deviation": 0.0}, r"model\.deviation must be a number above 0"),
        ({"cold_users": "fold"}, r"unknown model\.cold_users 'fold'; .*fold_in"),
        ({"bpr_weight": 0.0}, r"model\.bpr_weight=0 leaves nothing to learn from"),
        ({"n_layers": -1}, r"model\.n_layers=-1 must not"),
        ({"combine": "max"}, r"unknown model\.combine 'max'"),
    ],
)
def test_values_that_make_no_sense_are_refused(built, keys, told):
    with pytest.raises(UserError, match=told):
        built("lightgcn", **keys)
