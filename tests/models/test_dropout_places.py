"""Every registered model drops where it says in writing that it does: no evaluation would show a dropout in the wrong place.

A model that is not ours says so by a class attribute ``dropout_places``. The names are those of ``recbench.models.dropout_places``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recbench.config.schemas import compose_model
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.item_text import item_texts
from recbench.data.knowledge import Knowledge
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.closed_form import ClosedForm
from recbench.models.dropout_places import constant_dropout, dropout_places
from recbench.models.registry import lookup, model_names
from recbench.nn.transformer.dropout import Dropout

NAMES = [name for name in model_names() if lookup(name).model.ranks and lookup(name).model.trains_by_gradient]
BLOCK = {"hidden_size": 16, "feedforward_size": 16, "dropout": 0.2}
TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2, "dropout": 0.2}
CODES = {"model": "rq_kmeans", "levels": 2, "codebook_size": 8}
T5 = {**BLOCK, "n_layers": 2, "n_heads": 2, "head_size": 8, "tokenizer": CODES}
#: Small, and with a rate above 0 wherever a model has one.
SIZES = {
    **dict.fromkeys(("sasrec", "bert4rec", "lrurec", "dt4rec", "onepiece"), BLOCK),
    **{name: {**TINY, "item_table": {"model": "sasrec", **BLOCK}} for name in ("slmrec", "e4srec")},
    **{name: {"hidden_size": 16, "dropout": 0.2} for name in ("mamba4rec", "srgnn", "gcsan", "tagnn", "hicg")},
    "gru4rec": {"hidden_size": 16, "embedding_dropout": 0.2, "dropout": 0.2, "n_negatives": 64},
    "hstu": {"hidden_size": 16, "head_size": 8, "dropout": 0.2},
    "tim4rec": {"hidden_size": 16, "head_size": 8, "state_size": 8, "dropout": 0.2, "time_dropout": 0.2},
    "gcegnn": {"hidden_size": 16, "dropout": 0.2, "local_dropout": 0.2, "inner_dropout": 0.2},
    "llmgr": {**TINY, "text_buckets": 64, "graph": {"model": "gcsan", "hidden_size": 16}},
    "tiger": T5,
    "p5": {**T5, "user_tokens": 8, "text_buckets": 16, "direct": 0.0, "prompts": ["next"], "test_prompt": "next"},
    "rec_lora": {**TINY, "lora_rank": 2, "item_table": {"model": "sasrec", **BLOCK}},
    "lcrec": {**TINY, "text_buckets": 64, "alignment_share": 0.5, "itemsearch": 0.5, "preferenceobtain": 0.5, "tokenizer": CODES},
    "llamarec": {**TINY, "k": 4, "history": 4, "text_buckets": 256, "retriever": {"model": "markov"}},
    "x_cross": {**TINY, "k": 4, "history": 4, "text_buckets": 256, "retriever": {"model": "markov"}},
    **{name: {**TINY, "text_buckets": 64, "text_tokens": 8} for name in ("lite_llm4rec", "hllm")},
    **{name: {"hidden_size": 16, "layers": [16, 8], "dropout": 0.2} for name in ("din", "tin", "dare", "qin")},
    **{name: {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16} for name in ("easyrec", "notellm2")},
    "recformer": {**TINY, "text_tokens": 4, "history": 4, "text_buckets": 64},
    "bigrec": {**TINY, "title_words": 3, "text_buckets": 256},
    "rpg": {**BLOCK, "residual_dropout": 0.2, "tokenizer": {"model": "opq", "levels": 4, "codebook_size": 16, "components": 8}},
}  # fmt: skip
#: Of a T5, after its embedding.
T5_PLACES = (
    "weights after encoder.*.attention.query",
    "encoder.*.attention.output",
    "encoder.*.feedforward.expand",
    "encoder.*.feedforward",
    "encoder_norm",
    "decoder_bias",
    "weights after decoder.*.self_attention.query",
    "decoder.*.self_attention.output",
    "weights after decoder.*.cross_attention.query",
    "decoder.*.cross_attention.output",
    "decoder.*.feedforward.expand",
    "decoder.*.feedforward",
    "decoder_norm",
)
#: Model -> where it drops, in order of first use. What a reference of another code stores is in tests/parity; this is what stands in writing.
PLACES = {
    "bert4rec": (
        "input_norm",
        "weights after layers.*.attention.query_key_value",
        "layers.*.attention",
        "layers.*.contract",
    ),
    "bm3": ("start", "predictor"),
    "dgvae": ("start",),
    "diffkg": ("compare",),
    "kgat": ("products.*",),
    **dict.fromkeys(("din", "tin"), ("head.layers.*",)),
    "dare": ("head.layers.*", "search_head.layers.*"),
    "bigrec": ("start",),
    "multivae": ("start", "encoder"),  # of the first group of sets, and of the groups after it
    "qin": ("head.*.activation",),
    "e4srec": ("item_to_state",),
    "gcegnn": ("global_graph.layers.*.query", "global_graph", "local_graph"),
    "gcsan": ("blocks.*.contract",),
    "gru4rec": ("item_embedding", "layers.*"),
    "hicg": ("item_embedding",),
    "hstu": ("item_embedding", "layers.*.time_bias"),
    "lcrec": ("token_embedding", "heads.*", "backbone.model"),
    "llamarec": ("start",),
    "x_cross": ("start",),
    "hllm": ("project",),
    "lite_llm4rec": ("item_to_state",),
    "llmgr": ("language.word_embedding",),
    "lrurec": ("item_embedding", "layers.*.recurrence", "layers.*.expand", "layers.*.contract"),
    "mamba4rec": ("item_embedding", "layers.*.mixer", "layers.*.feedforward.expand", "layers.*.feedforward.contract"),
    "rpg": ("start", "weights after layers.*.attention.query_key_value", "layers.*.attention", "layers.*.contract"),
    **dict.fromkeys(
        ("sasrec", "dt4rec"),
        (
            "item_embedding",
            "weights after layers.*.attention.query_key_value",
            "layers.*.attention",
            "layers.*.expand",
            "layers.*.contract",
        ),
    ),
    "slmrec": ("item_to_state",),
    "srgnn": ("item_embedding",),
    "tagnn": ("item_embedding",),
    "recformer": ("place_embedding",),
    "rec_lora": ("gate.*", "item_to_state"),
    "onepiece": (
        "item_embedding",
        "hour_embedding",
        "weights after layers.*.attention.query_key_value",
        "layers.*.attention.output",
        "layers.*.expand",
        "layers.*.contract",
    ),
    "p5": ("word_embedding", *T5_PLACES),
    "tiger": ("token_embedding", *T5_PLACES),
    "tim4rec": (
        "item_embedding",
        "input_norm",
        "layers.*.mixer",
        "layers.*.feedforward.expand",
        "layers.*.feedforward.contract",
        "layers.*",
    ),
}


def build(name, data, split, keys=None):
    """A small model with fresh weights, and its dependencies."""
    config, _ = compose_model({"model": name, **(SIZES.get(name, {}) if keys is None else keys)}, "model", "none")
    train, parts = TrainingData.of(data, split), {}
    for role, wanted in lookup(name).model.dependencies(config).items():
        inner = dict(wanted)
        parts[role] = build(inner.pop("model"), data, split, inner)
    vectors = nn.functional.pad(torch.randn(data.n_items, 12), (0, 0, 1, 0))
    counts = torch.from_numpy(train.item_counts())
    beside = {
        "features": {"image": vectors},
        "knowledge": Knowledge(np.array([[1, 0, 2]]), data.n_items + 1, 1, [], [], {}),
    }
    context = ModelContext(data.n_items, data.n_users, 20, counts, parts, item_texts(data), train, 0, vectors, **beside)
    model = lookup(name).model(config, context)
    if isinstance(model, ClosedForm):
        model.fit_to(train)
    return model


@pytest.fixture
def batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, 20)
    return WindowDataset(tiny_data, windows)[torch.arange(24).numpy()]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_drops_where_it_says_so(name, tiny_data, tiny_split, batch):
    model = build(name, tiny_data, tiny_split)
    written = PLACES.get(name, getattr(type(model), "dropout_places", ()))
    assert dropout_places(model, lambda: model.training_loss(batch)) == written


class Toy(nn.Module):
    """Two parts with a dropout behind the first, or behind the second."""

    def __init__(self, behind_first):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), Dropout(0.5)
        self.behind_first = behind_first

    def forward(self, x):
        return self.second(self.drop(self.first(x))) if self.behind_first else self.drop(self.second(self.first(x)))


def test_places_are_told_apart_and_training_is_left_as_it_was():
    x = torch.randn(3, 4)
    for behind_first, place in ((True, "first"), (False, "second")):
        toy = Toy(behind_first).eval()
        assert dropout_places(toy, lambda toy=toy: toy(x)) == (place,)
        assert not toy.training
        with constant_dropout(0.5):
            dropped = toy.train()(x)
        expected = toy.second(0.5 * toy.first(x)) if behind_first else 0.5 * toy.second(toy.first(x))
        torch.testing.assert_close(dropped, expected)


def test_torchs_own_dropouts_and_attention_are_seen_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    assert dropout_places(layer, lambda: layer(torch.randn(2, 3, 8))) == (
        "weights after start",
        "self_attn",
        "linear1",
        "linear2",
    )
    assert dropout_places(nn.Identity(), lambda: nn.functional.dropout(torch.ones(2))) == ("start",)


@pytest.mark.parametrize("mask", [None, "bool", "added"])
def test_attention_written_out_is_torchs(mask):
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind()
    real = torch.rand(2, 1, 5, 5) > 0.3
    real[..., 0] = True
    words = {None: {"is_causal": True}, "bool": {"attn_mask": real}, "added": {"attn_mask": torch.randn(5, 5)}}[mask]
    expected = nn.functional.scaled_dot_product_attention(query, key, value, **words)
    with constant_dropout(0.5):
        found = nn.functional.scaled_dot_product_attention(query, key, value, **words)
        dropped = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1, **words)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dropped, 0.5 * expected)
