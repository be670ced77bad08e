"""The named variants of SASRec: each is what its paper says, keeps the contract, and leaves the plain model as it was."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, evaluation_batches, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.models import weights
from recbench.models.auxiliary import AUXILIARIES
from recbench.models.base import ModelContext
from recbench.models.counting.popularity import Popularity, PopularityConfig
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.transformer.sasrec_blocks import LiGRLayer, OriginalLayer

VARIANTS = ("sasrec_original", "gsasrec", "esasrec")
MAX_LENGTH = 20


def config_of(variant, **keys):
    return compose_model({"model": variant, **keys}, "model", "none")[0]


@pytest.fixture
def build(tiny_data):
    def made(variant):
        torch.manual_seed(0)
        config = config_of(variant, hidden_size=16, feedforward_size=16, n_negatives=8)
        return SASRec(config, ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH)).eval()

    return made


@pytest.fixture
def histories(tiny_data, tiny_split):
    chosen = tiny_split.test.select(torch.arange(12).numpy())
    return next(batch for _, batch in evaluation_batches(tiny_data, chosen, MAX_LENGTH - 3, 12))


def test_each_variant_is_the_published_choice():
    original, gsasrec, esasrec = (config_of(variant) for variant in VARIANTS)
    assert (original.block, original.hidden_size, original.feedforward_size, original.n_heads) == (
        "original",
        50,
        50,
        1,
    )
    assert (original.loss, original.n_negatives, original.scale_embedding, original.output_table) == (
        "bce",
        1,
        True,
        "tied",
    )
    assert (gsasrec.block, gsasrec.loss, gsasrec.gbce_t, gsasrec.n_negatives) == ("original", "gbce", 0.75, 256)
    assert (gsasrec.output_table, gsasrec.scale_embedding, gsasrec.hidden_size) == ("separate", False, 128)
    assert (esasrec.block, esasrec.loss, esasrec.n_negatives) == ("ligr", "sampled_softmax", 256)
    assert (esasrec.negatives, esasrec.logq, esasrec.output_table) == ("per_position", False, "tied")


def test_the_original_brings_its_training_on_the_data_it_was_published_for(compose):
    training = RunConfig.from_hydra(compose("model=sasrec_original", "data=amazon")).training
    assert (training.max_epochs, training.patience, training.batch_size) == (200, 200, 752)


def test_each_variant_is_built_of_its_blocks(build):
    assert all(isinstance(layer, OriginalLayer) for name in VARIANTS[:2] for layer in build(name).layers)
    assert all(isinstance(layer, LiGRLayer) for layer in build("esasrec").layers)


def test_a_new_key_at_its_default_changes_nothing_that_was_stored_before():
    """So it can be left out of a run's key, and older checkpoints load."""
    later = {f.name for f in dataclasses.fields(SASRecConfig) if f.metadata.get("later")}
    of_variants = {"block", "scale_embedding", "output_table", "negatives", "logq", "sampling_power", "bpr_reg"}
    laid_over = {"auxiliary", "auxiliary_keys", *AUXILIARIES, "items", "pieces", "tokenizer", "heads", "class_heads"}
    assert later == of_variants | {"position_deviation"} | laid_over
    names = SASRec(SASRecConfig(hidden_size=8, n_layers=1), ModelContext(30, 5, 10)).state_dict().keys()
    assert names == {
        "item_embedding.weight",
        "position_embedding.weight",
        *(f"layers.0.{part}.{kind}" for part in ("attention_norm", "feedforward_norm") for kind in ("weight", "bias")),
        *(f"layers.0.attention.{part}.{kind}" for part in ("query_key_value", "output") for kind in ("weight", "bias")),
        *(f"layers.0.{part}.{kind}" for part in ("expand", "contract") for kind in ("weight", "bias")),
        "final_norm.weight",
        "final_norm.bias",
    }


def test_a_separate_table_is_scored_against_and_never_read_at_the_input(build, histories):
    model = build("gsasrec")
    before, states = model.score(histories), model.hidden_states(histories)
    with torch.no_grad():
        model.output_embedding.weight *= 2.0
    torch.testing.assert_close(model.score(histories), 2.0 * before)
    torch.testing.assert_close(model.hidden_states(histories), states)
    assert model.item_vectors() is model.output_embedding.weight


