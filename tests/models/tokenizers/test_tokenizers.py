"""Item tokenizers: what each keeps of the contract, what they cannot know, and catalogues that are too small or too empty."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch

from recbench.config.schemas import compose_model
from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.experiment.build import load_model
from recbench.experiment.run import open_run, run
from recbench.models import weights
from recbench.models.base import ModelContext
from recbench.models.registry import lookup, model_names
from recbench.models.tokenizers.collaborative_ids import cooccurrence_graph
from recbench.models.tokenizers.sequential_ids import first_seen
from recbench.models.tokenizers.tokenizer import ItemTokenizer, collision_digit

NAMES = [name for name in model_names() if issubclass(lookup(name).model, ItemTokenizer)]
OURS = ["rq_kmeans", "rvq", "rqvae", "random_ids", "sequential_ids", "collaborative_ids"]
BY_TEXT = ["rq_kmeans", "rvq", "rqvae"]
SIZES = {
    "rvq": {"epochs": 3},
    "rqvae": {"epochs": 3, "hidden_sizes": [12], "latent_size": 6},
    "collaborative_ids": {"levels": 2, "codebook_size": 4},
    "opq": {"levels": 4, "components": 8, "collisions": "digit"},
}
SMALL = {"levels": 2, "codebook_size": 8}


def keys_of(name):
    return {"model": name, **SMALL, **SIZES.get(name, {})}


def made(name, train, vectors=None, seed=0, **keys):
    """A tokenizer with its codes, on random vectors where none are given."""
    config, _ = compose_model({**keys_of(name), **keys}, "model", "none")
    n = train.n_items
    if vectors is None:
        vectors = np.random.default_rng(5).normal(size=(n, 16)).astype(np.float32)
    padded = torch.nn.functional.pad(torch.from_numpy(np.asarray(vectors, dtype=np.float32)), (0, 0, 1, 0))
    model = lookup(name).model(config, ModelContext(n, train.n_users, 20, seed=seed, text_vectors=padded, train=train))
    model.fit_to(train)
    return model


def data_of(folder, histories, n_items=None):
    """Prepared data, with the training part of leave-one-out."""
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.concatenate([np.array(h) for h in histories])
    data = PreparedData.from_arrays(folder, items, offsets, n_items=n_items)
    return data, TrainingData.of(data, make_split(data, LeaveOneOutConfig(), None))


@pytest.fixture(scope="module")
def train(tiny_data, tiny_split):
    return TrainingData.of(tiny_data, tiny_split)


def test_all_are_known():
    assert set(OURS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_item_has_its_own_tuple_within_the_sizes(name, train):
    model = made(name, train)
    codes, sizes = model.codes, model.sizes
    assert codes.shape == (train.n_items + 1, len(sizes))
    assert codes.dtype == sizes.dtype == torch.int64
    assert (codes[0] == -1).all()
    assert (codes[1:] >= 0).all()
    assert (codes[1:] < sizes).all()
    assert len(torch.unique(codes[1:], dim=0)) == train.n_items


@pytest.mark.parametrize("name", OURS)
def test_a_bucket_is_the_same_codes_without_the_digit(name, train):
    with_digit, bucket = made(name, train), made(name, train, collisions="bucket")
    assert torch.equal(bucket.codes, with_digit.codes[:, :-1])
    assert torch.equal(bucket.sizes, with_digit.sizes[:-1])
    assert torch.equal(with_digit.semantic_codes(), bucket.semantic_codes())


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_a_checkpoint_is_complete(name, train, tmp_path):
    model = made(name, train)
    again, other = made(name, train), made(name, train, seed=1)
    assert torch.equal(again.codes, model.codes)
    assert torch.equal(other.codes, model.codes) != model.uses_seed
    weights.save_weights(model, tmp_path / "weights.safetensors")
    fresh = type(model)(model.config, ModelContext(train.n_items, train.n_users, 20))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh.codes, model.codes)
    assert torch.equal(fresh.sizes, model.sizes)


@pytest.mark.parametrize("name", NAMES)
def test_no_code_is_made_from_validation_or_test_events(name, tmp_path):
    """Other held-out events, the same bytes; and, where codes come from events at all, other training events give others."""
    rng = np.random.default_rng(0)
    histories = [rng.permutation(30)[:9] + 1 for _ in range(40)]
    held_out = [np.concatenate([h[:-2], 31 - h[-2:]]) for h in histories]
    trained_on = [np.concatenate([31 - h[:-2], h[-2:]]) for h in histories]
    found = []
    for i, part in enumerate((histories, held_out, trained_on)):
        _, train = data_of(tmp_path / str(i), part, n_items=30)
        found.append(made(name, train).codes.numpy().tobytes())
    assert found[0] == found[1]
    assert (found[0] != found[2]) == (name in ("sequential_ids", "collaborative_ids"))


@pytest.mark.parametrize("name", NAMES)
def test_a_catalogue_of_one_item_has_a_tuple(name, tmp_path):
    _, train = data_of(tmp_path / "one", [[1] * 5, [1] * 4])
    model = made(name, train)
    assert model.codes[1:].tolist() == [[0] * model.codes.shape[1]] or name == "random_ids"
    report = model.report(train)
    assert report["tokenizer/collision_rate"] == 0
    assert all(np.isfinite(value) for value in report.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_codebook_larger_than_the_catalogue_is_no_problem(name, tmp_path):
    _, train = data_of(tmp_path / "few", [[1, 2, 3, 4, 5, 1], [5, 4, 3, 2, 1]])
    model = made(name, train, codebook_size=64)
    assert len(torch.unique(model.codes[1:], dim=0)) == 5


@pytest.mark.parametrize("uniform", ["none", "sinkhorn"])
@pytest.mark.parametrize("name", BY_TEXT)
def test_items_without_text_share_a_tuple_and_are_numbered(name, train, uniform):
    model = made(name, train, np.zeros((train.n_items, 4)), uniform_last=uniform)
    assert torch.equal(model.codes[1:, :-1], torch.zeros_like(model.codes[1:, :-1]))
    assert model.codes[1:, -1].tolist() == list(range(train.n_items))
    assert model.sizes[-1] == train.n_items
    report = model.report(train)
    assert report["tokenizer/collision_rate"] == 1
    assert report["tokenizer/largest_group"] == train.n_items
    assert report["tokenizer/reconstruction_error"] == 0


@pytest.mark.parametrize("name", BY_TEXT)
def test_codes_of_vectors_in_clusters_begin_alike(name, train):
    cluster = np.arange(train.n_items) % 6
    noise = np.random.default_rng(1).normal(size=(train.n_items, 8))
    vectors = 20 * np.eye(8)[cluster] + 0.5 * noise
    more = {"rvq": {"epochs": 60, "batch": 16}, "rqvae": {"epochs": 300, "batch": 16, "hidden_sizes": [32]}}.get(
        name, {}
    )
    model = made(name, train, vectors, codebook_size=6, **more)
    first = model.codes[1:, 0].numpy()
    assert len({(c, f) for c, f in zip(cluster, first, strict=True)}) == 6
    # An encoder that learns may lay two clusters on one code of the first level, and tell them apart on the second.
    assert len(set(first)) >= (5 if name == "rqvae" else 6)
    assert len({tuple(row) for row in model.codes[1:, :2].tolist()}) >= 6
    assert model.fit_figures["reconstruction_error"] < 0.1


def test_rvq_by_gradient_and_by_moving_averages_both_reconstruct(train):
    vectors = np.random.default_rng(2).normal(size=(train.n_items, 8))
    for update in ("gradient", "ema"):
        model = made("rvq", train, vectors, update=update, epochs=20, batch=16)
        assert 0 < model.fit_figures["reconstruction_error"] < 0.6


@pytest.mark.parametrize("name", BY_TEXT)
def test_the_uniform_mapping_evens_out_the_last_level(name, train):
    vectors = np.random.default_rng(3).normal(size=(train.n_items, 8)) ** 3
    plain, uniform = (made(name, train, vectors, uniform_last=u).report(train) for u in ("none", "sinkhorn"))
    assert uniform["tokenizer/perplexity_2"] > plain["tokenizer/perplexity_2"]
    assert uniform["tokenizer/perplexity_2"] > 7  # of 8


def test_sequential_codes_are_the_digits_of_the_first_meeting(tmp_path):
    # The last two of each are held out, so 1, 3, 7 and 9 are met by nobody in training, and 8 nowhere.
    _, train = data_of(tmp_path / "s", [[4, 2, 4, 6, 7, 1], [2, 5, 1, 3, 9], [9, 1]], n_items=9)
    order = np.argsort(first_seen(train)) + 1
    assert order[:4].tolist() == [4, 2, 6, 5]
    assert sorted(order.tolist()) == list(range(1, 10))
    model = made("sequential_ids", train)
    assert model.sizes.tolist() == [3, 3, 1]
    assert [tuple(model.codes[i, :2].tolist()) for i in order[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_the_graph_of_a_collaborative_tokenizer_counts_users(tmp_path):
    histories = [[1, 2, 3, 9, 9], [1, 2, 2, 8, 8], [2, 3, 9, 9], [5, 6, 1, 1]]
    _, train = data_of(tmp_path / "g", histories, n_items=9)
    expected = Counter()
    for history in histories:
        for a, b in combinations(sorted(set(history[:-2])), 2):
            expected[(a, b)] += 1
    graph = cooccurrence_graph(train, neighbours=10).toarray()
    assert np.array_equal(graph, graph.T)
    assert {(i + 1, j + 1): graph[i, j] for i, j in zip(*np.nonzero(np.triu(graph)), strict=True)} == dict(expected)
    # Of each item the strongest edge alone, with those that others keep.
    fewer = cooccurrence_graph(train, neighbours=1).toarray()
    assert fewer[0].tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0]
    assert (fewer > 0).sum() <= (graph > 0).sum()


def test_collaborative_codes_put_items_together_that_users_meet_together(tmp_path):
    rng = np.random.default_rng(4)
    groups = [np.arange(1, 21), np.arange(21, 41), np.arange(41, 61)]
    histories = [rng.permutation(groups[user % 3])[:10] for user in range(120)]
    _, train = data_of(tmp_path / "c", histories, n_items=62)  # 61 and 62 are met by nobody
    model = made("collaborative_ids", train, levels=2, codebook_size=3)
    first = model.codes[1:, 0].numpy()
    assert [len(set(first[g - 1])) for g in groups] == [1, 1, 1]
    assert len(set(first[:60])) == 3
    assert len(torch.unique(model.codes[1:], dim=0)) == 62


def test_a_large_graph_finds_its_vectors_without_a_dense_matrix(monkeypatch, tmp_path):
    from recbench.models.tokenizers import collaborative_ids

    rng = np.random.default_rng(4)
    histories = [rng.permutation(20)[:10] + 1 + 20 * (user % 3) for user in range(120)]
    _, train = data_of(tmp_path / "l", histories, n_items=60)
    graph = cooccurrence_graph(train, 100)
    dense = collaborative_ids.leading_vectors(graph, 3)
    monkeypatch.setattr(collaborative_ids, "DENSE_ITEMS", 1)
    sparse = collaborative_ids.leading_vectors(graph, 3)
    # The same space: the products of the rows do not depend on its axes.
    np.testing.assert_allclose(sparse @ sparse.T, dense @ dense.T, atol=1e-3)


def test_the_digit_counts_earlier_items_of_the_same_codes():
    codes = np.random.default_rng(0).integers(3, size=(50, 2))
    seen: Counter = Counter()
    for row, digit in zip(codes.tolist(), collision_digit(codes).tolist(), strict=True):
        assert digit == seen[tuple(row)]
        seen[tuple(row)] += 1


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("rq_kmeans", {"levels": 0}, "model.levels must be at least 1"),
        ("rq_kmeans", {"collisions": "digits"}, "did you mean 'digit'"),
        ("rq_kmeans", {"uniform_last": "sinkhorne"}, "did you mean 'sinkhorn'"),
        ("rq_kmeans", {"batch": -1}, "model.batch=-1"),
        ("rq_kmeans", {"rounds": 0}, "model.rounds"),
        ("rvq", {"update": "sgd"}, "unknown model.update 'sgd'"),
        ("rvq", {"lr": 0}, "model.lr must be positive"),
        ("rqvae", {"epochs": 0}, "model.epochs"),
        ("rqvae", {"revive_every": -1}, "model.revive_every=-1"),
        ("rqvae", {"latent_size": 0}, "model.latent_size=0"),
        ("rqvae", {"beta": -1}, "model.beta=-1"),
        ("sequential_ids", {"codebook_size": 3, "levels": 2}, "2 digits to base 3 cannot number 60 items"),
        ("collaborative_ids", {"max_items": 10}, "raise model.max_items above 10"),
        ("collaborative_ids", {"neighbours": 0}, "model.neighbours=0"),
    ],
)
def test_mistakes_are_named_before_anything_is_computed(name, keys, words, train):
    with pytest.raises(UserError, match=words):
        made(name, train, **keys)


def test_a_learning_rate_that_explodes_ends_in_one_line(train):
    with pytest.raises(UserError, match=r"rqvae: the loss became .* a smaller model.lr may help"):
        made("rqvae", train, lr=1e30, epochs=20)


def test_a_tokenizer_is_a_run_of_its_own(run_config, tmp_path):
    words = ["model=rq_kmeans", "model.levels=2", "model.codebook_size=8"]
    first = run(run_config(tmp_path, *words))
    assert first.metrics["tokenizer/items"] == 60
    assert 0 < first.metrics["tokenizer/reconstruction_error"] < 1
    assert not any(name.startswith(("test/", "validation/")) for name in first.metrics)
    assert not first.folder.ranks.exists()
    found, stage = open_run(first.folder.path)
    assert load_model(found, stage).codes.shape == (61, 3)
    assert run(run_config(tmp_path, *words)).reused
    keys = {
        run(run_config(tmp_path, *words, *more)).folder.key
        for more in ([], ["seed=2"], ["data.text.width=5"], ["model.collisions=bucket"])
    }
    assert len(keys) == 4
    shared = ["training.max_length=7", "training.lr=0.5", "evaluation.cutoffs=[3]"]
    assert run(run_config(tmp_path, *words, *shared)).reused
    # What text is made of says nothing to codes that read none.
    blind = {run(run_config(tmp_path, "model=random_ids", *more)).folder.key for more in ([], ["data.text.width=5"])}
    assert len(blind) == 1


def test_codes_from_ready_vectors_need_no_text(run_config, tmp_path, tiny_data):
    ids = tiny_data.item_table()["item"].to_numpy()
    np.savez(tmp_path / "v.npz", item=ids.astype(str), vector=np.random.default_rng(0).normal(size=(60, 7)))
    given = [f"data.text.path={tmp_path / 'v.npz'}", "data.text.encoder=file"]
    found = run(run_config(tmp_path, "model=rq_kmeans", *given))
    assert found.metrics["tokenizer/reconstruction_error"] < 1e-6  # more codes than items
    with pytest.raises(UserError, match="is not there"):
        run(run_config(tmp_path, "model=rq_kmeans", "data.text.path=absent.npy", "data.text.encoder=file"))


def test_a_tokenizer_cannot_teach_or_learn(run_config, tmp_path):
    with pytest.raises(UserError, match="is computed, not trained"):
        run(run_config(tmp_path, "model=random_ids", "distillation=logits", "distillation.teacher.model=sasrec"))
    with pytest.raises(UserError, match="random_ids ranks nothing, so it cannot teach"):
        run(run_config(tmp_path, "model=sasrec", "distillation=logits", "distillation.teacher.model=random_ids"))


def test_the_command_prints_the_quality_of_the_codes(cli, tiny, tmp_path):
    words = [*tiny, f"runs_dir={tmp_path}", "model.levels=2", "model.codebook_size=8"]
    alone = cli("model=rq_kmeans", *words, cwd=tmp_path)
    assert alone.status == 0, alone.err
    assert "item codes" in alone.out
    assert "collision rate" in alone.out
    assert "ndcg" not in alone.out
    several = cli("-m", "model=rq_kmeans,random_ids", *words[:-2], cwd=tmp_path)
    assert several.status == 0, several.err
    assert "random_ids seed 1" in several.out
    assert "2 of 2 jobs finished" in several.out
