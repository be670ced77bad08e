"""MMGRec's two switches: what numbers the items of equal codes, and a history that is read as a set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.generative.tiger import TIGER, TIGERConfig
from recbench.models.registry import lookup
from recbench.models.tokenizers.tokenizer import collision_digit

SMALL = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "head_size": 8, "feedforward_size": 16, "user_tokens": 3}


def tiger(**keys):
    torch.manual_seed(1)
    codes = torch.tensor([[-1, -1], [0, 0], [0, 1], [1, 0], [1, 1]])
    tokenizer = SimpleNamespace(codes=codes, sizes=torch.tensor([2, 2]), config=SimpleNamespace(name="hand"))
    return TIGER(TIGERConfig(**SMALL, **keys), ModelContext(4, 3, 6, dependencies={"tokenizer": tokenizer})).eval()


def scores(model, *items):
    row = torch.tensor([[*items, 0, 0]])
    with torch.no_grad():
        return model.score(Batch(row, row * 0, torch.tensor([len(items)]), torch.zeros(1, dtype=torch.int64)))[0, 1:]


def test_without_positions_a_history_is_a_set_of_items_and_not_of_codes():
    model = tiger(positions=False)
    torch.testing.assert_close(scores(model, 1, 2, 4), scores(model, 4, 1, 2))
    # Items 1 and 4 have the codes of items 2 and 3 together, dealt out otherwise.
    assert not torch.allclose(scores(model, 1, 4), scores(model, 2, 3))
    ordered = tiger()
    assert not torch.allclose(scores(ordered, 1, 2, 4), scores(ordered, 4, 1, 2))


def test_a_causal_encoder_reads_in_order_and_is_refused():
    with pytest.raises(UserError, match=r"model\.encoder=bidirectional"):
        tiger(positions=False, encoder="causal")


def test_the_digit_goes_by_how_often_an_item_occurs(tiny_data, tiny_split):
    from recbench.data.training import TrainingData

    train = TrainingData.of(tiny_data, tiny_split)
    counts = train.item_counts()[1:]
    found = {}
    for order in ("index", "popularity", "reversed"):
        entry = lookup("random_ids")
        config = entry.config(levels=1, codebook_size=4, collision_digit=order)
        model = entry.model(config, ModelContext(train.n_items, train.n_users, 10, train=train))
        model.fit_to(train)
        found[order] = model.codes[1:].numpy()
    assert np.array_equal(found["index"][:, 0], found["popularity"][:, 0])
    assert np.array_equal(found["index"][:, 1], collision_digit(found["index"][:, :1]))
    for code in range(4):
        group = np.flatnonzero(found["index"][:, 0] == code)
        for order, sign in (("popularity", -1), ("reversed", 1)):
            by_digit = group[np.argsort(found[order][group, 1])]
            assert (np.diff(sign * counts[by_digit]) >= 0).all()
            assert sorted(found[order][group, 1]) == list(range(len(group)))
    with pytest.raises(UserError, match="popularity"):
        entry.model(entry.config(collision_digit="popular"), ModelContext(4, 1, 5))
