"""The source for any table: formats, columns, units of time, and what it says about bad input."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from recbench.data.prepared import PreparedData
from recbench.data.sources.table import Columns, ItemColumns, TableConfig
from recbench.data.store import prepare
from recbench.errors import UserError

EVENTS = "user,item,timestamp\nu,b,2014-07-02T10:00:00Z\nu,a,2014-07-01\nv,a,2014-07-01 09:00\n"


def prepared(tmp_path: Path, content: str | bytes, name: str = "events.csv", **settings: object) -> PreparedData:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare(TableConfig(path=str(path), **{"k_core": 0, **settings}), tmp_path / "cache")  # type: ignore[arg-type]


def sequence(data: PreparedData, user: str) -> list[str]:
    items, users = data.item_table()["item"], data.user_ids()["user_id"].to_list()
    u = users.index(user)
    return [items[int(i) - 1] for i in data.items[data.offsets[u] : data.offsets[u + 1]]]


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("events.csv", str),
        ("events.csv.gz", lambda text: gzip.compress(text.encode())),
        ("events.tsv", lambda text: text.replace(",", "\t")),
        ("events.txt", lambda text: text.replace(",", "\t")),
        ("with_bom.csv", lambda text: b"\xef\xbb\xbf" + text.encode()),
        ("windows.csv", lambda text: text.replace("\n", "\r\n")),
        ("blank_lines.csv", lambda text: text.replace("\nv", "\n\nv") + "\n"),
    ],
)
def test_text_formats_read_alike(tmp_path, name, convert):
    data = prepared(tmp_path, convert(EVENTS), name)
    assert sequence(data, "u") == ["a", "b"]
    assert sequence(data, "v") == ["a"]
    assert data.has_timestamps
    assert not data.has_text
    assert data.manifest["counts"] == {"rows_read": 3}


def test_separator_may_be_given_and_ids_stay_text(tmp_path):
    data = prepared(tmp_path, "user;item;timestamp\n007;01;5\n007;1;6\n", separator=";")
    assert sequence(data, "007") == ["01", "1"]


def test_parquet_with_typed_columns(tmp_path):
    frame = pl.DataFrame({"user": [1, 1, 2], "item": [5, 6, 5], "timestamp": [3_000_000, 1_000_000, 2_000_000]})
    frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us"))).write_parquet(tmp_path / "source.parquet")
    data = prepared(tmp_path, (tmp_path / "source.parquet").read_bytes(), "events.parquet")
    assert sequence(data, "1") == ["6", "5"]
    assert sorted(data.timestamps.tolist()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("stamps", "unit", "seconds"),
    [
        (("1500000000", "1500000001"), "auto", [1500000000, 1500000001]),
        (("1500000000500", "1500000001000"), "auto", [1500000000, 1500000001]),
        (("1500000000000000", "1500000001000000"), "auto", [1500000000, 1500000001]),
        (("1500000000000000000", "1500000001000000000"), "auto", [1500000000, 1500000001]),
        (("1500000000.75", "1500000001.5"), "auto", [1500000000, 1500000001]),
        (("2017-07-14T02:40:00.9Z", "2017-07-14T04:40:01+02:00"), "auto", [1500000000, 1500000001]),
        (("100", "200"), "ms", [0, 0]),
        (("2017-07-14", "2017-07-15"), "iso", [1499990400, 1500076800]),
    ],
)
def test_units_of_time(tmp_path, stamps, unit, seconds):
    text = "user,item,timestamp\n" + "".join(f"u,{i},{stamp}\n" for i, stamp in zip("ab", stamps, strict=True))
    assert prepared(tmp_path, text, timestamp_unit=unit).timestamps.tolist() == seconds


def test_fractions_of_a_second_decide_the_order(tmp_path):
    data = prepared(tmp_path, "user,item,timestamp\nu,b,1500000000.75\nu,a,1500000000.25\n")
    assert sequence(data, "u") == ["a", "b"]


def test_sessions_and_behaviours(tmp_path):
    text = "user,item,timestamp,kind,visit\nu,a,1,view,x\nu,b,2,buy,x\nu,c,3,,y\n"
    data = prepared(tmp_path, text, columns=Columns(behaviour="kind", session="visit"))
    assert data.behaviours is not None
    assert data.sessions is not None
    assert data.behaviours.tolist() == [2, 1, 0]
    assert data.sessions.tolist() == [0, 0, 1]
    assert data.manifest["behaviours"] == ["buy", "view"]


def test_a_session_stands_for_a_user_and_the_file_for_the_clock(tmp_path):
    data = prepared(
        tmp_path, "visit,item\ns,b\nt,a\ns,a\ns,b\n", columns=Columns(user=None, session="visit", timestamp=None)
    )
    assert sequence(data, "s") == ["b", "a", "b"]
    assert not data.has_timestamps
    assert data.has_repeats


def test_items_take_their_text_from_the_item_table(tmp_path):
    (tmp_path / "items.csv").write_text('sku,name,groups,cost\na,Apple,x|y,"$1,200.50"\na,Copy,,\nunused,Q,,\n')
    columns = ItemColumns(item="sku", title="name", categories="groups", price="cost")
    data = prepared(tmp_path, EVENTS, items_path=str(tmp_path / "items.csv"), item_columns=columns)
    rows = {row["item"]: row for row in data.item_table().iter_rows(named=True)}
    assert rows.keys() == {"a", "b"}
    assert (rows["a"]["title"], rows["a"]["categories"], rows["a"]["price"]) == ("Apple", ["x", "y"], 1200.5)
    assert rows["b"]["title"] is None
    assert data.has_text


ROWS = {
    "no user": ("u,a,1\n,b,2\n", "events.csv line 3: no user; mend it, or set data.bad_rows=skip"),
    "no item": ("u,a,1\nu,,2\n", "events.csv line 3: no item"),
    "no timestamp": ("u,a,1\nu,b,\n", "events.csv line 3: no timestamp"),
    "NaN": ("u,a,1\nu,b,NaN\n", "events.csv line 3: no usable timestamp: NaN"),
    "text for a time": ("u,a,1\nu,b,noon\n", "events.csv line 3: no usable timestamp: noon"),
    "short row": ("u,a,1\nu\n", "events.csv line 3: no item"),
}


@pytest.mark.parametrize(("rows", "message"), ROWS.values(), ids=ROWS)
def test_a_bad_row_is_named_or_counted(tmp_path, rows, message):
    text = "user,item,timestamp\n" + rows
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, text)
    data = prepared(tmp_path, text, bad_rows="skip")
    assert data.n_interactions == 1
    counts = data.manifest["counts"]
    assert counts.pop("rows_read") == 2
    assert list(counts.values()) == [1]


def test_a_time_in_another_unit_than_it_claims_is_refused(tmp_path):
    with pytest.raises(UserError, match="line 2: no usable timestamp: 1500000000123"):
        prepared(tmp_path, "user,item,timestamp\nu,a,1500000000123\n", timestamp_unit="s")


FILES = {
    "misspelt column": (
        "usr,item,timestamp\nu,a,1\n",
        {},
        r"data.columns.user=user is not a column .* did you mean 'usr'",
    ),
    "no clock": ("user,item\nu,a\n", {}, r"timestamp=timestamp is not a column .*set data.columns.timestamp=null"),
    "ragged": ("user,item,timestamp\nu,a,1,2\n", {}, "cannot be read as a table: found more fields"),
    "empty": ("", {}, "cannot be read as a table: empty CSV"),
    "header only": ("user,item,timestamp\n", {}, "after the step 'read'.*no usable row"),
    "not UTF-8": (b"user,item,timestamp\n\xff,a,1\n", {}, "cannot be read as a table: invalid utf-8"),
    "unit": (EVENTS, {"timestamp_unit": "sec"}, "timestamp_unit=sec is not known; choose one of: auto, s, ms"),
    "separator": (EVENTS, {"separator": "::"}, "must be a single character"),
    "nothing groups": (EVENTS, {"columns": Columns(user=None)}, "user and data.columns.session are both null"),
}


@pytest.mark.parametrize(("text", "settings", "message"), FILES.values(), ids=FILES)
def test_bad_files_and_settings_are_one_clear_line(tmp_path, text, settings, message):
    with pytest.raises(UserError, match=message) as raised:
        prepared(tmp_path, text, **settings)
    assert "\n" not in str(raised.value)


def test_bad_names_of_files(tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    with pytest.raises(UserError, match=r"there is no file .*event.csv; did you mean 'events.csv'"):
        prepare(TableConfig(path=str(tmp_path / "event.csv")), tmp_path / "cache")
    with pytest.raises(UserError, match=r"data.path is missing"):
        prepare(TableConfig(), tmp_path / "cache")
    with pytest.raises(UserError, match=r"events.xls: data.path must end in .parquet, .csv"):
        prepared(tmp_path, EVENTS, "events.xls")
    with pytest.raises(UserError, match=r"cannot be read as a table: parquet"):
        prepared(tmp_path, b"PAR1nonsense", "events.parquet")


def test_a_gzip_file_cut_short_says_how_much_is_readable(tmp_path):
    text = "user,item,timestamp\n" + "".join(f"u{n},i{n * 7919 % 1000},{n}\n" for n in range(5000))
    with pytest.raises(UserError, match=r"events.csv.gz is cut short: \d,\d{3} rows can be read"):
        prepared(tmp_path, gzip.compress(text.encode())[:-3000], "events.csv.gz")