def test_the_input_is_scaled_only_where_wanted():
    items = torch.tensor([[3, 4]])
    for scaled, factor in ((True, 4.0), (False, 1.0)):
        model = SASRec(SASRecConfig(hidden_size=16, scale_embedding=scaled), ModelContext(30, 5, 10)).eval()
        expected = model.item_embedding(items) * factor + model.position_embedding.weight[:2]
        torch.testing.assert_close(model.embed(items), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_later_event_and_a_pad_change_no_earlier_state(variant, build, histories, tiny_data):
    model, here = build(variant), int(histories.lengths.min()) - 2
    changed = replace(histories, items=histories.items.clone())
    late = histories.mask & (torch.arange(histories.items.shape[1]) > here)
    changed.items[late] = tiny_data.n_items + 1 - changed.items[late]
    wider = replace(histories, items=torch.nn.functional.pad(histories.items, (0, 3)))
    with torch.no_grad():
        before, after = model.hidden_states(histories), model.hidden_states(changed)
        torch.testing.assert_close(model.score(wider), model.score(histories), atol=1e-6, rtol=1e-5)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[:, : here + 1], old[:, : here + 1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(before[-1][:, here + 1], after[-1][:, here + 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_and_is_stored(variant, build, histories, tiny_data, tiny_split, tmp_path):
    model = build(variant).train()
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    model.training_loss(WindowDataset(tiny_data, windows)[torch.arange(24).numpy()]).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    weights.save_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(7)
    fresh = SASRec(model.config, ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH)).eval()
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh.score(histories), model.eval().score(histories))


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_beats_popularity(variant, tiny_data, tiny_split):
    """A bare loop: the variants share the module, and so the training, that the contract test runs in full."""
    torch.manual_seed(1)
    config = config_of(variant, hidden_size=16, feedforward_size=16, dropout=0.0)
    config.n_negatives = min(config.n_negatives, 32)
    model = SASRec(config, ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH))
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    # The calibrated loss stays at popularity for its first few hundred steps, and takes off then.
    sampler = EpochSampler(windows, 64 if variant == "gsasrec" else 256, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0, fused=True)
    for epoch in range(30):
        for index in sampler.plan(epoch):
            optimizer.zero_grad()
            model.training_loss(WindowDataset(tiny_data, windows)[index]).backward()
            optimizer.step()
    model.eval()
    train = TrainingData.of(tiny_data, tiny_split)
    popularity = Popularity(PopularityConfig(), ModelContext(tiny_data.n_items, tiny_data.n_users, MAX_LENGTH))
    popularity.fit_to(train)
    with torch.no_grad():
        reached, floor = (
            evaluate(made.score, tiny_data, tiny_split.test, tiny_split, MAX_LENGTH).metrics([10])["ndcg@10"]
            for made in (model, popularity)
        )
    assert 1.5 * floor < reached < tiny_data.manifest["extra"]["oracle"]["test/ndcg@10"] + 0.03


def test_the_state_has_one_entry_for_the_input_and_one_for_each_block():
    for block in ("original", "ligr"):
        model = SASRec(SASRecConfig(hidden_size=8, n_layers=3, block=block), ModelContext(30, 5, 10)).eval()
        items = torch.tensor([[3, 4, 5, 0], [7, 0, 0, 0]])
        states = model.hidden_states(Batch(items, items, torch.tensor([3, 1]), torch.tensor([0, 1])))
        assert [tuple(state.shape) for state in states] == [(2, 4, 8)] * 4


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"block": "prenorm"}, "pre_norm"),
        ({"output_table": "seperate"}, "separate"),
        ({"negatives": "each"}, "per_position"),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_right_ones(keys, words):
    with pytest.raises(UserError, match=rf"unknown model.{next(iter(keys))} .*{words}"):
        SASRec(SASRecConfig(**keys), ModelContext(30, 5, 10))
