"""Beam 50 against the exact scores of a catalogue with several times as many items, on networks that have learned something and not all.

Both are judged by the metrics they lead to, on users whose next item is open: the lists must differ somewhere for this to say anything.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.registry import lookup

N_ITEMS, N_USERS, LENGTH, BEAMS = 300, 200, 6, 50
STEPS, PART = 140, 100
SIZES = {
    "tiger": {
        "hidden_size": 32,
        "n_layers": 1,
        "n_heads": 2,
        "head_size": 16,
        "feedforward_size": 64,
        "dropout": 0.0,
        "encoder": "causal",  # learns from all prefixes in one pass
    },
    "lcrec": {
        "tiny_hidden_size": 32,
        "tiny_n_heads": 2,
        "tiny_feedforward_size": 64,
        "n_layers": 1,
        "dropout": 0.0,
        "item2index": 0.0,
        "index2item": 0.0,
        "fusionseqrec": 0.0,
    },
}


@pytest.fixture(scope="module")
def walks():
    """Training and test rows [.., LENGTH + 1]: every item is followed by one of six, the first ones more often."""
    generator = np.random.default_rng(5)
    after = generator.integers(1, N_ITEMS + 1, (N_ITEMS + 1, 6))
    chance = 0.6 ** np.arange(6)
    rows = np.zeros((6 * N_USERS, LENGTH + 1), dtype=np.int64)
    rows[:, 0] = generator.integers(1, N_ITEMS + 1, len(rows))
    for t in range(LENGTH):
        rows[:, t + 1] = after[rows[:, t], generator.choice(6, len(rows), p=chance / chance.sum())]
    return torch.from_numpy(rows[N_USERS:]), torch.from_numpy(rows[:N_USERS])


def batch_of(rows):
    n = len(rows)
    lengths = torch.full((n,), LENGTH)
    items = rows[:, :-1].contiguous()
    return Batch(items, torch.zeros_like(items), lengths, torch.arange(n), targets=rows[:, 1:].contiguous())


def metrics(items, target):
    """(Recall@10, NDCG@10)."""
    hit = items[:, :10] == target[:, None]
    return float(hit.any(1).double().mean()), float((hit / torch.log2(torch.arange(10) + 2.0)).sum(1).mean())


@pytest.mark.parametrize("name", ["tiger", "lcrec"])
def test_beam_fifty_is_within_half_a_percent_of_the_exact_scores(walks, name):
    every = np.random.default_rng(0).permutation(16**3)[:N_ITEMS]
    codes = torch.from_numpy(np.stack(np.unravel_index(every, (16, 16, 16)), 1))
    codes = torch.cat([torch.full((1, 3), -1), codes])
    tokenizer = SimpleNamespace(codes=codes, sizes=torch.tensor([16] * 3), config=SimpleNamespace(name="hand"))
    entry = lookup(name)
    torch.manual_seed(0)
    context = ModelContext(N_ITEMS, N_USERS, LENGTH, dependencies={"tokenizer": tokenizer})
    model = entry.model(entry.config(**SIZES[name], beams=BEAMS), context).train()
    known, asked = walks[0], batch_of(walks[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for part in torch.randint(len(known), (STEPS, PART)):
        optimizer.zero_grad()
        model.training_loss(batch_of(known[part])).backward()
        optimizer.step()
    model.eval()
    target = asked.targets[:, -1]
    with torch.no_grad():
        listed, scores = model.recommend(asked, BEAMS)
        exact = model.score(asked)
    best = exact.topk(BEAMS, dim=1)
    # A narrower search than the catalogue does miss something, at the end of the lists if at all.
    assert not torch.equal(listed, best.indices)
    assert (scores <= best.values + 1e-4).all()
    torch.testing.assert_close(scores, exact.gather(1, listed), atol=1e-4, rtol=1e-4)
    exactly = metrics(best.indices, target)
    assert exactly[0] > 3 * 10 / N_ITEMS  # three times what lists by chance have
    assert metrics(listed, target) == pytest.approx(exactly, rel=0.005)
