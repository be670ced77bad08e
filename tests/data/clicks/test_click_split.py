"""Impressions from raw rows: what a history may hold, what fields may know, which rows are drawn, and what is answered to bad input."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.clicks.build import click_split
from recbench.data.clicks.negatives import draw_items
from recbench.data.clicks.protocol import ClicksConfig
from recbench.data.sources.impressions_config import ImpressionColumns, ImpressionsConfig
from recbench.data.sources.synthetic import SyntheticConfig
from recbench.data.sources.table_config import GivenParts


def rows_of(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{x}" for x in rng.integers(0, 9, n)],
            "item": [f"i{x}" for x in rng.integers(0, 12, n)],
            "label": rng.integers(0, 2, n),
            "t": np.sort(rng.integers(0, 60, n)),
            "group": [f"g{x}" for x in rng.integers(0, 4, n)],
            "price": rng.random(n),
        }
    )


@pytest.fixture
def split(tmp_path):
    """split(rows, negatives=1) -> the split of these rows, cut in time unless said otherwise."""

    def build(rows, columns=None, numbers=("price",), several=(), **protocol):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        rows.write_csv(folder / "rows.csv")
        names = ImpressionColumns(**{"timestamp": "t", **(columns or {})})
        config = ImpressionsConfig(
            path=str(folder / "rows.csv"), columns=names, numbers=list(numbers), several=list(several)
        )
        return click_split(config, ClicksConfig(**{"validation_ratio": 0.2, "test_ratio": 0.2, **protocol}), folder)

    return build


@pytest.mark.parametrize("order", ["time", "random"])
def test_a_history_holds_the_known_clicks_before_its_row_and_none_of_its_own_time(split, order):
    rows = rows_of()
    found = split(rows, order=order)
    data, part = found.clicks, np.zeros(len(rows), int)
    part[found.validation_rows], part[found.test_rows] = 1, 2
    item = np.asarray(data.item)
    for row in range(len(rows)):
        mine = (rows["user"] == rows["user"][row]) & (rows["label"] == 1) & (rows["t"] < rows["t"][row])
        mine = mine.to_numpy() & ((part == 0) if order == "random" else True)
        start, end = data.log.offsets[data.user[row]], data.history_end[row]
        np.testing.assert_array_equal(np.asarray(data.log.items[start:end]), item[mine])


def test_rows_of_one_moment_stay_in_one_part(split):
    found = split(rows_of())
    times = [
        set(np.asarray(found.clicks.time[rows])) for rows in (found.train_rows, found.validation_rows, found.test_rows)
    ]
    assert not times[0] & times[1]
    assert not times[1] & times[2]
    assert max(times[0]) < min(times[1]) < min(times[2])


def test_what_training_lacks_is_unknown_and_what_is_empty_is_missing(split):
    rows = rows_of()
    late = pl.DataFrame({**rows[-1].to_dict(as_series=False), "item": ["new"], "group": ["only at test"], "t": [99]})
    empty = pl.DataFrame({**rows[-1].to_dict(as_series=False), "group": [None], "price": [None], "t": [100]})
    found = split(pl.concat([rows, late, empty]))
    data, names = found.clicks, list(found.clicks.fields.categories)
    group, item = names.index("group"), names.index("item")
    assert data.categories[len(rows), group] == data.categories[len(rows), item] == 1
    assert data.item[len(rows)] == data.log.n_items  # the one number of all items that training does not know
    assert (data.categories[len(rows) + 1, group], data.numbers[len(rows) + 1, 0]) == (0, 0.0)
    assert found.audit["unknown_group"] == 1
    train = np.asarray(data.numbers[found.train_rows, 0])
    assert (train.mean(), train.std(ddof=1)) == pytest.approx((0, 1), abs=1e-5)
    rare = split(rows, rare=10_000)
    assert set(np.unique(rare.clicks.categories)) == {1}


def test_drawn_rows_copy_their_click_and_never_name_an_item_that_the_user_clicked(split):
    rows = rows_of().filter(pl.col("label") == 1).unique(["user", "item"], maintain_order=True)[:50]
    with pytest.raises(UserError, match=r"training part has clicks only .*protocol\.negatives=1"):
        split(rows)
    found = split(rows, negatives=2)
    data = found.clicks
    assert len(data) == 3 * len(rows)
    label, pairs = np.asarray(data.label[:, 0]), list(zip(data.user.tolist(), data.item.tolist(), strict=True))
    clicked = {pair for pair, y in zip(pairs, label, strict=True) if y}
    assert not clicked & {pair for pair, y in zip(pairs, label, strict=True) if not y and pair[1] < data.log.n_items}
    np.testing.assert_array_equal(data.time[::3], data.time[1::3])
    assert found.protocol_id.endswith("-n2.uniform.s0-rare1-v1")
    again = split(rows, negatives=2, seed=1)
    assert again.split_hash != found.split_hash


def test_draws_are_uniform_over_what_was_never_clicked():
    drawn = draw_items(np.zeros(9_000, int), np.array([1, 3]), 5, 1, seed=0)
    assert np.bincount(drawn.ravel(), minlength=5) / 9_000 == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3], abs=0.02)
    with pytest.raises(UserError, match="clicked every item"):
        draw_items(np.zeros(1, int), np.arange(5), 5, 1, seed=0)


def test_bad_rows_are_answered_by_their_number(split):
    rows = rows_of()
    for changed, said in (
        (rows.with_columns(label=pl.lit(2)), r"row 1 of the data has the label 2"),
        (rows.with_columns(label=pl.lit(None, pl.Int64)), r"row 1 of the data has the label None"),
        (rows.with_columns(label=pl.lit(0)), "training part has rows without a click only"),
        (rows.drop("label"), r"no column 'label' \(data\.columns\.label\)"),
        (
            rows.with_columns(price=pl.when(pl.col("t") == rows["t"][-1]).then(pl.lit("dear")).otherwise(pl.lit("1"))),
            "price is 'dear'",
        ),
        (rows.with_columns(price=pl.lit("nan")), r"row 1: the field price is nan"),
    ):
        with pytest.raises(UserError, match=said):
            split(changed)
    with pytest.raises(UserError, match="order=time needs timestamps"):
        split(rows, columns={"timestamp": None})
    with pytest.raises(UserError, match="order=given needs rows that others split"):
        split(rows, order="given")


def test_a_set_of_fuxictr_is_read_by_its_column_meta(tmp_path):
    sequence = pl.Series(["a^b", None, "c"] * 20)
    ads = [f"a{k % 5}" for k in range(60)]
    columns = {
        "clk": [1, 0, 0] * 20,
        "userid": range(60),
        "ad": ads,
        "price": [0.5] * 60,
        "seq": sequence,
        "id": range(60),
    }
    frame = pl.DataFrame(columns)
    for name in ("train", "test"):
        frame.write_csv(tmp_path / f"{name}.csv")
    (tmp_path / "dataset_config.yaml").write_text(
        """tiny:
  data_format: csv
  train_data: ../data/tiny/train.csv
  test_data: ../data/tiny/test.csv
  min_categr_count: 1
  feature_cols:
    - {name: [userid, ad], active: True, dtype: str, type: categorical}
    - {name: price, active: True, dtype: float, type: numeric}
    - {name: seq, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5}
    - {name: id, active: False, dtype: str, type: categorical}
  label_col: {name: clk, dtype: float}
