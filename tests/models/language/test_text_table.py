"""Item vectors out of texts, in place of a converged recommender's; and the controls that say whether it is the texts that help."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.features import shuffled_rows
from recbench.data.text_config import TextConfig
from recbench.experiment.build import load_model
from recbench.experiment.context import RunContext
from recbench.experiment.run import run
from recbench.models.language import slmrec

WORDS = [
    "model.n_layers=1",
    "model.tiny_hidden_size=16",
    "model.tiny_n_heads=2",
    "model.tiny_feedforward_size=16",
    "training.max_epochs=1",
]


@pytest.fixture(scope="module")
def made(run_config, tmp_path_factory):
    """made("model=...", ...) -> (finished run, its model, its stage), all in one folder of runs."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def make(*words):
        if words not in known:
            config = run_config(folder, *words)
            stage = RunContext.of(config)
            finished = run(config, stage)
            known[words] = finished, load_model(finished, stage), stage
        return known[words]

    return make


def test_the_table_lends_the_vectors_of_the_texts(made):
    finished, table, stage = made("model=text_table")
    assert finished.metrics["text_table/items"] == stage.data.n_items
    vectors = table.item_vectors()
    assert vectors.shape == (stage.data.n_items + 1, finished.metrics["text_table/width"])
    assert not vectors[0].any()
    lengths = vectors[1:].norm(dim=1)
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))
    assert "test/ndcg@10" not in finished.metrics


@pytest.mark.parametrize("name", ["slmrec_plain", "e4srec"])
def test_the_same_body_stands_on_it(made, name):
    _, table, _ = made("model=text_table")
    finished, model, _ = made(f"model={name}", "model.item_table={model: text_table}", *WORDS)
    assert torch.equal(model.item_table, table.item_vectors())
    assert finished.metrics["test/ndcg@10"] > 0


def test_shuffled_texts_are_the_same_vectors_at_other_items(made):
    _, plain, stage = made("model=text_table")
    finished, other, _ = made("model=text_table", "data.text.shuffle=3")
    order = shuffled_rows(stage.data.n_items, 3)
    assert order[0] == 0
    assert sorted(order) == list(range(stage.data.n_items + 1))
    assert torch.equal(other.item_vectors(), plain.item_vectors()[order])
    assert not torch.equal(other.item_vectors(), plain.item_vectors())
    again, _, _ = made("model=text_table", "data.text.shuffle=4")
    assert len({finished.folder.key, again.folder.key, made("model=text_table")[0].folder.key}) == 3
    assert shuffled_rows(5, None) is None


def test_a_run_without_texts_knows_no_shuffling(made, run_config, tmp_path):
    from recbench.experiment.key import run_key

    keys = set()
    for words in ([], ["data.text.shuffle=3"]):
        config = run_config(tmp_path, "model=popularity", *words)
        keys.add(run_key(config, RunContext.of(config)))
    assert len(keys) == 1


def test_texts_that_a_model_reads_as_words_are_dealt_out_too(made, run_config, tmp_path):
    from recbench.data.item_text import item_texts
    from recbench.experiment import build

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            build, "ModelContext", lambda *given, **more: seen.append(given[5]) or (_ for _ in ()).throw(KeyError)
        )
        config = run_config(tmp_path, "model=llmgr", "data.text.shuffle=1")
        stage = RunContext.of(config)
        with pytest.raises(KeyError):
            build.build_model(config, stage, {})
    texts = item_texts(stage.data)
    assert seen == [[texts[i] for i in shuffled_rows(stage.data.n_items, 1)]]


def test_a_wrong_seed_is_refused():
    with pytest.raises(UserError, match=r"data\.text\.shuffle must be a seed from 0"):
        TextConfig(shuffle=-1).validate()


def test_a_finished_run_is_tested_with_shuffled_histories(made, run_config):
    plain, _, _ = made("model=markov")
    assert "test/shuffled_ndcg@10" not in plain.metrics
    found, _, _ = made("model=markov", "evaluation.shuffled_histories=true")
    assert found.folder.key == plain.folder.key
    assert found.metrics["test/ndcg@10"] == plain.metrics["test/ndcg@10"]
    # A first-order chain reads the last item only, and another one stands there now.
    assert found.metrics["test/shuffled_ndcg@10"] < 0.9 * found.metrics["test/ndcg@10"]
    # One that is asked from the start says the same of a model that knows no order.
    popularity, _, _ = made("model=popularity", "evaluation.shuffled_histories=true")
    assert popularity.metrics["test/shuffled_ndcg@10"] == popularity.metrics["test/ndcg@10"]


def test_tiny_says_that_its_weights_are_random(caplog):
    slmrec._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        slmrec.say_random_weights(slmrec.SLMRecConfig())
        slmrec.say_random_weights(slmrec.SLMRecConfig())
        slmrec.say_random_weights(slmrec.SLMRecConfig(backbone="HuggingFaceTB/SmolLM2-135M"))
    (said,) = caplog.messages
    assert "random weights" in said
    assert "model.backbone=" in said
    slmrec._say_once.cache_clear()


def test_order_of_texts_is_drawn_from_the_seed():
    assert not np.array_equal(shuffled_rows(50, 1), shuffled_rows(50, 2))
    assert np.array_equal(shuffled_rows(50, 1), shuffled_rows(50, 1))
