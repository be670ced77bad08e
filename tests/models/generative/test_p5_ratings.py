"""P5's rating task: it finds the ratings of the generated data, every value is a word, and without it nothing is another."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from recbench.data.training import TrainingData
from recbench.experiment.rating_figures import rating_figures
from recbench.models.base import ModelContext
from recbench.models.generative.p5 import P5, P5Config, values_of
from recbench.models.tokenizers.sequential_ids import SequentialIds, SequentialIdsConfig
from tests.fixtures.model_sizes import SIZES

DATA = {"n_users": 120, "n_items": 40, "n_clusters": 4, "min_length": 24, "mean_length": 27.0, "max_length": 30}


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    data = prepare(SyntheticConfig(**DATA, keep=["ratings"]), tmp_path_factory.mktemp("rated"))
    return data, make_split(data, LeaveOneOutConfig(seen_items="keep"), None)


def build(data, split, seed=0, **keys):
    train = TrainingData.of(data, split)
    made = SequentialIds(SequentialIdsConfig(levels=2, codebook_size=8), ModelContext(data.n_items, data.n_users, 30))
    made.fit_to(train)
    torch.manual_seed(seed)
    config = P5Config(**{**SIZES["p5"], "user_tokens": 600, "dropout": 0.1, "rating": 1.0, **keys})
    return P5(config, ModelContext(data.n_items, data.n_users, 30, train=train, dependencies={"tokenizer": made}))


def windows_of(data, split):
    return WindowDataset(data, training_windows(split.train_start, split.train_end, 30))


def test_the_planted_ratings_are_found(rated):
    """RMSE .766 where the mean of all has .941 and user and item means .699, over 120 users."""
    data, split = rated
    model = build(data, split, dropout=0.0, rating_prompts=["rating"]).train()
    batch = windows_of(data, split)[np.tile(np.arange(120), 3)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(201):
        optimizer.zero_grad()
        with model.saying("rating"):
            model.rating_loss(batch).backward()
        optimizer.step()
    found = rating_figures(model, data, split, SimpleNamespace(hardware=HardwareConfig(accelerator="cpu")))
    print(found)
    assert found["test/rated_targets"] == 120
    assert found["test/rating_rmse"] < 0.9 * found["test/rating_global_mean_rmse"]
    assert found["test/rating_mae"] < 0.9 * found["test/rating_global_mean_mae"]


def test_every_value_of_training_is_a_word_and_what_was_not_rated_is_not_learned(rated):
    data, split = rated
    model, batch = build(data, split).train(), windows_of(data, split)[np.arange(20)]
    assert model.rating_values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    answers = model.eval().ratings(torch.tensor([0, 1]), torch.tensor([3, 4]))
    assert set(answers["word_"].tolist()) <= set(model.rating_values.tolist())
    # The drawn events are those of the rows, each with its own rating.
    asked = []
    model.rating_logits = lambda user, items: (
        asked.append((user, items)) or torch.zeros(len(items), 5, requires_grad=True)
    )
    torch.manual_seed(0)
    for _ in range(5):
        model.rating_loss(batch)
    for user, items in asked:
        for u, item in zip(user.tolist(), items.tolist(), strict=True):
            assert item in data.items[split.train_start[u] : split.train_end[u]]
    model._ratings = np.full(len(data.items), np.nan, dtype=np.float32)
    assert model.rating_loss(batch).item() == 0.0


def test_without_the_task_nothing_is_another_and_a_stored_model_keeps_its_words(rated, monkeypatch):
    data, split = rated
    plain, other = (build(data, split, rating=weight).train() for weight in (0.0, 1.0))
    extra = {"rating_head.weight", "rating_values"}
    assert other.state_dict().keys() - plain.state_dict().keys() == extra
    other.load_state_dict(plain.state_dict(), strict=False)
    batch = windows_of(data, split)[np.arange(12)]
    monkeypatch.setattr(P5, "rating_loss", lambda self, batch: torch.tensor(0.0))
    losses = []
    for model in (plain, other):
        torch.manual_seed(3)
        losses.append(model.eval().training_loss(batch))
    assert torch.equal(*losses)
    context = ModelContext(data.n_items, data.n_users, 30)
    opened = P5(other.config, context)
    opened.load_stored_state(other.stored_state())
    pair = torch.tensor([2, 5]), torch.tensor([7, 8])
    with torch.no_grad():
        assert torch.equal(opened.eval().ratings(*pair)[""], other.eval().ratings(*pair)[""])


def test_data_without_ratings_and_wrong_keys_are_refused_by_name(rated, tiny_data, tiny_split):
    data, split = rated
    assert P5.needs(P5Config(rating=1.0)) == P5.needs(P5Config()) | {"ratings"}
    with pytest.raises(UserError, match=r"model.rating needs ratings; keep them with data.keep=\[ratings\]"):
        values_of(TrainingData.of(tiny_data, tiny_split))
    for keys, message in (
        ({"rating": -1.0}, r"model.rating must be at least 0"),
        ({"rating_prompts": []}, r"give model.rating_prompts at least one"),
        ({"user_tokens": 0, "direct": 0.0}, r"the rating task asks by prompt and user"),
    ):
        with pytest.raises(UserError, match=message):
            build(data, split, **keys)
    many = SimpleNamespace(ratings=np.linspace(0, 1, len(data.items)), items=data.items)
    with pytest.raises(UserError, match=r"different ratings, and each is a word"):
        values_of(SimpleNamespace(data=many, start=split.train_start, end=split.train_end))


def test_a_test_says_the_figures_beside_the_ranking(rated, run_config, tmp_path, tiny_data):
    from recbench.core.run_folder import RunFolder
    from recbench.experiment.dependencies import check_requirements
    from recbench.experiment.evaluate import test_figures

    data, split = rated
    config = run_config(tmp_path, "model=p5", "model.rating=1", "evaluation.cutoffs=[10]")
    with pytest.raises(UserError, match=r"needs ratings, which data=synthetic does not have; keep them"):
        check_requirements(config, tiny_data)
    check_requirements(config, data)
    found = test_figures(build(data, split, decoder="exact"), data, split, config, RunFolder(tmp_path))
    assert found["test/rated_targets"] == found["test/cases"] == 120
    assert 0 < found["test/rating_mae"] < found["test/rating_rmse"] < 3
    assert found["test/rating_user_item_mean_rmse"] < found["test/rating_global_mean_rmse"]
    assert "test/ndcg@10" in found
    plain = test_figures(build(data, split, decoder="exact", rating=0.0), data, split, config, RunFolder(tmp_path))
    assert found.keys() - plain.keys() == {name for name in found if name.startswith("test/rat")}
