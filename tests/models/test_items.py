"""``model.items``: item vectors out of codes, groups, merged pieces or texts, in the place of a model's own table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.data.training import TrainingData
from recbench.evaluation.metrics import per_case as metric_of
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key
from recbench.experiment.model_contract.world import fresh, world
from recbench.experiment.run import run
from recbench.models import weights
from recbench.models.item_exchange import parameter_formula
from recbench.nn.codes.item_vectors import PieceVectors

SMALL = {"hidden_size": 16, "dropout": 0.0}
TOKENIZER = {"model": "random_ids", "levels": 3, "codebook_size": 4, "collisions": "bucket"}
KINDS = {
    "codes": {"items": "codes", "tokenizer": TOKENIZER},
    "ngram": {"items": "ngram", "tokenizer": TOKENIZER, "pieces": {"n": 2, "rows": 24}},
    "spm": {"items": "spm", "tokenizer": TOKENIZER, "pieces": {"rows": 30, "bias": True}},
    "text": {"items": "text"},
}
HOSTS = {"sasrec": SMALL, "gru4rec": {"hidden_size": 16}, "hstu": {**SMALL, "head_size": 8}}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_every_host_and_its_weights_are_complete(kind, host, tmp_path):
    keys = {**HOSTS[host], **KINDS[kind]}
    model = fresh(host, keys)
    model.train()
    model.training_loss(world().rows["windows"]).backward()
    used = model.item_embedding.table.grad if kind != "text" else model.item_embedding.map.grad
    assert used.abs().sum() > 0
    weights.save_weights(model, tmp_path / "w.safetensors")
    again = fresh(host, keys, with_dependencies=False)
    weights.load_weights(again, tmp_path / "w.safetensors")
    with torch.no_grad():
        assert torch.equal(again.eval().score(world().histories), model.eval().score(world().histories))


def test_equal_codes_have_equal_scores_and_every_used_piece_a_gradient():
    model = fresh("sasrec", {**SMALL, **KINDS["codes"]})
    table = model.item_embedding
    assert isinstance(table, PieceVectors)
    assert sum(p.numel() for p in table.parameters()) == parameter_formula("codes", 12, 16, 60, bias=False)
    same = [(a, b) for a in range(1, 61) for b in range(1, a) if torch.equal(table.pieces[a], table.pieces[b])]
    assert same
    scores = model.score(world().histories)
    assert all(torch.equal(scores[:, a], scores[:, b]) for a, b in same)
    model.training_loss(world().rows["windows"]).backward()
    used = table.pieces[table.pieces > 0].unique()
    assert (table.table.grad[used].abs().sum(1) > 0).all()
    assert not table.table.grad[0].any()


def test_the_kept_table_follows_the_parameters():
    table = fresh("sasrec", {**SMALL, **KINDS["codes"]}).item_embedding
    with torch.no_grad():
        before = table.weight
        assert table.weight is before
        table.table[1:] *= 2.0
        torch.testing.assert_close(table.weight, 2.0 * before)
        torch.testing.assert_close(table(torch.tensor([[3, 0]])), table.weight[[3, 0]][None])


def test_dealt_anew_the_codes_are_the_same_ones_on_other_items():
    straight = fresh("sasrec", {**SMALL, **KINDS["codes"]}).item_embedding.pieces
    dealt = fresh("sasrec", {**SMALL, **KINDS["codes"], "pieces": {"shuffle": True}}).item_embedding.pieces
    assert not torch.equal(straight, dealt)
    assert sorted(straight.tolist()) == sorted(dealt.tolist())


def test_mistakes_are_told_by_name(run_config, tmp_path):
    with pytest.raises(UserError, match=r"unknown model\.items 'code'; did you mean 'codes'"):
        run_config(tmp_path, "model=sasrec", "model.items=code")
    with pytest.raises(UserError, match=r"model\.pieces\.rows must be at least 1"):
        run_config(tmp_path, "model=sasrec", "model.items=spm", "model.pieces.rows=0")
    with pytest.raises(UserError, match=r"'slmrec' learns no table of items, so model\.items=text"):
        fresh("slmrec", {"n_layers": 1, "items": "text"})
    with pytest.raises(UserError, match=r"model\.tokenizer\.model=sasrec makes no codes"):
        fresh("sasrec", {**SMALL, "items": "codes", "tokenizer": {"model": "sasrec", "hidden_size": 16}})


def test_at_its_default_it_enters_no_key(run_config, tmp_path):
    plain, coded = (
        run_config(tmp_path, "model=sasrec", *words)
        for words in ((), ("model.items=codes", "model.tokenizer.model=random_ids"))
    )
    stage = RunContext.of(plain)
    assert run_key(plain, stage) != run_key(coded, stage)
    assert not {"items", "pieces", "tokenizer"} & set(key_values(plain.model))


def test_codes_that_tell_the_cluster_reach_rare_items_and_dealt_codes_do_not(compose, tmp_path):
    """Planted: an event's item comes from the cluster of the last one, and the text tells the cluster. 400 items over 64 shared rows."""
    words = [
        "data=synthetic", "data.n_users=500", "data.n_items=400", "data.n_clusters=40", "data.cluster=0.95", "data.transition=0",
        "data.second_order=0", "data.text_signal=1", "data.mean_length=7", "hardware=cpu", "tracking=off", "model=sasrec", "tuned=off",
        "model.hidden_size=32", "model.n_layers=1", "model.dropout=0.2", "training.lr=0.01", "training.max_epochs=8",
        "training.validate_every=8", f"runs_dir={tmp_path}", "model.items=codes", "model.tokenizer.codebook_size=16",
    ]  # fmt: skip

    def tail(*more):
        made = run(RunConfig.from_hydra(compose(*words, *more)))
        ranks, held = pl.read_parquet(made.folder.ranks), training_counts(made)
        rare = (held[ranks["target"].to_numpy()] > 0) & (held[ranks["target"].to_numpy()] <= 5)
        values = metric_of("ndcg@10", ranks["rank"].to_numpy()[rare], np.arange(rare.sum()), 400)
        assert values.mean() == pytest.approx(made.metrics["tail/ndcg@10"])
        return values

    codes, dealt = tail(), tail("model.pieces.shuffle=true")
    gain = codes - dealt
    low = gain.mean() - 1.96 * gain.std() / np.sqrt(len(gain))
    assert low > 0.15, (codes.mean(), dealt.mean(), low)  # .30 against .02 when this was written


def training_counts(made):
    stage = RunContext.of(made.config)
    return TrainingData.of(stage.data, stage.split).item_counts()
