"""Gates that open by row, rows grouped by them, and a model for each group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment import clicks
from recbench.experiment.build import build_model, load_model
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.run import run
from recbench.nn.fields.gates import BernoulliGates

SMALL = ["training.max_epochs=2"]


def test_a_drawn_gate_is_open_as_often_as_its_chance_says_and_a_decided_one_by_half():
    torch.manual_seed(0)
    gates = BernoulliGates(2, 2, 4, temperature=0.05)
    odds = torch.tensor([-2.0, -0.1, 0.1, 3.0]).expand(20_000, 4)
    drawn = gates.train()(odds)
    torch.testing.assert_close((drawn > 0.5).double().mean(0), torch.sigmoid(odds[0]).double(), atol=0.015, rtol=0)
    assert gates.eval()(odds)[0].tolist() == [0, 0, 1, 1]


def test_rows_go_to_the_model_of_the_nearest_centre_with_its_open_dimensions_alone(config):
    asked = config("ihas")
    stage = RunContext.of(asked)
    search = build_model(dependency_configs(asked)["search"], stage, {}).eval()
    price = list(stage.split.clicks.fields.names).index("price")
    with (
        torch.no_grad()
    ):  # two kinds of rows: of high price the whole of the first field is closed, of low price the second
        search.vectors.numbers.fill_(1.0)
        search.gates.first.weight.zero_()
        search.gates.first.weight[0].view(-1, 8)[price, 0] = 1.0
        search.gates.first.weight[1].view(-1, 8)[price, 0] = -1.0
        search.gates.first.bias.zero_()
        search.gates.last.weight.zero_()
        search.gates.last.weight[:8, 0] = search.gates.last.weight[8:16, 1] = -1000.0
    model = build_model(asked, stage, {"search": search}).eval()
    rows = stage.split.clicks.batch(stage.split.test_rows, 0)
    group, high = model.group_of(rows), rows.numbers[:, 0] > 0.1
    assert len(set(group[high].tolist())) == 1
    assert (group[high][0] != group[rows.numbers[:, 0] < -0.1]).all()
    mine = model.open[group[high][0]]
    assert (mine[0].any(), mine[1:].all()) == (False, True)
    one = model.groups[int(group[high][0])]
    alone = one((rows.categories[high], rows.numbers[high], tuple(s[high] for s in rows.several)), mine) + model.bias
    torch.testing.assert_close(model.click_logits(rows)[high], alone)


def test_both_controls_and_the_stored_model_answers_alike(config):
    done = run(config("ihas", *SMALL, "model.n_groups=3", "model.cut=false"))
    stage = RunContext.of(done.config)
    model = load_model(done, stage)
    assert (model.open == 1).all()
    assert len(model.groups) == 3
    first = clicks.predict(model, stage.split, stage.split.test_rows, done.config)
    again = clicks.predict(load_model(done, stage), stage.split, stage.split.test_rows, done.config)
    np.testing.assert_array_equal(first, again)
    one = build_model(config("ihas", "model.n_groups=1"), stage, {"search": model.search.model})
    assert one.group_of(stage.split.clicks.batch(stage.split.test_rows, 0)).unique().tolist() == [0]


def test_wrong_keys_are_answered(config):
    for words, said in (
        (["model.search={model: deepfm}"], "deepfm opens no gates"),
        (["model.search.embedding_size=4"], "must be model.embedding_size=8"),
        (["model.n_groups=0"], "model.n_groups"),
        (["model.search.sparse=-1"], "model.sparse"),
    ):
        with pytest.raises(UserError, match=said):
            run(config("ihas", *words))
    with pytest.raises(UserError, match="network for each group of rows"):
        run(config("reloop2", "model.base={model: ihas}", "model.base.layers=[8]"))
