"""Rows of text tables never vanish: quotes, ragged rows, encodings, separators, packings, several files."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.sources import raw_lines, text_fields
from recbench.data.sources.separators import guess, typed
from recbench.data.sources.table_config import Columns, ItemColumns, TableConfig
from recbench.data.store import prepare

ROWS = [(f"u{n % 7}", f"i{n % 5}", 1_600_000_000 + n) for n in range(60)]


def text(separator: str = ",", header: str = "user,item,timestamp", note: str | None = None) -> str:
    more = "" if note is None else separator + note
    head = header.replace(",", separator) + ("" if note is None else f"{separator}note")
    return head + "\n" + "".join(f"{u}{separator}{i}{separator}{t}{more}\n" for u, i, t in ROWS)


def prepared(folder: Path, content: str | bytes, name: str = "e.csv", **settings: object) -> PreparedData:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare(TableConfig(path=str(folder / name), **{"k_core": 0, **settings}), folder / "cache")  # type: ignore[arg-type]


@pytest.fixture
def plain(tmp_path: Path) -> str:
    (tmp_path / "plain").mkdir()
    return prepared(tmp_path / "plain", text()).fingerprint


# Quotes and rows

QUOTES = {
    "inches": ('12" vinyl', "as text"),
    "starts only": ('"odd', "as text"),
    "ends only": ('odd"', None),
    "whole": ('"a, b"', None),
    "doubled": ('"say ""hi"" twice"', None),
    "garbage behind": ('"a" b', None),
}


@pytest.mark.parametrize(("note", "warning"), QUOTES.values(), ids=QUOTES)
@pytest.mark.parametrize("every", [1, 9, 59])
def test_a_quote_swallows_no_row(tmp_path, plain, caplog, note, warning, every):
    lines = text(note="ok").splitlines(keepends=True)
    lines = [line.replace(",ok", f",{note}") if n % every == 1 % every and n else line for n, line in enumerate(lines)]
    data = prepared(tmp_path, "".join(lines))
    assert data.manifest["counts"] == {"rows_read": 60}
    assert data.fingerprint == plain
    if warning and note != '12" vinyl':
        assert warning in caplog.text


def test_a_quoted_field_may_run_over_lines_and_over_blocks(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(raw_lines, "BLOCK_BYTES", 64)
    note = '"first\nsecond ""line"", with a comma and more words than there are columns, really\n\nlast"'
    data = prepared(tmp_path, text(note="ok").replace(",ok", f",{note}", 7))
    assert data.fingerprint == plain
    with pytest.raises(UserError, match=r"e.csv line 14: too many fields: 5, not 4"):  # lines are still counted right
        prepared(tmp_path, text(note="ok").replace(",ok", ',"a\nb"', 5).replace("i2,1600000007", "i2,1600000007,x"))


def test_a_quote_that_never_closes_is_text_or_named(tmp_path):
    opened = text(note="ok").replace("u3,i3,1600000003,ok", 'u3,i3,1600000003,"ok')
    assert prepared(tmp_path, opened).manifest["counts"]["rows_read"] == 60
    with pytest.raises(UserError, match=r"e.csv line 5: a quote that is not closed.*data.quote=null"):
        prepared(tmp_path, opened, quote='"')
    skipped = prepared(tmp_path, opened, quote='"', bad_rows="skip")
    assert skipped.manifest["counts"] == {
        "rows_read": 60,
        "rows_rejected_a_quote_that_is_not_closed": 1,
    }


def test_quotes_may_be_no_quotes_or_others(tmp_path):
    data = prepared(tmp_path, 'user,item,timestamp\n"u,a"x,5\n', quote=None)
    assert data.user_ids()["user_id"].to_list() == ['"u']
    data = prepared(tmp_path, "user,item,timestamp\n'u,1','a\nb',5\n", quote="'")
    assert (data.user_ids()["user_id"].to_list(), data.item_table()["item"].to_list()) == (["u,1"], ["a\nb"])


@pytest.mark.parametrize(
    ("row", "reason"), [("u,a,5,x", "too many fields: 4, not 3"), ("u,a", "too few fields: 2, not 3")]
)
def test_ragged_rows_name_their_line_or_are_counted(tmp_path, row, reason, caplog):
    content = text().replace("u3,i3,1600000003", row, 1)
    with pytest.raises(UserError, match=f"e.csv line 5: {reason}"):
        prepared(tmp_path, content)
    counts = prepared(tmp_path, content, bad_rows="skip").manifest["counts"]
    assert counts == {"rows_read": 60, f"rows_rejected_{reason.split(':')[0].replace(' ', '_')}": 1}
    assert f"rows dropped: 1 ({reason.split(':')[0]} 1); first: e.csv line 5" in caplog.text


def test_separators_alone_are_a_row(tmp_path):
    with pytest.raises(UserError, match="line 62: no user"):
        prepared(tmp_path, text() + ",,\n")


def test_blocks_with_and_without_a_fault_give_the_same_rows(tmp_path, monkeypatch):
    frames = []
    for size in (16 << 20, 40, 300):
        monkeypatch.setattr(raw_lines, "BLOCK_BYTES", size)
        (tmp_path / str(size)).mkdir()
        content = text(note="ok").replace("u5,i0,1600000005,ok", 'u5,i0,1600000005,"x\ny"').replace("\nu2", "\n\nu2")
        frames.append(prepared(tmp_path / str(size), content).fingerprint)
    assert len(set(frames)) == 1


def test_an_item_table_loses_no_row_either(tmp_path):
    (tmp_path / "items.tsv").write_text('item\ttitle\ni0\t12" vinyl\ni1\t"start only\ni2\tb\textra\ni3\tc\ni4\td\n')
    settings = {"items_path": str(tmp_path / "items.tsv"), "item_columns": ItemColumns(title="title")}
    with pytest.raises(UserError, match=r"items.tsv line 4: too many fields: 3, not 2"):
        prepared(tmp_path, text(), **settings)
    data = prepared(tmp_path, text(), bad_rows="skip", **settings)
    titles = dict(data.item_table().select("item", "title").iter_rows())
    assert titles == {"i0": '12" vinyl', "i1": '"start only', "i2": None, "i3": "c", "i4": "d"}


def test_a_quoted_field_among_lines_that_look_like_rows_is_not_guessed(tmp_path):
    content = 'user,item,timestamp\nu,"a,1\nv,b,2\nw c\nx,d",3\n'
    with pytest.raises(UserError, match=r"e.csv line 2: "):
        prepared(tmp_path, content)


def test_csv_of_the_standard_library_agrees(tmp_path):
    """Against ``csv`` on files that keep the rules of quoting."""
    import csv
    import io
    import random

    random.seed(3)
    for _ in range(30):
        out = io.StringIO()
        writer = csv.writer(
            out, lineterminator=random.choice(["\n", "\r\n"]), quoting=random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        )
        rows = [["".join(random.choices('ab,"é \n', k=5)) + f"{n}" for _ in range(4)] for n in range(15)]
        writer.writerows([["user", "item", "x", "y"], *rows])
        (tmp_path / "e.csv").write_bytes(out.getvalue().encode())
        from recbench.data.sources.raw_lines import BadRows, RawText
        from recbench.data.sources.text_table import TextFormat, TextTable

        table = TextTable(RawText(tmp_path / "e.csv"), TextFormat(",", quote='"'))
        found = pl.concat(list(table.batches(["user", "item", "x", "y"], BadRows("error"), 50)))
        assert [list(row) for row in found.drop("line").iter_rows()] == [
            [cell.replace("\r\n", "\n") for cell in row] for row in rows
        ]


# Encodings


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "gbk", "utf-8-sig"])
def test_an_encoding_may_be_named(tmp_path, encoding):
    word = "中" if encoding == "gbk" else "é"
    data = prepared(tmp_path, text().replace("i3", word).encode(encoding), encoding=encoding)
    assert word in data.item_table()["item"].to_list()
    assert data.manifest["counts"]["rows_read"] == 60


OTHERS = {
    "latin-1": (
        lambda s: s.encode("latin-1"),
        r"e.csv line 5: not UTF-8: byte 0xe9, number 4 of the line \(data.encoding=latin-1",
    ),
    "cp1252": (lambda s: s.replace("é", "“").encode("cp1252"), "line 5: not UTF-8: byte 0x93.*data.encoding=cp1252"),
    "utf-16": (lambda s: s.encode("utf-16"), "e.csv line 1: byte 0xff, number 1 .*data.encoding=utf-16"),
    "utf-16-be": (lambda s: s.encode("utf-16-be"), "e.csv line 1: byte 0x00, number 1 .*data.encoding=utf-16-be"),
}


@pytest.mark.parametrize(("convert", "message"), OTHERS.values(), ids=OTHERS)
def test_text_in_another_encoding_names_line_byte_and_key(tmp_path, convert, message):
    content = convert(text().replace("i3", "é"))
    with pytest.raises(UserError, match=message) as raised:
        prepared(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_a_wrong_encoding_and_a_name_that_is_none_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.encoding=utf-9 is not known"):
        prepared(tmp_path, text(), encoding="utf-9")
    with pytest.raises(UserError, match=r"line \d+: this is not (utf-16|ascii)"):
        prepared(tmp_path, text().encode() + b"x", encoding="utf-16")


# Separators


@pytest.mark.parametrize(
    ("separator", "key"),
    [
        ("\t", r"\t"), ("\t", "tab"), ("::", "::"), ("||", "||"), (";", "semicolon"), ("|", "pipe"), ("  ", r"\s+"), (" ", "space"),
        ("¦", "¦"), ("\t", None), (";", None), ("|", None), ("::", None), (" ", None), ("   ", None),
    ],
)  # fmt: skip
def test_separators_are_typed_or_guessed(tmp_path, plain, caplog, separator, key):
    caplog.set_level("INFO")
    data = prepared(tmp_path, text(separator), "e.dat", separator=key)
    assert data.fingerprint == plain
    assert ("taking" in caplog.text and "data.separator" in caplog.text) or key is not None


def test_without_a_header_it_is_guessed_by_what_is_regular(tmp_path, plain):
    content = text("::").split("\n", 1)[1]
    numbers = Columns("1", "2", "3")
    assert prepared(tmp_path, content, "ratings.dat", header=False, columns=numbers).fingerprint == plain
    european = text(";", note="3,5").split("\n", 1)[1]
    assert prepared(tmp_path, european, header=False, columns=numbers).fingerprint == plain


def test_a_wrong_separator_names_the_key(tmp_path):
    with pytest.raises(UserError, match=r"the first line holds ';': data.separator=\"';'\""):
        prepared(tmp_path, text(";"), separator=",")
    with pytest.raises(UserError, match=r"columns are cut at .* data.separator"):
        prepared(tmp_path, text("~"))
    for wrong in ("", "\n"):
        with pytest.raises(UserError, match="cannot separate columns"):
            typed(wrong)


def test_an_excel_hint_names_the_separator(tmp_path, plain):
    assert prepared(tmp_path, "sep=;\n" + text(";")).fingerprint == plain


def test_guesses():
    assert guess(["a\tb", "1\t2"], None, True) == "\t"
    assert guess(["user,item", "a b,c"], ",", True) == ","
    assert guess(['"x,y";b', '"1,2";3'], ",", False) == ";"


# Endings, packings, several files


@pytest.mark.parametrize(
    ("name", "pack"),
    [("e.csv.gz", gzip.compress), ("e.csv.bz2", bz2.compress), ("e.csv.xz", lzma.compress), ("e.csv", gzip.compress), ("e.log", bytes), ("e", bytes)],
)  # fmt: skip
def test_packed_text_and_any_ending_read_alike(tmp_path, plain, name, pack):
    assert prepared(tmp_path, pack(text().encode()), name).fingerprint == plain


def test_a_zip_of_one_file_is_read_and_one_of_several_asks_which(tmp_path, plain):
    path = tmp_path / "e.zip"
    for members in (["a/e.csv", "__MACOSX/._e.csv"], ["a/e.csv", "b.csv"]):
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, text() if member == "a/e.csv" else "x")
        config = TableConfig(path=str(path), k_core=0)
        if len(members) == 2 and members[1] == "b.csv":
            with pytest.raises(
                UserError, match=r"holds 2 files \(a/e.csv, b.csv\); name one, as in data.path=.*e.zip/a/e.csv"
            ):
                prepare(config, tmp_path / "cache")
            config.path = f"{path}/a/e.csv"
        assert prepare(config, tmp_path / "cache").fingerprint == plain


def test_a_bz2_cut_short_is_told(tmp_path):
    with pytest.raises(UserError, match=r"e.csv.bz2 is cut short or damaged"):
        prepared(tmp_path, bz2.compress(text().encode())[:-20], "e.csv.bz2")


def test_several_files_are_one_table(tmp_path, plain):
    head, *rows = text().splitlines(keepends=True)
    for part in range(3):
        (tmp_path / f"part-{part}.csv").write_text(head + "".join(rows[20 * part : 20 * part + 20]))
    names = [str(tmp_path / f"part-{part}.csv") for part in range(3)]
    found = {
        prepare(TableConfig(path=path, k_core=0), tmp_path / "cache").fingerprint
        for path in (names, str(tmp_path / "part-*.csv"))
    }
    assert found == {plain}
    with pytest.raises(UserError, match=r"names .*part-0.csv twice"):
        prepare(TableConfig(path=[names[0], names[0]]), tmp_path / "cache")
    with pytest.raises(UserError, match=r"data.path: no file fits .*nothing-\*"):
        prepare(TableConfig(path=str(tmp_path / "nothing-*")), tmp_path / "cache")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "part-0.csv").write_text(head)
    with pytest.raises(UserError, match="is a folder; name the files in it"):
        prepare(TableConfig(path=str(tmp_path / "texts")), tmp_path / "cache")


def test_the_typed_headers_of_recbole_are_read_as_they_are(tmp_path, plain):
    content = text("\t", "user_id:token,item_id:token,timestamp:float")
    for columns in (
        Columns(),
        Columns("user_id", "item_id"),
        Columns("user_id:token", "item_id:token", "timestamp:float"),
    ):
        assert prepared(tmp_path, content, "toy.inter", columns=columns).fingerprint == plain


def test_json_lines(tmp_path, plain):
    lines = "".join(f'{{"user": "{u}", "item": "{i}", "timestamp": {t}, "tags": ["a", "b"]}}\n' for u, i, t in ROWS)
    assert prepared(tmp_path, lines, "e.jsonl").fingerprint == plain
    with pytest.raises(UserError, match=r"e.jsonl line 3: no JSON object"):
        prepared(tmp_path, lines.replace("}\n{", "}\n\n[", 1), "e.jsonl")
    (tmp_path / "items.jsonl").write_text('{"item": "i0", "title": "x", "tags": ["a", "b"]}\n{"item": "i1"}\n')
    data = prepared(
        tmp_path,
        text(),
        items_path=str(tmp_path / "items.jsonl"),
        item_columns=ItemColumns(title="title", categories="tags"),
    )
    rows = {row["item"]: (row["title"], row["categories"]) for row in data.item_table().iter_rows(named=True)}
    assert (rows["i0"], rows["i1"]) == (("x", ["a", "b"]), (None, None))


def test_lines_of_an_old_macintosh(tmp_path, plain):
    assert prepared(tmp_path, text().replace("\n", "\r")).fingerprint == plain


def test_a_name_that_two_columns_bear_is_refused(tmp_path):
    with pytest.raises(UserError, match="several columns called 'timestamp'"):
        prepared(tmp_path, "user,item,timestamp,timestamp\nu,a,5,6\n")
    assert prepared(tmp_path, "user,item,timestamp,x,x\nu,a,5,6,7\n").n_interactions == 1
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(["u"])] * 3, names=["user", "item", "user"]), tmp_path / "e.parquet")
    with pytest.raises(UserError, match="has two columns called 'user'"):
        prepare(TableConfig(path=str(tmp_path / "e.parquet")), tmp_path / "cache")


def test_what_older_rules_prepared_is_read_anew(tmp_path):
    import json

    first = prepared(tmp_path, text())
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert manifest["reading"] == 2
    for stored in ({**manifest, "fingerprint": "0" * 32}, {**manifest, "fingerprint": "0" * 32, "reading": 1}):
        (first.folder / "manifest.json").write_text(json.dumps(stored))
        again = prepared(tmp_path, text())
        assert again.folder == first.folder
        assert again.fingerprint == ("0" * 32 if stored["reading"] == 2 else first.fingerprint)


def test_most_lines_bounds_the_search_for_the_end_of_a_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(text_fields, "MOST_LINES", 3)
    content = text(note="ok").replace("u3,i3,1600000003,ok", 'u3,i3,1600000003,"ok' + "\nx" * 10 + '"')
    with pytest.raises(UserError, match="line 6: too few fields"):
        prepared(tmp_path, content)
