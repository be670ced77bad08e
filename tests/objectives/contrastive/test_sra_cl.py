"""SRA-CL: neighbours by text, without twins, without the same user, of training alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.base import build_auxiliaries
from recbench.objectives.contrastive.sra_cl import nearest_items, nearest_windows, other_lists


@pytest.mark.parametrize("host", ["sasrec", "gru4rec", "srgnn"])
def test_it_stands_beside_every_host(host, dataset, batch):
    model = fresh(host, {"hidden_size": 16, "auxiliary": ["sra_cl"]})
    assert isinstance(model, SequenceModel)
    assert "lent_text_vectors" not in model.state_dict()
    auxiliary = build_auxiliaries(model, dataset)[0]
    auxiliary.draw(batch)
    terms = auxiliary.terms(model)
    assert set(terms) == {"sra_cl_items", "sra_cl_users"}
    sum(terms.values()).backward()
    assert model.item_embedding.weight.grad.abs().sum() > 0


def test_neighbours_are_the_nearest_but_no_twins():
    torch.manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(30, 6), dim=1)
    texts[0], texts[7] = 0.0, texts[3]
    near, cosine = nearest_items(texts, 4)
    expected = texts @ texts.T
    for item in range(1, 30):
        order = [
            j
            for j in expected[item].argsort(descending=True).tolist()
            if j not in (0, item) and expected[item, j] < 0.999
        ]
        torch.testing.assert_close(expected[item, near[item]], expected[item, order[:4]])  # twins are as near
        assert set(near[item].tolist()) <= set(order)
        torch.testing.assert_close(cosine[item], expected[item, near[item]])
    assert 7 not in near[3]
    assert near[1:].min() > 0


def test_neighbours_of_windows_are_of_other_users_and_of_training_alone(dataset):
    texts = torch.nn.functional.normalize(torch.randn(world().data.n_items + 1, 8), dim=1)
    near, _ = nearest_windows(texts, dataset, 5)
    users = dataset.windows.user
    assert (users[near.numpy()] != users[:, None]).all()
    changed = type("Changed", (), {})()
    for name in ("timestamps", "behaviours", "n_items", "n_users"):
        setattr(changed, name, getattr(dataset.data, name))
    held_out = np.ones(len(dataset.data.items), dtype=bool)
    for start, length in zip(dataset.windows.start, dataset.windows.length, strict=True):
        held_out[start : start + length + 1] = False
    changed.items = np.where(held_out, 1, dataset.data.items)
    assert held_out.any()
    again, _ = nearest_windows(texts, WindowDataset(changed, dataset.windows), 5)
    assert torch.equal(near, again)


def test_the_controls_exchange_the_lists():
    near, counts = torch.arange(40).reshape(10, 4), np.arange(10)
    dealt = other_lists(near, counts, "popularity", torch.Generator())
    assert torch.equal(dealt[5], near[4])
    random = other_lists(near, counts, "random", torch.Generator().manual_seed(1))
    assert random.min() > 0
    assert not torch.equal(random, near)


def test_text_that_tells_the_cluster_makes_like_partners_and_random_lists_do_not(dataset, tiny_data):
    """Planted: items of one cluster have like texts; the share of neighbours in the cluster, of text lists and of random ones."""
    cluster = np.random.default_rng(3).integers(0, 6, tiny_data.n_items + 1)
    centres = torch.nn.functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    noise = torch.randn(len(cluster), 16, generator=torch.Generator().manual_seed(2))
    texts = torch.nn.functional.normalize(centres[cluster] + 0.1 * noise, dim=1)
    near, _ = nearest_items(texts, 3)
    shares = []
    for lists in (near, other_lists(near, np.arange(len(near)), "random", torch.Generator().manual_seed(4))):
        same = (cluster[lists.numpy()[1:]] == cluster[1:, None]).mean(1)
        shares.append((same.mean(), 1.96 * same.std() / np.sqrt(len(same))))
    assert shares[0][0] - shares[0][1] > shares[1][0] + shares[1][1] + 0.3


def test_without_texts_it_is_refused(build, dataset, run_config, tmp_path):
    with pytest.raises(UserError, match=r"model\.auxiliary=\[sra_cl\] reads the items' texts"):
        build_auxiliaries(build(auxiliary=["sra_cl"]), dataset)
    with pytest.raises(UserError, match=r"unknown model\.sra_cl\.neighbours 'txt'; did you mean 'text'"):
        run_config(tmp_path, "model=sasrec", "model.auxiliary=[sra_cl]", "model.sra_cl.neighbours=txt")
