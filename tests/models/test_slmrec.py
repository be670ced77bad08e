"""What is particular to SLMRec: a frozen item table that came from another run, and a backbone that may be frozen too."""

from __future__ import annotations

import pytest
import torch

from recbench import weights
from recbench.data.batches import WindowDataset, training_windows
from recbench.errors import UserError
from recbench.models.base import ModelContext
from recbench.models.popularity import Popularity, PopularityConfig
from recbench.models.sasrec import SASRec, SASRecConfig
from recbench.models.slmrec import SLMRec, SLMRecConfig

MAX_LENGTH = 20


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


def config(**keys):
    tiny = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2}
    return SLMRecConfig(**{**tiny, **keys})


def steps(model, batch, n=3):
    model.train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for _ in range(n):
        optimizer.zero_grad()
        model.training_loss(batch).backward()
        optimizer.step()
    return model.eval()


def test_the_item_table_is_a_frozen_copy(context, batch):
    source = context.dependencies["item_table"].item_vectors()
    before = source.clone()
    model = steps(SLMRec(config(), context), batch)
    assert torch.equal(model.item_vectors(), before)
    assert torch.equal(source, before)
    assert model.item_vectors().data_ptr() != source.data_ptr()
    assert not any(p is source for p in model.parameters())


def test_a_model_without_item_vectors_cannot_lend_them(context):
    popularity = Popularity(PopularityConfig(), context)
    poor = ModelContext(context.n_items, context.n_users, MAX_LENGTH, None, {"item_table": popularity})
    with pytest.raises(UserError, match=r"item_table.model=popularity has no item vectors.*sasrec"):
        SLMRec(config(), poor)


def test_of_a_frozen_backbone_only_what_was_learned_is_stored(context, batch, stored_llama, tmp_path):
    keys = config(backbone=str(stored_llama), lora_rank=2)
    torch.manual_seed(1)
    model = steps(SLMRec(keys, context), batch)
    with torch.no_grad():
        expected = model.score(batch)
    stored = model.stored_state()
    own = {"item_table", "item_to_state.weight", "item_to_state.bias", "state_to_item.weight"}
    assert own <= stored.keys()
    assert all("lora_" in name for name in stored.keys() - own)
    weights.save_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    fresh = SLMRec(keys, ModelContext(context.n_items, context.n_users, MAX_LENGTH))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh.eval().score(batch), expected)


def test_a_checkpoint_of_another_depth_is_refused(context, tmp_path):
    weights.save_weights(SLMRec(config(n_layers=2), context), tmp_path / "weights.safetensors")
    for n_layers in (1, 3):
        fresh = SLMRec(config(n_layers=n_layers), ModelContext(context.n_items, context.n_users, MAX_LENGTH))
        with pytest.raises(RuntimeError, match=r"does not fit .*layers"):
            weights.load_weights(fresh, tmp_path / "weights.safetensors")


@pytest.mark.parametrize("key", ["n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size"])
def test_sizes_below_one_are_refused(context, key):
    with pytest.raises(UserError, match=rf"model.{key} must be at least 1, not 0"):
        SLMRec(config(**{key: 0}), context)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_a_dropout_outside_its_range_is_refused(context, dropout):
    with pytest.raises(UserError, match=r"model\.dropout"):
        SLMRec(config(dropout=dropout), context)
