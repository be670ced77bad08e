"""QIN with vectors that came with the items: what reads them, what is frozen, and what is answered to bad input."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recbench.config.compose import compose
from recbench.core.errors import UserError
from recbench.experiment import clicks
from recbench.experiment.build import build_model, load_model
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import check_requirements
from recbench.experiment.key import run_key
from recbench.experiment.run import run
from recbench.nn.target.frozen_vectors import frozen_table, reduced

WITH = ["model.features=[image]", "model.feature_size=3"]


@pytest.fixture
def image(tmp_path):
    """The words of a file that says of each item but one what its user's kind must be."""
    vectors = [[float(x % 3 == k) for k in range(3)] for x in range(39)]
    frame = pl.DataFrame({"item": [f"i{x}" for x in range(39)], "vector": vectors})
    frame.write_parquet(tmp_path / "image.parquet")
    return [f"data.features.image={tmp_path}/image.parquet"]


def test_an_item_is_its_id_and_its_frozen_vectors_or_the_vectors_alone(config, image):
    asked = config("qin", *WITH, *image)
    stage = RunContext.of(asked)
    model = build_model(asked, stage, {})
    names = dict(zip(stage.data.item_table()["item"], stage.data.item_table()["item_id"], strict=True))
    numbers = torch.tensor([names["i4"], names["i39"], stage.data.n_items])
    found = model.vectors(numbers)
    torch.testing.assert_close(found[:, :8], model.item_embedding(numbers))
    assert found[:, 8:].tolist() == [
        [0, 1, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]  # the last two: no vector, and unknown to training
    assert "frozen" not in dict(model.named_parameters())
    alone = build_model(config("qin", *WITH, *image, "model.ids=false"), stage, {})
    assert alone.vectors(numbers).shape == (3, 3)
    assert not hasattr(alone, "item_embedding")
    plain = config("qin", *image)
    assert run_key(plain, stage) == run_key(config("qin"), stage)  # who does not read them does not know them
    assert run_key(asked, stage) != run_key(plain, stage)


def test_vectors_alone_find_the_planted_rule_and_a_stored_run_needs_no_file(config, image, tmp_path):
    done = run(config("qin", *WITH, *image, "model.ids=false", "training.max_epochs=12"))
    assert done.metrics["test/auc"] > 0.7
    stored = pl.read_parquet(done.folder.predictions)["logit"].to_numpy()
    (tmp_path / "image.parquet").unlink()
    stage = RunContext.of(done.config)
    again = clicks.predict(load_model(done, stage), stage.split, stage.split.test_rows, done.config)
    np.testing.assert_array_equal(again[:, 0], stored)


def test_generated_data_bring_their_vectors_also_beside_an_item_that_training_does_not_know(tmp_path):
    words = [
        "model=qin",
        "model.hidden_size=8",
        "model.features=[image]",
        "model.feature_size=4",
        "protocol=clicks",
        "tracking=off",
    ]
    asked = compose((*words, "data=synthetic", "data.n_users=60", "data.n_items=60", f"cache_dir={tmp_path}"))
    stage = RunContext.of(asked)
    there = build_model(asked, stage, {}).frozen.abs().sum(1) > 0
    assert (there[0], there[1:-1].all(), there[-1]) == (False, True, False)


def test_bad_input_is_answered(config, image, tmp_path):
    stage = RunContext.of(config("qin"))
    with pytest.raises(UserError, match="needs features"):
        check_requirements(config("qin", "model.features=[image]"), stage.data)
    for words, said in (
        (["model.features=[audio]"], "names 'audio'.*known: image"),
        (["model.features=[image,image]"], "names a kind twice"),
        (["model.features=[image]", "model.feature_size=0"], "model.feature_size"),
        (["model.ids=false"], "without a vector"),
    ):
        asked = config("qin", *image, *words)
        with pytest.raises(UserError, match=said):
            build_model(asked, stage, {})
    np.save(tmp_path / "rows.npy", np.ones((40, 2), np.float32))
    with pytest.raises(UserError, match="are no numbers of rows"):
        build_model(config("qin", "model.features=[image]", f"data.features.image={tmp_path}/rows.npy"), stage, {})


def test_wide_vectors_are_reduced_and_keep_their_angles_where_nothing_is_lost():
    rng = np.random.default_rng(0)
    plane = torch.from_numpy((rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6))).astype(np.float32))
    plane = plane - plane.mean(0)
    plane[0] = 0
    found = reduced(plane, 3)
    assert (found[0] == 0).all()
    whole = torch.nn.functional.normalize(plane, dim=1)
    centred = plane[1:] - plane[1:].mean(0)
    whole = torch.nn.functional.normalize(centred, dim=1)
    torch.testing.assert_close(found[1:] @ found[1:].T, whole @ whole.T, atol=1e-4, rtol=0)
    few = reduced(torch.eye(5)[:3] * 2, 4)
    torch.testing.assert_close(few @ few.T, torch.eye(3))
    assert frozen_table({}, ["image"], 4, 7).shape == (8, 4)
