"""What users of generated data would do next, and what they click."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import prepare
from recbench.experiment.model_contract.world import DATA
from recbench.posthoc.probes.taste import Histories, Taste, clicked, drawn


@pytest.fixture(scope="module")
def taste(tiny_data):
    return Taste.of(tiny_data, SyntheticConfig(**DATA))


def histories(data, users, cut):
    start, end = data.offsets[users], data.offsets[users + 1] - cut
    width = int((end - start).max())
    place = start[:, None] + np.arange(width)
    real = place < end[:, None]
    place = np.where(real, place, 0)
    return Histories(np.where(real, data.items[place], 0), np.where(real, data.timestamps[place], 0), end - start)


def test_the_taste_is_the_generators_own(taste, tiny_data):
    """Ranking each user's last event by it scores what the data say is the best that anybody could."""
    users = np.arange(tiny_data.n_users)
    p = taste.next(histories(tiny_data, users, 1))
    target = tiny_data.items[tiny_data.offsets[1:] - 1]
    own = p[users, target][:, None]
    rank = 1 + (p[:, 1:] > own).sum(1) + ((p[:, 1:] == own).sum(1) - 1) / 2
    ndcg = np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean()
    assert ndcg == pytest.approx(tiny_data.manifest["extra"]["oracle"]["test/ndcg@10"])
    assert p.sum(1) == pytest.approx(1.0)


def test_a_copy_is_its_item(taste, tiny_data):
    plain = histories(tiny_data, np.arange(20), 1)
    copied = Histories(np.where(plain.real, plain.items + tiny_data.n_items, 0), plain.times, plain.lengths)
    assert (taste.next(plain) == taste.next(copied)).all()


def test_clicks_follow_taste_and_place():
    generator = np.random.default_rng(0)
    lists = np.tile([5, 7, 0], (20_000, 1))
    found = clicked(lists, np.tile([0.1, 0.1, 0.9], (20_000, 1)), generator)
    assert (found == 5).mean() == pytest.approx(1 / (1 + 1 / np.log2(3)), abs=0.01)
    assert set(found) == {5, 7}
    assert (clicked(lists[:9], np.zeros((9, 3)), generator) == 0).all()
    assert drawn(np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), generator).tolist() == [1, -1]


def test_an_event_more():
    before = Histories(np.array([[1, 2], [3, 0]]), np.array([[1, 2], [3, 0]]), np.array([2, 1]))
    after = before.with_events(np.array([0, 9]), np.array([5, 6]))
    assert after.lengths.tolist() == [2, 2]
    assert (after.items.tolist(), after.times.tolist()) == ([[1, 2, 0], [3, 9, 0]], [[1, 2, 0], [3, 6, 0]])


def test_nobody_knows_the_taste_of_real_users(tiny_data):
    with pytest.raises(UserError, match="nobody knows what the users of data=table would click"):
        Taste.of(tiny_data, TableConfig(path="e.csv"))


def test_items_that_nobody_met_keep_their_numbers_apart(own_cache):
    few = SyntheticConfig(n_users=12, n_items=200, n_clusters=5)
    data = prepare(few, own_cache)
    taste = Taste.of(data, few)
    assert data.n_items < 200
    names = data.item_table()["item"].to_list()
    assert [f"i{number:03d}" for number in taste.of_item[1:]] == names
