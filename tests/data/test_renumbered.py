"""Events under the item numbers of other data, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.renumbered import renumbered


def data_of(folder, names, histories, behaviours=None, kinds=None):
    return PreparedData.from_arrays(
        folder,
        np.array([names.index(name) + 1 for history in histories for name in history]),
        np.cumsum([0] + [len(history) for history in histories]),
        np.arange(sum(map(len, histories))),
        None if behaviours is None else np.array(behaviours),
        pl.DataFrame({"item": names, "title": [f"{folder.name} {name}" for name in names]}),
        behaviour_names=kinds,
    )


def names_of(data):
    table = ["", *data.item_table()["item"]]
    return [[table[item] for item in data.items[a:b]] for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]


def test_the_same_table_is_the_same_data(tmp_path):
    known = data_of(tmp_path / "known", ["a", "b"], [["a", "b"]])
    data = data_of(tmp_path / "data", ["a", "b"], [["b"]])
    assert renumbered(data, known)[0] is data


def test_items_in_another_order_get_the_numbers_and_texts_of_the_run(tmp_path):
    known = data_of(tmp_path / "known", ["a", "b", "c"], [["a", "b", "c"]], [1, 2, 1], ["view", "buy"])
    data = data_of(tmp_path / "data", ["c", "a", "b"], [["b", "c"], ["a"]], [1, 2, 3], ["buy", "view", "cart"])
    found, counts = renumbered(data, known)
    assert names_of(found) == [["b", "c"], ["a"]]
    assert found.items.tolist() == [2, 3, 1]
    assert found.behaviours.tolist() == [2, 1, 0]
    assert found.item_table()["title"].to_list() == ["known a", "known b", "known c"]
    assert (found.timestamps.tolist(), found.user_ids()["user_id"].to_list()) == ([0, 1, 2], ["0", "1"])
    assert counts == {"items_shared": 3, "items_unknown": 0, "events_unknown": 0, "items_without_event": 0}
    assert renumbered(data, known)[0].folder == found.folder


def test_unknown_items_go_and_users_stay(tmp_path):
    known = data_of(tmp_path / "known", ["a", "b", "c"], [["a", "b", "c"]])
    data = data_of(tmp_path / "data", ["x", "b"], [["x", "b", "x"], ["x"], ["b"]])
    with pytest.raises(
        UserError, match=r"1 are the same, 1 are of the data alone \(such as 'x'\) and 2 are of the run alone"
    ):
        renumbered(data, known)
    found, counts = renumbered(data, known, skip_unknown=True)
    assert names_of(found) == [["b"], [], ["b"]]
    assert (found.n_items, found.n_users) == (3, 3)
    assert counts == {"items_shared": 1, "items_unknown": 1, "events_unknown": 3, "items_without_event": 2}


def test_a_catalogue_that_is_a_part_of_the_runs_is_another_one(tmp_path):
    known = data_of(tmp_path / "known", ["a", "b"], [["a", "b"]])
    data = data_of(tmp_path / "data", ["b"], [["b"]])
    with pytest.raises(UserError, match="1 are of the run alone"):
        renumbered(data, known)
    with pytest.raises(UserError, match="may not hold the same ids"):
        renumbered(data_of(tmp_path / "strange", ["z"], [["z"]]), known, skip_unknown=True)
