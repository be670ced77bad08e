"""Times, ids, ratings and item tables: what is odd is told, what cannot be is refused, and nothing goes without a word."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.sources.table_config import Columns, ItemColumns, TableConfig
from recbench.data.sources.table_times import Span, choose_clock, fitting_formats
from recbench.data.store import prepare

T = 1_600_000_000


def prepared(folder: Path, content: str, name: str = "e.csv", **settings: object) -> PreparedData:
    (folder / name).write_text(content)
    return prepare(TableConfig(path=str(folder / name), **{"k_core": 0, **settings}), folder / "cache")  # type: ignore[arg-type]


def table(stamps: list[object], users: list[str] | None = None, items: list[str] | None = None) -> str:
    users, items = users or ["u"] * len(stamps), items or [f"i{n}" for n in range(len(stamps))]
    return "user,item,timestamp\n" + "".join(f'{u},{i},"{t}"\n' for u, i, t in zip(users, items, stamps, strict=True))


# Times


@pytest.mark.parametrize(("factor", "word"), [(1, "seconds"), (10**3, "milli"), (10**6, "micro"), (10**9, "nano")])
@pytest.mark.parametrize("kind", ["text", "parquet", "float"])
def test_the_unit_is_decided_and_said(tmp_path, caplog, factor, word, kind):
    caplog.set_level("INFO")
    seconds = [T + n for n in range(20)]
    if kind == "text":
        data = prepared(tmp_path, table([s * factor for s in seconds]))
    else:
        frame = pl.DataFrame(
            {"user": "u", "item": [str(s) for s in seconds], "timestamp": [s * factor for s in seconds]}
        )
        if kind == "float":
            frame = frame.with_columns(pl.col("timestamp").cast(pl.Float64))
        frame.write_parquet(tmp_path / "e.parquet")
        data = prepare(TableConfig(path=str(tmp_path / "e.parquet"), k_core=0), tmp_path / "cache")
    assert f"taking timestamps for {word}" in caplog.text
    assert data.timestamps.tolist() == seconds


@pytest.mark.parametrize(("few", "many"), [(1, 1000), (1000, 1), (1, 10**6), (1, 10**9), (1000, 10**6)])
@pytest.mark.parametrize("at", [0, 57, 1500])
def test_two_units_in_one_column_are_refused(tmp_path, few, many, at):
    """at: where the few begin; beyond the first rows, of which the unit is told, too."""
    stamps = [(T + n) * (few if at <= n < at + 40 else many) for n in range(1600)]
    with pytest.raises(UserError, match=rf"e.csv line {at + 2}: .*timestamp.*data.timestamp_unit"):
        prepared(tmp_path, table(stamps))
    data = prepared(tmp_path, table(stamps), bad_rows="skip")
    assert data.n_interactions == 1560
    assert sum(n for name, n in data.manifest["counts"].items() if name.startswith("rows_rejected")) == 40


def test_a_missing_time_written_as_zero_is_found(tmp_path):
    stamps = [T + n for n in range(30)]
    stamps[4] = stamps[9] = 0
    with pytest.raises(UserError, match=r"line 6: timestamp 0 lies decades away from the rest.*as do 2 rows"):
        prepared(tmp_path, table(stamps))
    counts = prepared(tmp_path, table(stamps), bad_rows="skip").manifest["counts"]
    assert counts == {"rows_read": 30, "rows_rejected_time_far_from_the_rest": 2}


def test_a_log_outside_the_usual_years_is_warned_of(tmp_path, caplog):
    for stamps in (list(range(9)), [5_000_000_000 + n for n in range(9)]):
        caplog.clear()
        data = prepared(tmp_path, table(stamps))
        assert data.timestamps.tolist() == stamps
        assert f"9 rows of e.csv lie outside 1990 to {datetime.now(UTC).year + 1}" in caplog.text
    caplog.clear()
    prepared(tmp_path, table([T, T + 10**8]))
    assert "outside" not in caplog.text


@pytest.mark.parametrize(
    ("stamps", "first"),
    [
        (["20200914", "20200915"], "2020-09-14 00:00:00"),
        (["20200914150617", "20200915000000"], "2020-09-14 15:06:17"),
        (["202009141506", "202009150000"], "2020-09-14 15:06:00"),
        (["2020091415", "2020091500"], "2020-09-14 15:00:00"),
        (["20200914.0", "20200915.0"], "2020-09-14 00:00:00"),
    ],
)
def test_calendar_numbers_are_dates(tmp_path, stamps, first):
    data = prepared(tmp_path, table(stamps))
    assert str(datetime.fromtimestamp(data.timestamps[0], UTC))[:19] == first
    assert data.timestamps[1] > data.timestamps[0]


def test_calendar_numbers_of_parquet_and_a_false_one(tmp_path):
    pl.DataFrame({"user": "u", "item": ["a", "b"], "timestamp": [20200914, 20200915]}).write_parquet(
        tmp_path / "e.parquet"
    )
    data = prepare(TableConfig(path=str(tmp_path / "e.parquet"), k_core=0), tmp_path / "cache")
    assert np.diff(data.timestamps).tolist() == [86_400]
    with pytest.raises(UserError, match=r"line 22: no usable timestamp: 20200931"):
        prepared(tmp_path, table([20200901 + n for n in range(20)] + [20200931]))
    assert prepared(tmp_path, table(["20200914", "20200915"]), timestamp_unit="s").timestamps.tolist() == [
        20200914,
        20200915,
    ]


FORMATS = {
    "day first": ("14/09/2020 15:06", "%d/%m/%Y %H:%M", "2020-09-14T15:06:00"),
    "12 hours": ("09/14/2020 03:06:17 PM", "%m/%d/%Y %I:%M:%S %p", "2020-09-14T15:06:17"),
    "rfc": ("Mon, 14 Sep 2020 15:06:17 GMT", "rfc", "2020-09-14T15:06:17"),
    "rfc offset": ("Mon, 14 Sep 2020 15:06:17 +0200", "rfc", "2020-09-14T13:06:17"),
    "rfc by hand": ("Mon, 14 Sep 2020 15:06:17 GMT", "%a, %d %b %Y %H:%M:%S GMT", "2020-09-14T15:06:17"),
    "dots": ("14.09.2020", "%d.%m.%Y", "2020-09-14T00:00:00"),
    "fraction": ("14/09/2020 15:06:17.5", "%d/%m/%Y %H:%M:%S.%f", "2020-09-14T15:06:17"),
}


@pytest.mark.parametrize(("stamp", "form", "time"), FORMATS.values(), ids=FORMATS)
def test_a_format_may_be_given(tmp_path, stamp, form, time):
    data = prepared(tmp_path, table([stamp]), timestamp_format=form)
    assert data.timestamps.tolist() == [int(datetime.fromisoformat(time + "+00:00").timestamp())]


def test_dates_that_are_not_iso_are_refused_with_the_format_that_fits(tmp_path):
    with pytest.raises(
        UserError, match=r"line 2: no usable timestamp: 14/09/2020 15:06; .*data.timestamp_format='%d/%m/%Y %H:%M'"
    ):
        prepared(tmp_path, table(["14/09/2020 15:06", "01/10/2020 10:00"]))
    assert fitting_formats(pl.Series(["01/02/2020"])) == ["%d/%m/%Y", "%m/%d/%Y"]
    assert fitting_formats(pl.Series(["2020-01-02", "2020-01-02 10:00"])) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timestamp_format": "day first"}, "describes no date"),
        ({"timestamp_format": "%d/%m"}, "describes no date"),
        ({"timestamp_format": "%Y", "timestamp_unit": "s"}, "contradict each other"),
    ],
)
def test_formats_that_cannot_be_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, table([T]), **settings)


def test_the_unit_of_several_files_is_one(tmp_path):
    for name, factor in (("a.csv", 1), ("b.csv", 1000)):
        (tmp_path / name).write_text(table([(T + n) * factor for n in range(5)]))
    with pytest.raises(UserError, match=r"[ab].csv line 2: .*data.timestamp_unit"):
        prepare(TableConfig(path=[str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], k_core=0), tmp_path / "cache")


def test_what_is_far():
    span = Span()
    month = 30 * 86_400_000
    span.rows = {0: 1, 600: 50, 700: 50, 2000: 2}
    assert span.far() == ([0, 2000], [600, 700])
    assert Span().far() == ([], [])
    assert choose_clock(pl.Series(["1", ""]), "auto", None).unit == "s"
    assert month > 0


# Ids


@pytest.mark.parametrize("word", ["NaN", "NULL", "None", r"\N", "N/A", "null", "<NA>", "NA"])
@pytest.mark.parametrize("column", ["user", "item"])
def test_words_for_missing_are_counted_told_and_dropped_if_asked(tmp_path, caplog, word, column):
    ids = [word if n in (3, 5) else f"x{n}" for n in range(9)]
    content = table([T + n for n in range(9)], **{f"{column}s": ids})
    data = prepared(tmp_path, content)
    assert data.n_interactions == 9
    assert data.manifest["counts"][f"rows_{column}_like_missing"] == 2
    assert f"value as {column}, which counts as an id: 2, as {word} (2); first: e.csv line 5" in caplog.text
    dropped = prepared(tmp_path, content, missing_ids="drop")
    assert (dropped.n_interactions, dropped.manifest["counts"]["rows_read"]) == (7, 9)


def test_ids_that_differ_by_blanks_or_point_zero(tmp_path, caplog):
    content = table(
        [T + n for n in range(6)],
        users=["u", "u ", "\u00a0u", "v", "v", "w "],
        items=["1", "1.0", "2", "3.0", "4.5", "x.0"],
    )
    data = prepared(tmp_path, content)
    assert (data.n_users, data.n_items) == (5, 6)
    assert "users that differ from another only by blanks at their ends, and count as two: 2" in caplog.text
    assert (
        "items that differ from another only by .0 at their end, and count as two: 1, such as '1.0' and '1'"
        in caplog.text
    )
    tidy = prepared(tmp_path, content, tidy_ids=True)
    assert tidy.user_ids()["user_id"].sort().to_list() == ["u", "v", "w"]
    assert tidy.item_table()["item"].sort().to_list() == ["1", "2", "3", "4.5", "x.0"]


def test_ids_of_nothing_but_blanks_are_none_and_invisible_ones_are_told(tmp_path, caplog):
    with pytest.raises(UserError, match=r"line 2: no user"):
        prepared(tmp_path, table([T], users=["  "]))
    prepared(tmp_path, table([T, T + 1], users=["a\x07b", "a\u200bb"], items=["a\x00", "b"]))
    assert "of no width, in the user: 2; first: e.csv line 2: 'a\\x07b'" in caplog.text
    assert "of no width, in the item: 1" in caplog.text


def test_good_ids_are_not_talked_about(tmp_path, caplog):
    prepared(
        tmp_path,
        table([T + n for n in range(4)], users=["nancy", "Nadja", "a b", "10.05"], items=["nullable", "0", "-1", "é"]),
    )
    assert caplog.text == ""


def test_float_ids_of_parquet(tmp_path, caplog):
    frame = pl.DataFrame({"user": [1.0, None, float("nan"), 2.0], "item": [5, 6, 7, 8], "timestamp": [T, T, T, T]})
    frame.write_parquet(tmp_path / "e.parquet")
    config = TableConfig(path=str(tmp_path / "e.parquet"), k_core=0)
    with pytest.raises(UserError, match=r"e.parquet row 2: no user"):
        prepare(config, tmp_path / "cache")
    config.bad_rows = "skip"
    assert prepare(config, tmp_path / "cache").user_ids()["user_id"].sort().to_list() == ["1.0", "2.0"]
    config.tidy_ids = True
    assert prepare(config, tmp_path / "cache").user_ids()["user_id"].sort().to_list() == ["1", "2"]


# Ratings

RATED = "user,item,timestamp,rating\nu,a,5,4\nu,b,6,{}\nu,c,7,1\n"


@pytest.mark.parametrize("rating", ['"3,5"', "NaN", "five", "inf", "n/a"])
def test_a_rating_that_is_no_number_is_a_bad_row(tmp_path, rating):
    content, columns = RATED.format(rating), Columns(rating="rating")
    with pytest.raises(UserError, match=rf"e.csv line 3: no usable rating: {rating.strip(chr(34))}"):
        prepared(tmp_path, content, columns=columns)
    counts = prepared(tmp_path, content, columns=columns, bad_rows="skip", min_rating=2).manifest["counts"]
    assert counts == {"rows_read": 3, "rows_rejected_no_usable_rating": 1}


def test_a_row_without_a_rating_is_told_where_ratings_decide(tmp_path, caplog):
    data = prepared(tmp_path, RATED.format(""), columns=Columns(rating="rating"))
    assert (data.n_interactions, data.manifest["counts"]["rows_without_rating"]) == (3, 1)
    assert "rating" not in caplog.text
    assert prepared(tmp_path, RATED.format(""), columns=Columns(rating="rating"), min_rating=2).n_interactions == 1
    assert "rows without a rating, which go with data.min_rating: 1" in caplog.text


# Item tables


def with_items(folder: Path, items: str, caplog: pytest.LogCaptureFixture, **settings: object) -> PreparedData:
    caplog.set_level("INFO")
    (folder / "items.csv").write_text(items)
    columns = ItemColumns(title="title", price="price" if "price" in items else None)
    content = table([T + n for n in range(4)], items=["0", "1", "2", "3"])
    return prepared(folder, content, items_path=str(folder / "items.csv"), item_columns=columns, **settings)


def test_an_item_table_says_how_many_ids_matched(tmp_path, caplog):
    with_items(tmp_path, "item,title\n0,a\n1,b\n2,c\n9,z\n", caplog)
    assert "items.csv: 3 of the 4 items of the interactions are in it" in caplog.text
    with_items(tmp_path, "item,title\n0,a\n1.0,b\n", caplog)
    assert "1 of the 4 items of the interactions are in it (first there: 0, first of the interactions:" in caplog.text


def test_an_item_table_of_which_no_id_matches_is_refused(tmp_path, caplog):
    floats = "item,title\n0.0,a\n1.0,b\n2.0,c\n3.0,d\n"
    with pytest.raises(
        UserError,
        match=r"knows none of the 4 items .*\(first there: 0.0, first of the interactions: \d\); data.tidy_ids=true may",
    ):
        with_items(tmp_path, floats, caplog)
    assert with_items(tmp_path, floats, caplog, tidy_ids=True).has_text
    with pytest.raises(UserError, match=r"is data.item_columns.item the right column"):
        with_items(tmp_path, "item,title\nx,a\n", caplog)


def test_prices_that_are_no_numbers_are_counted(tmp_path, caplog):
    data = with_items(tmp_path, 'item,title,price\n0,a,$5\n1,b,cheap\n2,c,\n3,d,"1,000"\n', caplog)
    assert "prices that are no numbers, and count as unknown: 1; first: items.csv line 3: cheap" in caplog.text
    assert data.item_table().sort("item")["price"].to_list() == [5.0, None, None, 1000.0]
    with pytest.raises(UserError, match=r"items.csv line 3: no item"):
        with_items(tmp_path, "item,title\n0,a\n,b\n", caplog)
