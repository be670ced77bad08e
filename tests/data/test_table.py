"""The source for any table: formats, columns, units of time, and what it says about bad input."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.config.compose import compose
from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.prepared import PreparedData
from recbench.data.schema import PATH_ONLY, content_settings
from recbench.data.sources.table_config import Columns, ItemColumns, TableConfig
from recbench.data.store import folder_name, prepare
from recbench.experiment import key
from recbench.experiment.context import RunContext
from recbench.experiment.key import run_key

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
    "short row": ("u,a,1\nu\n", "events.csv line 3: too few fields: 1, not 3"),
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
    "ragged": ("user,item,timestamp\nu,a,1,2\n", {}, "events.csv line 2: too many fields: 4, not 3"),
    "empty": ("", {}, "cannot be read as a table: the file is empty"),
    "header only": ("user,item,timestamp\n", {}, "after the step 'read'.*no usable row"),
    "not UTF-8": (b"user,item,timestamp\n\xff,a,1\n", {}, "line 2: not UTF-8: byte 0xff.*data.encoding=latin-1"),
    "unit": (EVENTS, {"timestamp_unit": "sec"}, "timestamp_unit=sec is not known; choose one of: auto, s, ms"),
    "separator": (EVENTS, {"separator": "::"}, "the first line holds ',': data.separator="),
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
    with pytest.raises(UserError, match=r"events.xls: data.path must be text \(such as .csv"):
        prepared(tmp_path, EVENTS, "events.xls")
    with pytest.raises(UserError, match=r"cannot be read as a table: parquet"):
        prepared(tmp_path, b"PAR1nonsense", "events.parquet")


def test_a_gzip_file_cut_short_says_how_much_is_readable(tmp_path):
    text = "user,item,timestamp\n" + "".join(f"u{n},i{n * 7919 % 1000},{n}\n" for n in range(5000))
    with pytest.raises(UserError, match=r"events.csv.gz is cut short: \d,\d{3} rows can be read"):
        prepared(tmp_path, gzip.compress(text.encode())[:-3000], "events.csv.gz")


# Without a header

NUMBERED = Columns(user="1", item="2", timestamp=None)


@pytest.mark.parametrize(
    ("name", "separator", "convert"),
    [
        ("events.csv", None, lambda text: text.replace(" ", ",").encode()),
        ("events.tsv", None, lambda text: text.replace(" ", "\t").encode()),
        ("events.txt", None, lambda text: text.replace(" ", "\t").encode()),
        ("events.txt", " ", str.encode),
        ("events.txt.gz", " ", lambda text: gzip.compress(text.encode())),
        ("windows.txt", " ", lambda text: text.replace("\n", "\r\n").encode()),
        ("blank_lines.txt", " ", lambda text: text.replace("\n2", "\n\n2").encode() + b"\n"),
        ("no_end.txt", " ", lambda text: text.removesuffix("\n").encode()),
        ("with_bom.txt", " ", lambda text: b"\xef\xbb\xbf" + text.encode()),
    ],
)
def test_columns_of_a_file_without_a_header_have_numbers(tmp_path, name, separator, convert):
    content = convert("1 8\n1 7\n2 7\n1 9\n")
    data = prepared(tmp_path, content, name, header=False, columns=NUMBERED, separator=separator)
    assert sequence(data, "1") == ["8", "7", "9"]
    assert sequence(data, "2") == ["7"]
    assert not data.has_timestamps
    assert data.manifest["counts"] == {"rows_read": 4}


def test_any_column_may_be_asked_for_by_its_number(tmp_path):
    text = "20,x,u,4.5,a\n10,y,u,1.0,b\n30,z,u,5.0,c\n"
    columns = Columns(user="3", item="5", timestamp="1", rating="4")
    data = prepared(tmp_path, text, header=False, columns=columns, min_rating=2.0)
    assert sequence(data, "u") == ["a", "c"]
    assert data.timestamps.tolist() == [20, 30]


def test_the_first_row_of_a_file_without_a_header_is_line_one(tmp_path):
    with pytest.raises(UserError, match=r"events.csv line 1: no item"):
        prepared(tmp_path, "u,\nu,b\n", header=False, columns=NUMBERED)
    with pytest.raises(UserError, match=r"events.csv line 3: too few fields: 1, not 2"):
        prepared(tmp_path, "u,a\n\nu\n", header=False, columns=NUMBERED)


def test_an_item_table_follows_the_header_key_or_its_own(tmp_path):
    bare, named, parquet = (tmp_path / name for name in ("bare.csv", "named.csv", "named.parquet"))
    bare.write_text("a,Apple\n")
    named.write_text("sku,name\na,Apple\n")
    pl.read_csv(named).write_parquet(parquet)
    by_number, by_name = ItemColumns(item="1", title="2"), ItemColumns(item="sku", title="name")
    for path, items_header, item_columns in (
        (bare, None, by_number),
        (bare, False, by_number),
        (named, True, by_name),
        (parquet, None, by_name),
    ):
        data = prepared(
            tmp_path,
            "u,a\n",
            header=False,
            columns=NUMBERED,
            items_path=str(path),
            items_header=items_header,
            item_columns=item_columns,
        )
        assert data.item_table()["title"].to_list() == ["Apple"]
    headed = {"items_path": str(bare), "items_header": False, "item_columns": by_number}
    assert prepared(tmp_path, EVENTS, **headed).has_text


HEADERLESS = {
    "names": ("u,a\n", {"columns": Columns(timestamp=None)}, r"columns.user=user is not a column of .*; known: 1, 2"),
    "number": ("u,a\n", {"columns": Columns("1", "3", None)}, r"columns.item=3 is not a column of .*; known: 1, 2$"),
    "clock": ("u,a\n", {"columns": Columns("1", "2", "3")}, r"known: 1, 2 \(or set data.columns.timestamp=null"),
    "header": (
        EVENTS,
        {"header": True, "columns": NUMBERED},
        r"columns.user=1 is not .*without a header: data.header=f",
    ),
    "ragged": ("u,a\nu,a,b\n", {"columns": NUMBERED}, "events.csv line 2: too many fields: 3, not 2"),
    "empty": ("", {"columns": NUMBERED}, "cannot be read as a table: the file is empty"),
}


@pytest.mark.parametrize(("text", "settings", "message"), HEADERLESS.values(), ids=HEADERLESS)
def test_slips_with_files_without_a_header_are_one_clear_line(tmp_path, text, settings, message):
    with pytest.raises(UserError, match=message) as raised:
        prepared(tmp_path, text, **{"header": False, **settings})
    assert "\n" not in str(raised.value)


def test_a_parquet_file_always_has_names(tmp_path):
    pl.DataFrame({"1": ["u"], "2": ["a"]}).write_parquet(tmp_path / "source.parquet")
    content = (tmp_path / "source.parquet").read_bytes()
    with pytest.raises(UserError, match=r"is a Parquet file, which names its columns; header=false is for text files"):
        prepared(tmp_path, content, "events.parquet", header=False, columns=NUMBERED)
    assert prepared(tmp_path, content, "events.parquet", columns=NUMBERED).n_interactions == 1


def test_numbers_in_a_first_line_that_is_taken_for_a_header_are_pointed_out(tmp_path, caplog):
    prepared(tmp_path, "1,2\nu,a\n", columns=NUMBERED)
    assert "events.csv: the first line is taken for names of columns; if it is data: data.header=false" in caplog.text
    caplog.clear()
    prepared(tmp_path, EVENTS)
    prepared(tmp_path, "1,2\n", header=False, columns=NUMBERED)
    assert "first line" not in caplog.text


def test_the_command_line_takes_numbers_and_a_blank(compose):
    words = ["data.path=x.txt", "data.header=false", "data.columns.user=1", "data.columns.item=2"]
    config = RunConfig.from_hydra(compose("data=table", *words, "data.columns.timestamp=null", "data.separator=' '"))
    assert config.data == TableConfig(path="x.txt", header=False, separator=" ", columns=NUMBERED)


# Keys of what was prepared and trained before there was a key for the header


def test_prepared_tables_keep_their_names(tmp_path):
    """The names are those that the code gave before the fields ``header`` and ``items_header`` came."""
    files = {"interactions.csv": {"sha256": "00"}}
    assert folder_name(TableConfig(path="a/events.csv"), files) == "table-events-3099225d3dcc6828"
    other = TableConfig(path="a/events.csv", columns=Columns(user="u"), k_core=0)
    assert folder_name(other, files) == "table-events-3d026067e2554d21"
    changed = [TableConfig(path="a/events.csv", **{key: False}) for key in ("header", "items_header")]
    assert len({folder_name(config, files) for config in (TableConfig(path="a/events.csv"), *changed)}) == 3


def test_runs_on_tables_keep_their_keys(tmp_path, compose, monkeypatch):
    """A run knows its data by their fingerprint alone, so no field of a data config enters its key."""
    monkeypatch.setattr(key, "RESULTS_VERSION", 1)
    events = "".join(f"u{n % 3},i{n % 5},{n}\n" for n in range(30))
    (tmp_path / "events.csv").write_text("user,item,timestamp\n" + events)
    (tmp_path / "bare.csv").write_text(events)
    words = ["model=popularity", "data=table", "data.k_core=0", f"cache_dir={tmp_path / 'cache'}"]
    numbered = ["data.header=false", *(f"data.columns.{n}={i}" for i, n in enumerate(("user", "item", "timestamp"), 1))]
    for more, name in (([], "events.csv"), (numbered, "bare.csv")):
        config = RunConfig.from_hydra(compose(*words, f"data.path={tmp_path / name}", *more))
        stage = RunContext.of(config)
        assert stage.data.fingerprint == "e8429ad4ee75ef37705dd7efdd5ecb45"
        assert run_key(config, stage) == "popularity-9647975d0853"
        if name == "events.csv":
            assert stage.data.folder.name == "table-events-90bf2cd838afcb51"


def test_settings_that_came_later_are_told_only_where_they_say_something():
    @dataclass
    class Part:
        width: int = 8
        rates: list[float] = field(default_factory=list, metadata=LATER)

    @dataclass
    class Whole:
        place: str = field(default="here", metadata=PATH_ONLY)
        part: Part = field(default_factory=Part)
        whole: Part = field(default_factory=Part, metadata=LATER)
        deep: bool = field(default=True, metadata=LATER)

    assert content_settings(Whole()) == {"part": {"width": 8}}
    changed = Whole("there", Part(rates=[0.1]), Part(9), False)
    assert content_settings(changed) == {"part": {"width": 8, "rates": [0.1]}, "whole": {"width": 9}, "deep": False}
    assert content_settings(TableConfig(header=False))["header"] is False


# Real files


def test_the_1m_sequences_that_papers_use(shared_data, tmp_path):
    path = shared_data / "movielens" / "ml-1m" / "ml-1m.txt.gz"
    if not path.is_file():
        pytest.skip("ml-1m.txt.gz is not in ../shared/data")
    config = TableConfig(path=str(path), header=False, separator=" ", columns=NUMBERED, k_core=0)
    data = prepare(config, tmp_path)
    assert (data.n_interactions, data.n_users, data.n_items) == (999_611, 6_040, 3_416)
    expected: dict[str, list[str]] = {}
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        user, item = line.split(" ")
        expected.setdefault(user, []).append(item)
    names = np.array(["", *data.item_table()["item"]])
    found = np.split(names[data.items], data.offsets[1:-1])
    assert dict(zip(data.user_ids()["user_id"], (part.tolist() for part in found), strict=True)) == expected


def test_the_1m_ratings_with_recovered_times(shared_data, tmp_path):
    folder = shared_data / "movielens" / "ml-1m"
    if not (folder / "ml-1m_ratings_recovered.csv.gz").is_file():
        pytest.skip("ml-1m_ratings_recovered.csv.gz is not in ../shared/data")
    path = str(folder / "ml-1m_ratings_recovered.csv.gz")
    data = prepare(TableConfig(path=path, columns=Columns(timestamp="ts_est", rating="rating"), k_core=5), tmp_path)
    steps = {step["step"]: (step["rows"], step["users"], step["items"]) for step in data.manifest["cleaning"]}
    assert steps["read"] == (1_000_209, 6_040, 3_706)
    assert steps["k_core"] == (999_611, 6_040, 3_416)
    assert data.manifest["first_date"][:4] == "2000"


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["data.parts.train=baby/train.txt.gz", "data.parts.test=baby/test.txt.gz"], "table baby"),
        (["data.parts.train=train.csv", "data.parts.test=test.csv"], "table train"),
        (["data.path=shop/events.csv"], "table events"),
    ],
)
def test_tables_of_results_tell_parts_of_one_name_by_their_folder(words, title):
    config = compose(["model=popularity", "data=table", *words])
    assert config.data.title() == title
