"""The contract of ``models/base.py``, checked on every model that the registry knows.

A new model is tested as soon as it is registered; ``SIZES`` only makes the large ones small.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from recbench.config.schemas import compose_model
from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, evaluation_batches, training_windows
from recbench.data.item_text import item_texts
from recbench.data.training import TrainingData
from recbench.experiment.dependencies import check_requirements
from recbench.experiment.run import run
from recbench.models import weights
from recbench.models.base import ClosedForm, ModelContext
from recbench.models.registry import lookup, model_names

MAX_LENGTH = 20
SASREC = {"hidden_size": 16, "feedforward_size": 16, "dropout": 0.2}
TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2}
SLMREC = {**TINY, "item_table": {"model": "sasrec", **SASREC}}
GRAPH = {"model": "gcsan", "hidden_size": 16}
T5 = {"hidden_size": 32, "n_layers": 1, "n_heads": 2, "head_size": 16, "feedforward_size": 64}
SIZES = {
    "sasrec": SASREC,
    "slmrec": SLMREC,
    "e4srec": SLMREC,
    "gru4rec": {"hidden_size": 16, "embedding_dropout": 0.2, "n_negatives": 64},
    "bert4rec": {**SASREC, "mask_share": 0.3, "last_only_share": 0.5},
    "hstu": {"hidden_size": 16, "head_size": 8, "dropout": 0.2},
    "lrurec": SASREC,
    "mamba4rec": {"hidden_size": 16, "state_size": 8, "dropout": 0.2},
    "tim4rec": {"hidden_size": 16, "head_size": 8, "state_size": 8, "dropout": 0.2},
    **{name: {"hidden_size": 16, "dropout": 0.2} for name in ("srgnn", "gcsan", "tagnn", "gcegnn")},
    "hicg": {"hidden_size": 16, "dropout": 0.2, "contrast_weight": 0.05},
    # Without its first stage, in which nothing but the projection and the backbone is trained.
    "llmgr": {**TINY, "text_buckets": 256, "alignment_epochs": 0, "graph": GRAPH},
    # As many beams as items, so that a list may hold them all.
    "tiger": {**T5, "beams": 64, "dropout": 0.2, "tokenizer": {"model": "rq_kmeans", "levels": 2, "codebook_size": 8}},
    # Every task, on every target, so that whatever is trained for them is.
    "lcrec": {
        **TINY,
        "beams": 64,
        "dropout": 0.2,
        "text_buckets": 128,
        "alignment_share": 0.5,
        "itemsearch": 0.5,
        "preferenceobtain": 0.5,
        "tokenizer": {"model": "rq_kmeans", "levels": 2, "codebook_size": 8},
    },
    "rpg": {
        **SASREC,
        "temperature": 0.1,
        "tokenizer": {"model": "opq", "levels": 4, "codebook_size": 16, "components": 8},
    },
}
#: Epochs of those whose steps are dear, and which need no more to beat popularity.
EPOCHS = {"gcegnn": 8, "lcrec": 16}
#: Models that give every user the same list: they are the floor, so they need not beat it.
IMPERSONAL = {"popularity", "recent_popularity"}

#: Models that rank; an item tokenizer does not.
NAMES = [name for name in model_names() if lookup(name).model.ranks]
BY_GRADIENT = [name for name in NAMES if lookup(name).model.trains_by_gradient]


def build(name, data, split, keys=None, with_dependencies=True):
    """A model with a learned state (if it is computed) or fresh weights (if it is trained), and what it was built from."""
    config, _ = compose_model({"model": name, **(SIZES.get(name, {}) if keys is None else keys)}, "model", "none")
    train = TrainingData.of(data, split)
    parts = {}
    if with_dependencies:
        for role, wanted in lookup(name).model.dependencies(config).items():
            inner = dict(wanted)
            parts[role] = build(inner.pop("model"), data, split, inner)
    counts = torch.from_numpy(train.item_counts())
    torch.manual_seed(0)
    texts = item_texts(data)
    vectors = torch.nn.functional.pad(torch.randn(data.n_items, 12), (0, 0, 1, 0))
    model = lookup(name).model(
        config, ModelContext(data.n_items, data.n_users, MAX_LENGTH, counts, parts, texts, train, 0, vectors)
    )
    if isinstance(model, ClosedForm) and with_dependencies:
        model.fit_to(train)
    return model.eval()


@pytest.fixture(scope="module")
def model(request, tiny_data, tiny_split):
    return build(request.param, tiny_data, tiny_split)


@pytest.fixture(scope="module")
def histories(tiny_data, tiny_split):
    """Twelve evaluation histories of different lengths, with room for three more positions."""
    chosen = tiny_split.test.select(torch.arange(12).numpy())
    return next(batch for _, batch in evaluation_batches(tiny_data, chosen, MAX_LENGTH - 3, 12))


@pytest.fixture(scope="module")
def training_batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    return WindowDataset(tiny_data, windows)[torch.arange(24).numpy()]


def rows(batch, index):
    """The chosen rows of a batch, in that order."""
    return replace(
        batch,
        items=batch.items[index],
        timestamps=batch.timestamps[index],
        lengths=batch.lengths[index],
        user=batch.user[index],
        behaviours=None if batch.behaviours is None else batch.behaviours[index],
    )


def cut(batch, length):
    """The first ``length`` events of each row, as histories of their own. Every row must have as many."""
    return Batch(
        items=batch.items[:, :length],
        timestamps=batch.timestamps[:, :length],
        lengths=torch.full_like(batch.lengths, length),
        user=batch.user,
        behaviours=None if batch.behaviours is None else batch.behaviours[:, :length],
    )


def padded(batch, extra):
    wider = {
        name: torch.nn.functional.pad(value, (0, extra))
        for name in ("items", "timestamps", "behaviours")
        if (value := getattr(batch, name)) is not None
    }
    return replace(batch, **wider)


def has_states(model):
    return type(model).hidden_states.__qualname__ != "Recommender.hidden_states"


def scores_of(model, batch):
    with torch.no_grad():
        return model.score(batch)


every_model = pytest.mark.parametrize("model", NAMES, indirect=True)
trained_model = pytest.mark.parametrize("model", BY_GRADIENT, indirect=True)


@every_model
def test_scores_cover_the_catalogue_and_are_finite(model, histories, tiny_data):
    scores = scores_of(model, histories)
    assert scores.shape == (12, tiny_data.n_items + 1)
    assert scores[:, 1:].isfinite().all()


@every_model
@pytest.mark.parametrize("k", [1, 7])
def test_recommends_k_distinct_real_items_best_first(model, histories, tiny_data, k):
    with torch.no_grad():
        items, scores = model.recommend(histories, k)
    assert items.shape == scores.shape == (12, k)
    assert ((items >= 1) & (items <= tiny_data.n_items)).all()
    assert all(len(set(row)) == k for row in items.tolist())
    assert (scores.diff(dim=1) <= 0).all()
    best = scores_of(model, histories)[:, 1:].amax(dim=1)
    torch.testing.assert_close(scores[:, 0], best)


@every_model
def test_a_list_longer_than_the_catalogue_holds_every_item_once(model, histories, tiny_data):
    with torch.no_grad():
        items, _ = model.recommend(histories, tiny_data.n_items + 5)
    assert items.sort(dim=1).values.tolist() == [list(range(1, tiny_data.n_items + 1))] * 12


@every_model
def test_extra_padding_changes_nothing(model, histories):
    torch.testing.assert_close(
        scores_of(model, padded(histories, 3)), scores_of(model, histories), atol=1e-6, rtol=1e-5
    )


@every_model
def test_order_and_company_in_a_batch_change_nothing(model, histories):
    together = scores_of(model, histories)
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(scores_of(model, rows(histories, shuffled)), together[shuffled], atol=1e-6, rtol=1e-5)
    for row in (0, 11):
        alone = rows(histories, torch.tensor([row]))
        width = int(alone.lengths[0])
        narrow = replace(
            alone,
            items=alone.items[:, :width],
            timestamps=alone.timestamps[:, :width],
            behaviours=None if alone.behaviours is None else alone.behaviours[:, :width],
        )
        torch.testing.assert_close(scores_of(model, narrow)[0], together[row], atol=1e-6, rtol=1e-5)


@every_model
def test_a_history_of_one_event_is_enough(model, histories):
    scores = scores_of(model, cut(histories, 1))
    assert scores[:, 1:].isfinite().all()


@every_model
def test_the_same_question_twice_has_the_same_answer(model, histories):
    assert torch.equal(scores_of(model, histories), scores_of(model, histories))


@trained_model
def test_a_later_event_never_changes_an_earlier_state(model, histories, tiny_data):
    if not (model.is_causal and has_states(model)):
        pytest.skip("the model does not claim to be causal")
    changed = replace(histories, items=histories.items.clone(), timestamps=histories.timestamps.clone())
    shortest = int(histories.lengths.min())
    here = shortest - 2
    late = torch.arange(histories.items.shape[1]) > here
    real = histories.mask & late
    changed.items[real] = tiny_data.n_items + 1 - changed.items[real]
    changed.timestamps[real] += 1_000_000
    with torch.no_grad():
        before, after = model.hidden_states(histories), model.hidden_states(changed)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[:, : here + 1], old[:, : here + 1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(before[-1][:, here + 1], after[-1][:, here + 1])


@trained_model
def test_the_state_of_a_prefix_is_the_state_at_its_end(model, histories):
    if not (model.is_causal and has_states(model)):
        pytest.skip("the model does not claim to be causal")
    with torch.no_grad():
        whole = model.hidden_states(histories)
        for length in (1, 2, int(histories.lengths.min())):
            prefix = model.hidden_states(cut(histories, length))
            for long, short in zip(whole, prefix, strict=True):
                torch.testing.assert_close(short[:, -1], long[:, length - 1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_trainable_parameter_gets_a_finite_gradient(name, tiny_data, tiny_split, training_batch):
    model = build(name, tiny_data, tiny_split).train()
    torch.manual_seed(1)
    loss = model.training_loss(training_batch)
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    trainable = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert trainable
    without = [key for key, grad in trainable.items() if grad is None or not grad.any()]
    assert without == []
    assert [key for key, grad in trainable.items() if not grad.isfinite().all()] == []


@every_model
def test_stored_weights_are_complete_and_give_the_same_bits(model, histories, tiny_data, tiny_split, tmp_path):
    weights.save_weights(model, tmp_path / "weights.safetensors")
    # A stored run is opened without the runs that it was built from.
    fresh = build(_name_of(model), tiny_data, tiny_split, with_dependencies=False)
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(scores_of(fresh.eval(), histories), scores_of(model, histories))
    assert fresh.stored_state().keys() == model.stored_state().keys()


@every_model
def test_no_stored_number_is_nan(model):
    state = model.stored_state()
    assert state
    assert [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()] == []


@every_model
def test_a_damaged_checkpoint_is_said_to_be_one(model, tiny_data, tiny_split, tmp_path):
    path = tmp_path / "weights.safetensors"
    weights.save_weights(model, path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"cannot be read .*run again"):
        weights.load_weights(build(_name_of(model), tiny_data, tiny_split, with_dependencies=False), path)


@pytest.mark.parametrize("name", NAMES)
def test_data_that_lack_what_a_model_needs_are_refused_by_name(name):
    no_file = SimpleNamespace(encoder="tfidf_svd")
    config = SimpleNamespace(model=lookup(name).config(), data=SimpleNamespace(name="bare", text=no_file))
    bare = SimpleNamespace(has_timestamps=False, has_text=False, has_behaviours=False)
    rich = SimpleNamespace(has_timestamps=True, has_text=True, has_behaviours=True)
    check_requirements(config, rich)
    needs = lookup(name).model.requires
    if not needs:
        check_requirements(config, bare)
        return
    with pytest.raises(UserError) as caught:
        check_requirements(config, bare)
    assert all(word in str(caught.value) for word in (name, "bare", *needs))


@pytest.fixture(scope="module")
def trained(run_config, tmp_path_factory):
    """trained(name) -> metrics of a short training on the tiny data; the runs share one folder, and so the item table."""
    folder = tmp_path_factory.mktemp("runs")

    def metrics_of(name):
        words = [f"model={name}", "distillation=none"]
        if name in BY_GRADIENT:
            epochs = EPOCHS.get(name, 30)
            words += [
                "training.lr=5e-3",
                "training.batch_size=256",
                f"training.max_epochs={epochs}",
                "training.patience=30",
            ]
        for key, value in SIZES.get(name, {}).items():
            parts = value.items() if isinstance(value, dict) else ()
            # Dropout that protects a real training only slows one of thirty epochs.
            words += [f"model.{key}.{k}={0.0 if k == 'dropout' else v}" for k, v in parts]
            words += [] if parts else [f"model.{key}={0.0 if key == 'dropout' else value}"]
        return run(run_config(folder, *words)).metrics

    return metrics_of


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IMPERSONAL])
def test_beats_popularity_on_data_with_structure(name, trained):
    floor, reached = trained("popularity"), trained(name)
    assert reached["test/ndcg@10"] > 1.5 * floor["test/ndcg@10"]
    # What leaks from the future would come out above the best that can be known.
    assert reached["test/ndcg@10"] < reached["oracle"]["test/ndcg@10"] + 0.03


def _name_of(model):
    return model.config.name