"""
    )
    roles = ImpressionColumns(user="userid", item="ad")
    config = ImpressionsConfig(meta=str(tmp_path / "dataset_config.yaml"), dataset="tiny", columns=roles)
    found = click_split(config, ClicksConfig(order="given", validation_ratio=0.2), tmp_path)
    fields = found.clicks.fields
    assert (list(fields.categories), fields.numbers, list(fields.several)) == (["user", "item"], ("price",), ["seq"])
    assert (len(found.train_rows), len(found.validation_rows), len(found.test_rows)) == (48, 12, 60)
    assert "v0.2.s0" in found.protocol_id
    assert (found.clicks.several[0][found.test_rows[0]] > 0).sum() == 2
    with pytest.raises(UserError, match=r"has no entry 'tinny'"):
        click_split(ImpressionsConfig(meta=config.meta, dataset="tinny"), ClicksConfig(order="given"), tmp_path)


def test_generated_data_bring_their_impressions(tmp_path):
    found = click_split(SyntheticConfig(n_users=80, n_items=80), ClicksConfig(), tmp_path)
    assert 0.05 < found.audit["training_rate"] < 0.6
    assert "device" in found.clicks.fields.categories
    assert found.clicks.log.has_timestamps


def test_parts_of_others_are_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"data\.parts needs train and test"):
        click_split(ImpressionsConfig(parts=GivenParts(train="x.csv")), ClicksConfig(order="given"), tmp_path)
