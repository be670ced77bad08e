"""``recbench.load_data``: frames that hold what the arrays hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import recbench

EVENTS = """visitor,sku,clicked_at
ann,lamp,2024-01-01
ann,desk,2024-01-02
ann,sofa,2024-01-03
ann,lamp,2024-01-04
bob,desk,2024-01-02
bob,sofa,2024-01-05
bob,lamp,2024-01-06
"""
COLUMNS = ["data.columns.user=visitor", "data.columns.item=sku", "data.columns.timestamp=clicked_at"]


@pytest.fixture
def table(tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    return ["data=table", f"data.path={tmp_path}/events.csv", *COLUMNS, "data.k_core=0"]


def test_a_csv_comes_back_as_it_was_written(table):
    data = recbench.load_data(table)
    said = data.interactions.select("user", "item", pl.col("timestamp").dt.strftime("%Y-%m-%d"))
    assert sorted(said.iter_rows()) == sorted(tuple(line.split(",")) for line in EVENTS.splitlines()[1:])
    assert said.filter(pl.col("user") == "ann")["item"].to_list() == ["lamp", "desk", "sofa", "lamp"]
    assert set(data.items["item"]) == {"lamp", "desk", "sofa"}
    assert (data.n_users, data.n_items, data.n_interactions) == (2, 3, 7)
    assert data.interactions.columns == ["user", "item", "timestamp"]


def test_the_split_is_that_of_the_protocol(table):
    data = recbench.load_data(table)
    train = data.train.group_by("user", maintain_order=True).agg("item")
    assert dict(train.iter_rows()) == {"ann": ["lamp", "desk"], "bob": ["desk"]}
    assert dict(data.validation.select("user", "item").iter_rows()) == {"ann": "sofa", "bob": "sofa"}
    assert dict(data.test.select("user", "item").iter_rows()) == {"ann": "lamp", "bob": "lamp"}
    for case in data.test.iter_rows(named=True):
        history = data.interactions[case["history_start"] : case["history_end"]]
        assert set(history["user"]) == {case["user"]}
        assert history["timestamp"].max() < case["timestamp"]
    assert data.protocol.startswith("leave_one_out")
    assert "leave_one_out" in repr(data)


@pytest.mark.parametrize("protocol", ["leave_one_out", "temporal", "sessions"])
def test_frames_hold_what_the_arrays_hold(tiny, protocol):
    words = [word for word in tiny if word.startswith("data")]
    data = recbench.load_data(words, f"protocol={protocol}")
    prepared, split = data.prepared, data.split
    number = dict(data.items.select("item", "item_id").iter_rows())
    assert [number[item] for item in data.interactions["item"]] == prepared.items.tolist()
    users = np.repeat(data.users["user_id"].to_numpy(), np.diff(prepared.offsets))
    assert data.interactions["user"].to_list() == users.tolist()
    assert data.train.height == int((split.train_end - split.train_start).sum())
    for frame, cases in ((data.validation, split.validation), (data.test, split.test)):
        assert [number[item] for item in frame["item"]] == cases.targets.tolist()
        assert frame["case"].to_list() == np.repeat(np.arange(len(cases)), cases.n_targets).tolist()
        assert data.interactions["item"].gather(cases.target_positions).to_list() == frame["item"].to_list()
    assert data.audit == dict(split.audit)


def test_data_without_a_clock_have_no_timestamps(tmp_path):
    (tmp_path / "events.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in "ab" for i in "xyz"))
    words = ["data=table", f"data.path={tmp_path}/events.csv", "data.columns.timestamp=null", "data.k_core=0"]
    assert recbench.load_data(words).interactions.columns == ["user", "item"]


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(recbench.UserError, match=r"data\.path"):
        recbench.load_data("data=table", f"data.path={tmp_path}/nothing.csv")
