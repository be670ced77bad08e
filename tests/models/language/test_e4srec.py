"""What sets E4SRec apart from SLMRec: frozen vectors at the input only, and a free vector for each item at the output."""

from __future__ import annotations

import pytest
import torch

from recbench.data.batches import WindowDataset, training_windows
from recbench.models import weights
from recbench.models.base import ModelContext
from recbench.models.language.e4srec import E4SRec, E4SRecConfig
from recbench.models.language.slmrec import SLMRec, SLMRecConfig
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

MAX_LENGTH = 20
TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2}


@pytest.fixture(scope="module")
def context(tiny_data):
    bare = ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH)
    torch.manual_seed(5)
    table = SASRec(SASRecConfig(hidden_size=12, n_heads=2, feedforward_size=8), bare)
    return ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, None, {"item_table": table})


@pytest.fixture(scope="module")
def batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    return WindowDataset(tiny_data, windows)[torch.arange(10).numpy()]


def build(context, **keys):
    torch.manual_seed(1)
    return E4SRec(E4SRecConfig(**{**TINY, **keys}), context)


def test_each_item_has_a_free_vector_as_wide_as_the_states(context, tiny_data):
    model = build(context)
    assert model.item_vectors() is model.head.weight
    assert model.head.weight.shape == (tiny_data.n_items + 1, 16)
    assert model.head.bias is None
    assert not hasattr(model, "state_to_item")
    states = torch.randn(3, 16)
    assert model.queries(states) is states
    assert model.item_width == model.width == 16


def test_scores_are_those_of_the_head(context, batch):
    model = build(context).eval()
    with torch.no_grad():
        last = model.hidden_states(batch)[-1][torch.arange(len(batch)), batch.lengths - 1]
        torch.testing.assert_close(model.score(batch), model.head(last), atol=1e-6, rtol=1e-5)


def test_the_head_learns_and_the_item_table_does_not(context, batch):
    model = build(context).train()
    table, head = model.item_table.clone(), model.head.weight.detach().clone()
    assert torch.equal(table, context.dependencies["item_table"].item_vectors())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    first = model.training_loss(batch)
    for _ in range(5):
        optimizer.zero_grad()
        model.training_loss(batch).backward()
        optimizer.step()
    assert torch.equal(model.item_table, table)
    assert not torch.equal(model.head.weight[1:], head[1:])
    assert torch.equal(model.head.weight[0], head[0])  # the pad is no class
    assert model.training_loss(batch) < first


def test_only_the_head_differs_from_slmrec(context, batch):
    free = build(context).eval()
    torch.manual_seed(1)
    tied = SLMRec(SLMRecConfig(**TINY), context).eval()
    own = {"head.weight"}
    assert free.state_dict().keys() - tied.state_dict().keys() == own
    assert tied.state_dict().keys() - free.state_dict().keys() == {"state_to_item.weight"}
    tied.load_state_dict({k: v for k, v in free.state_dict().items() if k not in own}, strict=False)
    with torch.no_grad():
        for mine, theirs in zip(free.hidden_states(batch), tied.hidden_states(batch), strict=True):
            assert torch.equal(mine, theirs)


def test_the_head_is_stored_beside_adapters_and_a_learned_prompt(context, batch, stored_llama, tmp_path):
    keys = {"backbone": str(stored_llama), "lora_rank": 2, "prompt": "learned", "prompt_lengths": [3, 0]}
    model = build(context, **keys).eval()
    with torch.no_grad():
        expected = model.score(batch)
    stored = model.stored_state()
    assert {
        "item_table",
        "item_to_state.weight",
        "item_to_state.bias",
        "head.weight",
        "backbone.prompt.prefix",
    } <= stored.keys()
    assert "backbone.prompt.suffix" not in stored
    weights.save_weights(model, tmp_path / "weights.safetensors")
    fresh = build(ModelContext(context.n_items, context.n_users, MAX_LENGTH), **keys).eval()
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh.score(batch), expected)
