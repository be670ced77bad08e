"""What is particular to SLMRec: a frozen item table that came from another run, and a backbone that may be frozen too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.models import weights
from recbench.models.base import ModelContext
from recbench.models.counting.popularity import Popularity, PopularityConfig
from recbench.models.language.slmrec import SLMRec, SLMRecConfig
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

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


def last_of(batch):
    """The batch as evaluation has it: no targets."""
    return replace(batch, targets=None)


def steps(model, batch, n=3):
    model.train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1, fused=True
    )
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
        with pytest.raises(UserError, match=r"does not fit .*layers"):
            weights.load_weights(fresh, tmp_path / "weights.safetensors")


@pytest.mark.parametrize("key", ["n_layers", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size"])
def test_sizes_below_one_are_refused(context, key):
    with pytest.raises(UserError, match=rf"model.{key} must be at least 1, not 0"):
        SLMRec(config(**{key: 0}), context)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_a_dropout_outside_its_range_is_refused(context, dropout):
    with pytest.raises(UserError, match=r"model\.dropout"):
        SLMRec(config(dropout=dropout), context)


PROMPTS = {"none": {}, "learned": {"prompt": "learned", "prompt_lengths": [4, 2]}}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_scores_are_products_of_the_last_query_with_the_item_vectors(context, batch, prompt):
    model = SLMRec(config(**PROMPTS[prompt]), context).eval()
    rows = torch.arange(len(batch))
    with torch.no_grad():
        states = model.hidden_states(batch)
        last = [layer[rows, batch.lengths - 1] for layer in states]
        for mine, theirs in zip(model.last_states(batch), last, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
        expected = model.queries(last[-1]) @ model.item_vectors().T
        torch.testing.assert_close(model.score(last_of(batch)), expected, atol=1e-6, rtol=1e-5)
    assert len(states) == 3
    assert states[0].shape == (len(batch), batch.items.shape[1], 16)
    assert model.queries(states[-1]).shape[-1] == model.item_width == 12


def test_the_final_norm_of_the_backbone_is_the_models(context, batch):
    model = SLMRec(config(), context).eval()
    with torch.no_grad():
        model.backbone.model.norm.weight.uniform_(0.5, 1.5)
        inner = model.hidden_states(batch)[1]
        expected = inner * inner.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * model.backbone.model.norm.weight
        torch.testing.assert_close(model.normed(inner), expected)


def test_the_width_of_the_states_is_known_from_the_config(context, stored_llama):
    for keys in (config(), config(backbone=str(stored_llama))):
        assert SLMRec.state_width(keys) == SLMRec(keys, context).width == 16


@pytest.mark.parametrize("keys", [{}, {"precision": "bfloat16"}, {"init": "random_frozen"}], ids=str)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_stored_of_a_frozen_backbone_is_small_and_complete(
    context, batch, stored_llama, tmp_path, keys, prompt
):
    keys = config(backbone=str(stored_llama), lora_rank=2, **keys, **PROMPTS[prompt])
    torch.manual_seed(1)
    model = steps(SLMRec(keys, context), batch)
    with torch.no_grad():
        expected = model.score(batch)
    stored = model.stored_state()
    assert all("lora_" in name or "prompt" in name for name in stored if name.startswith("backbone."))
    assert ("backbone.prompt.prefix" in stored) == (prompt == "learned")
    weights.save_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    fresh = SLMRec(keys, ModelContext(context.n_items, context.n_users, MAX_LENGTH)).eval()
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh.score(batch), expected)


def test_a_learned_prompt_learns_and_matters(context, batch):
    torch.manual_seed(1)
    model = SLMRec(config(**PROMPTS["learned"]), context)
    before = {name: p.detach().clone() for name, p in model.backbone.prompt.named_parameters()}
    steps(model, batch)
    assert before.keys() == {"prefix", "suffix"}
    with torch.no_grad():
        expected = model.score(batch)
        for name, p in model.backbone.prompt.named_parameters():
            assert not torch.equal(p, before[name])
            learned = p.clone()
            p.normal_()
            assert not torch.allclose(model.score(batch), expected)
            p.copy_(learned)
            assert torch.equal(model.score(batch), expected)


@pytest.mark.parametrize(
    "keys",
    [{"backbone": "nobody/has-this-model"}, {"precision": "bfloat16"}, {"prompt": "text"}, {"init": "frozen"}],
    ids=str,
)
def test_a_backbone_that_cannot_be_is_refused_before_its_item_table_is_trained(keys):
    with pytest.raises(UserError, match="model"):
        SLMRec.dependencies(config(**keys))
    assert SLMRec.dependencies(config()) == {"item_table": {"model": "sasrec"}}
