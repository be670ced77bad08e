"""``model.heads``: a head for each class of items or each behaviour."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.data.batches import evaluation_batches
from recbench.evaluation.metrics import per_case
from recbench.experiment.build import load_model
from recbench.experiment.context import RunContext
from recbench.experiment.model_contract.world import fresh, world
from recbench.experiment.run import run
from recbench.nn.losses.class_heads import ItemHeads
from tests.fixtures.model_sizes import SIZES

HOSTS = {
    "sasrec": {"hidden_size": 16, "dropout": 0.0},
    "hstu": {"hidden_size": 16, "head_size": 8, "dropout": 0.0, "loss": "softmax"},
    "lrurec": {"hidden_size": 16, "dropout": 0.0},
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["brand", "behaviour"])
def test_every_host_starts_as_the_plain_model_and_its_scores_are_log_probabilities(kind, host):
    plain, model = fresh(host, HOSTS[host]), fresh(host, {**HOSTS[host], "heads": kind})
    model.load_state_dict(plain.state_dict(), strict=False)
    histories = world().histories
    with torch.no_grad():
        scores, before = model.score(histories), plain.score(histories)
    torch.testing.assert_close(scores[:, 1:].exp().sum(1), torch.ones(len(scores)))
    within = before[:, 1:].log_softmax(1)
    if kind == "brand":  # within a class the order is the plain one; across classes it is p(class)
        items = model.heads.items(0)
        torch.testing.assert_close(scores[:, items].log_softmax(1), before[:, items].log_softmax(1))
    else:
        torch.testing.assert_close(scores[:, 1:], within)
    model.train()
    model.training_loss(world().rows["windows"]).backward()
    assert model.heads.gates.grad.abs().sum() > 0


def test_the_loss_is_the_negative_log_probability_that_ranking_gives():
    model = fresh("sasrec", {**HOSTS["sasrec"], "heads": "brand", "class_heads": {"most": 5}})
    torch.nn.init.normal_(model.heads.gates, std=0.1)
    torch.nn.init.normal_(model.heads.prior.weight)
    batch = world().rows["windows"]
    states = model.hidden_states(batch)[-1][batch.mask]
    scores = model.heads.scores(model.queries(states), model.item_vectors())
    expected = -scores.gather(1, batch.targets[batch.mask][:, None]).mean()
    torch.testing.assert_close(model.training_loss(batch), expected)


def test_numbering_the_classes_otherwise_changes_nothing_and_a_class_of_one_item_is_no_trouble():
    class_of = torch.tensor([0, 0, 1, 1, 2, 0])
    heads, other = ItemHeads(class_of, 4, True), ItemHeads(2 - class_of, 4, True)
    with torch.no_grad():
        heads.gates.normal_()
        heads.prior.weight.normal_()
        other.gates.copy_(heads.gates.flip(0))
        other.prior.weight.copy_(heads.prior.weight.flip(0))
    queries, vectors = torch.randn(7, 4), torch.randn(6, 4)
    torch.testing.assert_close(heads.scores(queries, vectors), other.scores(queries, vectors))
    targets = torch.full((7,), 4)
    torch.testing.assert_close(
        heads.loss(queries, vectors, targets), heads.class_loss(queries, class_of[targets], None)
    )


def test_one_class_is_the_plain_model_bit_for_bit():
    plain = fresh("sasrec", HOSTS["sasrec"])
    single = fresh("sasrec", {**HOSTS["sasrec"], "heads": "brand", "class_heads": {"most": 1}})
    assert single.heads is None
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), single.state_dict().values(), strict=True)
    )
    assert torch.equal(plain.training_loss(world().rows["windows"]), single.training_loss(world().rows["windows"]))


def test_a_model_with_heads_can_be_kept_within_another():
    keys = {**SIZES["prompted"], "retriever": {"model": "sasrec", **HOSTS["sasrec"], "heads": "category"}}
    made, opened = fresh("prompted", keys), fresh("prompted", keys, with_dependencies=False)
    opened.load_stored_state(made.stored_state())
    with torch.no_grad():
        assert torch.equal(opened.score(world().histories), made.score(world().histories))


def test_mistakes_are_told_by_name(run_config, tmp_path):
    with pytest.raises(UserError, match=r"unknown model\.heads 'brnd'; did you mean 'brand'"):
        run_config(tmp_path, "model=sasrec", "model.heads=brnd")
    with pytest.raises(UserError, match=r"model\.heads=brand is a softmax in each class"):
        run_config(tmp_path, "model=sasrec", "model.heads=brand", "model.loss=bce")
    with pytest.raises(UserError, match=r"a teacher's scores know no heads"):
        run_config(
            tmp_path, "model=sasrec", "model.heads=brand", "distillation=logits", "distillation.teacher.model=ease"
        )
    with pytest.raises(UserError, match=r"'gru4rec' has a loss or scores of its own"):
        fresh("gru4rec", {"hidden_size": 16, "heads": "behaviour"})


def test_the_class_of_the_next_item_is_found_and_only_calibrated_scores_use_it(compose, tmp_path):
    """Planted: the next item comes from the cluster of the last one, and the category is the cluster. The head of the true classes knows the next
    class far better than one of dealt classes, and raw scores of different heads cannot be compared."""
    words = [
        "data=synthetic", "data.n_users=500", "data.n_items=200", "data.n_clusters=8", "data.cluster=0.9", "data.transition=0.1",
        "data.second_order=0", "data.text_signal=1", "data.popularity_skew=1", "data.mean_length=7", "hardware=cpu", "tracking=off",
        "model=sasrec", "tuned=off", "model.hidden_size=16", "model.n_layers=1", "model.dropout=0.2", "training.lr=0.01",
        "training.max_epochs=4", "training.validate_every=4", f"runs_dir={tmp_path}", "model.heads=category",
    ]  # fmt: skip

    def outcome(*more):
        made = run(RunConfig.from_hydra(compose(*words, *more)))
        ranks = pl.read_parquet(made.folder.ranks)["rank"].to_numpy()
        return per_case("ndcg@10", ranks, np.arange(len(ranks)), 200), right_classes(made), made.metrics

    def right_classes(made):
        stage = RunContext.of(made.config)
        model, found = load_model(made, stage), []
        for cases, batch in evaluation_batches(stage.data, stage.split.test, 50, 500):
            said = model.heads.prior(model.queries(model.last_states(batch)[-1])).argmax(1)
            found.append(
                (said == model.heads.class_of[torch.from_numpy(stage.split.test.targets[cases]).long()]).numpy()
            )
        return np.concatenate(found)

    def low(gain):
        return gain.mean() - 1.96 * gain.std() / np.sqrt(len(gain))

    true, dealt, raw = (
        outcome(),
        outcome("model.class_heads.shuffle=true"),
        outcome("model.class_heads.calibrated=false"),
    )
    assert low(true[1] - dealt[1].astype(float)) > 0.2, (true[1].mean(), dealt[1].mean())
    assert low(true[0] - raw[0]) > 0.1, (true[0].mean(), raw[0].mean())
    assert true[2]["test/oracle_class_ndcg@10"] > true[2]["test/ndcg@10"]
