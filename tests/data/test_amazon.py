"""The Amazon source: all three releases, real files, downloads, and what can be wrong with them."""

import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data import download
from recbench.data.prepared import PreparedData
from recbench.data.sources import raw_lines
from recbench.data.sources.amazon import AmazonConfig, locate
from recbench.data.store import prepare
from tests.fixtures.ports import free_port

GOOD = {
    "reviewerID": "A1",
    "asin": "B1",
    "overall": 5.0,
    "unixReviewTime": 1393545600,
    "vote": "3",
    "style": {"Size:": "L"},
}


def lines(*changes: dict) -> str:
    """Reviews of the 2014 and 2018 form; a change to None takes the field away."""
    rows = [{k: v for k, v in {**GOOD, **change}.items() if v is not None} for change in changes]
    return "".join(json.dumps(row) + "\n" for row in rows)


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" and isinstance(text, str) else data)
    return path


def reviews(tmp_path: Path, text: str | bytes, **settings: object) -> PreparedData:
    """Prepare a hand-made 2018 file without filters."""
    put(tmp_path / "raw" / "Toys_and_Games_5.json.gz", text)
    return prepare(toys(tmp_path, **settings), tmp_path / "cache")


def toys(tmp_path: Path, **settings: object) -> AmazonConfig:
    here = {"version": "2018", "category": "Toys and Games", "raw_dir": str(tmp_path / "raw"), "k_core": 0}
    return AmazonConfig(**{**here, **settings})  # type: ignore[arg-type]


@pytest.fixture
def nobody() -> str:
    """The address of a server that is not there."""
    return f"http://127.0.0.1:{free_port()}"


# Real files


@pytest.fixture(scope="module")
def beauty(shared_data, tmp_path_factory) -> PreparedData:
    config = AmazonConfig(raw_dir=str(shared_data / "amazon"))
    return prepare(config, tmp_path_factory.mktemp("cache"))


def test_beauty_2014_has_the_published_size(beauty):
    assert (beauty.n_users, beauty.n_items, beauty.n_interactions) == (22_363, 12_101, 198_502)
    assert (beauty.manifest["first_date"], beauty.manifest["last_date"]) == ("2002-06-12", "2014-07-23")
    assert beauty.manifest["share_last_two_equal"] == pytest.approx(0.43, abs=0.01)
    assert not beauty.has_repeats
    assert beauty.has_text
    assert beauty.manifest["counts"]["items_without_metadata"] == 0


def test_beauty_2014_sequences_are_those_of_the_file(beauty, shared_data):
    published: dict[str, list[str]] = {}
    with gzip.open(shared_data / "amazon" / "2014" / "reviews_Beauty_5.json.gz") as file:
        for line in file:
            row = json.loads(line)
            published.setdefault(row["reviewerID"], []).append(row["asin"])
    names = np.array(["", *beauty.item_table()["item"]])
    users = beauty.user_ids()["user_id"].to_list()
    sequences = np.split(names[beauty.items], beauty.offsets[1:-1])
    assert {user: sequence.tolist() for user, sequence in zip(users, sequences, strict=True)} == published


def test_beauty_2014_item_numbers_tell_nothing_about_time_or_popularity(beauty):
    popularity = np.bincount(beauty.items, minlength=beauty.n_items + 1)[1:]
    first_seen = np.full(beauty.n_items + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_seen, beauty.items, beauty.timestamps)
    for quantity in (popularity, first_seen[1:]):
        ranks = np.argsort(np.argsort(quantity))
        assert abs(np.corrcoef(ranks, np.arange(beauty.n_items))[0, 1]) < 0.04


#: rows read, then (rows, users, items) after the duplicates and after the 5-core
REAL = {
    ("2018", "Gift_Cards"): (2972, (2969, 458, 148), (2949, 454, 147)),
    ("2018", "Magazine_Subscriptions"): (2375, (2328, 348, 157), (2095, 304, 134)),
    ("2018", "All_Beauty"): (5269, (4161, 991, 85), (768, 151, 28)),
    ("2023", "All_Beauty"): (2535, (2535, 253, 356), (2535, 253, 356)),
}


@pytest.mark.parametrize(("version", "category"), REAL)
def test_real_small_files(shared_data, tmp_path, version, category):
    raw_dir = shared_data / "amazon" / version
    data = prepare(AmazonConfig(version=version, category=category, raw_dir=str(raw_dir)), tmp_path)
    read, duplicates, core = REAL[version, category]
    assert data.manifest["counts"]["rows_read"] == read
    steps = {step["step"]: (step["rows"], step["users"], step["items"]) for step in data.manifest["cleaning"]}
    assert (steps["duplicates"], steps["k_core"]) == (duplicates, core)
    assert (data.n_interactions, data.n_users, data.n_items) == core
    assert (np.bincount(data.items)[1:] >= 5).all()
    assert (data.lengths() >= 5).all()


def test_titles_that_are_markup_are_missing_and_entities_are_decoded(shared_data, tmp_path):
    raw_dir = str(shared_data / "amazon" / "2018")
    data = prepare(AmazonConfig(version="2018", category="Magazine_Subscriptions", raw_dir=raw_dir), tmp_path)
    table = data.item_table()
    assert table["title"].drop_nulls().to_list() == [t for t in table["title"].drop_nulls() if "<" not in t]
    assert table["title"].null_count() > 100
    assert table["description"].null_count() < 15
    categories = table["categories"].explode().drop_nulls()
    assert categories.str.contains(" & ").any()
    assert not categories.str.contains("&amp;|<").any()


def test_a_true_raw_file_of_2014_with_all_its_fields(shared_data, tmp_path):
    source = shared_data / "amazon" / "2014" / "reviews_Musical_Instruments_5.first50.json"
    put(tmp_path / "raw" / "2014" / "reviews_Musical_Instruments_5.json", source.read_bytes())
    config = AmazonConfig(category="Musical Instruments", raw_dir=str(tmp_path / "raw"), k_core=0)
    data = prepare(config, tmp_path / "cache")
    assert data.n_interactions == 50
    assert data.manifest["extra"]["metadata"] == "no meta_Musical_Instruments.json.gz beside the interactions"


# Rows


BAD = {
    "no user": (lines({}, {"reviewerID": None}), "no user"),
    "empty user": (lines({}, {"reviewerID": ""}), "no user"),
    "no item": (lines({}, {"asin": None}), "no item"),
    "no time": (lines({}, {"unixReviewTime": None}), "no timestamp"),
    "NaN": (lines({}, {"unixReviewTime": float("nan")}), "no usable timestamp: nan"),
    "text for a time": (lines({}, {"unixReviewTime": "noon"}), "no usable timestamp: 'noon'"),
    "milliseconds": (lines({}, {"unixReviewTime": 1393545600000}), "no usable timestamp: 1393545600000"),
    "not JSON": (lines({}) + "{'reviewerID': 'A1'}\n", "unreadable line"),
    "not an object": (lines({}) + "[1, 2]\n", "unreadable line"),
    "not UTF-8": (lines({}).encode() + b'{"reviewerID": "\xff"}\n', "unreadable line"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_or_counted(tmp_path, text, reason):
    text = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(
        UserError, match=rf"Toys_and_Games_5.json.gz line 2: {reason}; mend it, or set data.bad_rows=skip"
    ):
        reviews(tmp_path, gzip.compress(text))
    data = prepare(toys(tmp_path, bad_rows="skip"), tmp_path / "cache")
    counts = data.manifest["counts"]
    assert data.n_interactions == 1
    assert counts["rows_read"] == 2
    assert counts[f"rows_rejected_{reason.split(':')[0].replace(' ', '_')}"] == 1


def test_values_of_another_type_that_still_say_what_they_mean(tmp_path):
    text = lines({"unixReviewTime": "1393545601", "reviewerID": 7}, {"unixReviewTime": 1393545602.0, "overall": "4"})
    data = reviews(tmp_path, text)
    assert sorted(data.timestamps.tolist()) == [1393545601, 1393545602]
    assert sorted(data.user_ids()["user_id"]) == ["7", "A1"]


def test_missing_ratings_are_no_bad_rows(tmp_path):
    assert reviews(tmp_path, lines({"overall": None}, {"asin": "B2"}), min_rating=3.0).n_interactions == 1


def test_blocks_may_end_anywhere_and_lines_keep_their_numbers(tmp_path, monkeypatch):
    rows = [{"reviewerID": f"A{n % 5}", "asin": f"B{n % 7}", "unixReviewTime": n} for n in range(200)]
    whole = reviews(tmp_path / "whole", lines(*rows))
    monkeypatch.setattr("recbench.data.sources.raw_lines.BLOCK_BYTES", 100)
    pieces = reviews(tmp_path / "pieces", lines(*rows).removesuffix("\n"))
    assert pieces.fingerprint == whole.fingerprint
    rows[150]["asin"] = None
    with pytest.raises(UserError, match="line 151: no item"):
        reviews(tmp_path / "bad", lines(*rows))


def test_a_block_with_a_bad_row_gives_the_same_good_rows(tmp_path):
    rows = [{"reviewerID": f"A{n % 5}", "asin": f"B{n % 7}", "unixReviewTime": n, "overall": n % 5} for n in range(50)]
    good = reviews(tmp_path / "good", lines(*rows), min_rating=2.0)
    slow = reviews(tmp_path / "slow", lines(*rows, {"asin": None}), min_rating=2.0, bad_rows="skip")
    assert good.fingerprint == slow.fingerprint


def test_blocks_stay_small_however_large_the_file(tmp_path):
    path = put(tmp_path / "x.json.gz", "x" * 99 + "\n" + ("y" * 99 + "\n") * 50_000)
    sizes = [len(block) for _, block in raw_lines.line_blocks(path, size=10_000)]
    assert sum(sizes) == 5_000_100
    assert max(sizes) <= 10_000 + 100


CSV = "user_id,parent_asin,rating,timestamp,history\nU1,B1,5.0,1547589356557,\n"


def test_csv_of_2023_orders_by_milliseconds(tmp_path):
    put(tmp_path / "Software.train.csv.gz", CSV + "U1,B2,5.0,1547589356100,B1\n")
    put(tmp_path / "Software.valid.csv", CSV.replace("B1", "B3").replace("557", "558"))
    put(tmp_path / "Software.test.csv.gz", CSV.replace("B1", "B4").replace("557", "559"))
    data = prepare(
        AmazonConfig(version="2023", category="Software", raw_dir=str(tmp_path), k_core=0), tmp_path / "cache"
    )
    names = ["", *data.item_table()["item"]]
    assert [names[i] for i in data.items] == ["B2", "B1", "B3", "B4"]
    assert set(data.timestamps.tolist()) == {1547589356}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",B1,5.0,1547589356557,", "line 3: no user"),
        ("U1,,5.0,1547589356557,", "line 3: no item"),
        ("U1,B1,5.0,nan,", "line 3: no usable timestamp: 'nan'"),
        ("U1,B1", "line 3: unreadable line"),
    ],
)
def test_bad_rows_of_csv(tmp_path, row, message):
    put(tmp_path / "Software.csv.gz", CSV + row + "\n")
    config = AmazonConfig(version="2023", category="Software", raw_dir=str(tmp_path), k_core=0)
    with pytest.raises(UserError, match=f"Software.csv.gz {message}"):
        prepare(config, tmp_path / "cache")


def test_csv_without_the_columns(tmp_path):
    put(tmp_path / "Software.csv.gz", "user,item\na,b\n")
    config = AmazonConfig(version="2023", category="Software", raw_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"has no column user_id, parent_asin, timestamp, rating; it has: user, item"):
        prepare(config, tmp_path / "cache")


# Files


def test_a_gzip_file_cut_short_says_how_much_is_readable_and_what_to_do(tmp_path):
    text = lines(*({"reviewerID": f"A{n * 7919 % 10_007}", "unixReviewTime": n} for n in range(20_000)))
    with pytest.raises(
        UserError, match=r"is cut short: 1\d,\d{3} rows can be read from it; delete it and fetch it again"
    ):
        reviews(tmp_path, gzip.compress(text.encode())[:-20_000])


def test_damaged_bytes_and_files_that_are_no_gzip(tmp_path):
    packed = bytearray(gzip.compress(lines(*({"unixReviewTime": n} for n in range(5000))).encode()))
    packed[-6] ^= 1
    with pytest.raises(UserError, match=r"is damaged .*CRC"):
        reviews(tmp_path, bytes(packed))
    with pytest.raises(UserError, match="is not a gzip file, whatever its name says"):
        reviews(tmp_path, b"<html>404</html>")


def test_an_empty_file_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="no usable row"):
        reviews(tmp_path, "")


def test_missing_files_without_a_network_name_all_that_was_tried(tmp_path, nobody, monkeypatch):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", ())
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError) as raised:
        prepare(toys(tmp_path, k_core=5, mirror=nobody), tmp_path / "cache")
    message = str(raised.value)
    assert "no raw file for Amazon 2018 Toys_and_Games" in message
    assert "looked for Toys_and_Games_5.json.gz or Toys_and_Games.json.gz in" in message
    for folder in (tmp_path / "raw", tmp_path / "raw" / "2018", tmp_path / "cache" / "raw" / "amazon" / "2018"):
        assert str(folder) in message
    assert f"downloading {nobody}/categoryFilesSmall/Toys_and_Games_5.json.gz failed: no connection" in message
    assert "data.raw_dir" in message


def test_slips_in_the_settings(tmp_path, nobody):
    put(tmp_path / "raw" / "reviews_Beauty_5.json.gz", lines({}))
    for settings, message in [
        ({"version": "2015"}, "data.version=2015 is not known; choose one of: 2014, 2018, 2023"),
        ({"files": "all"}, "data.files=all is not known; choose one of: auto, 5core, full"),
        (
            {"category": "Toys_and_Game"},
            "unknown category 'Toys_and_Game' of Amazon 2018 .* did you mean 'Toys_and_Games'",
        ),
        ({"category": "Beauty"}, "reviews_Beauty_5.json.gz belongs to another release: set data.version=2014"),
        ({"category": None}, "data.category is empty"),
        ({"raw_dir": str(tmp_path / "rwa")}, "rwa is not a folder"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(toys(tmp_path, mirror=nobody, **settings), tmp_path / "cache")


@pytest.mark.parametrize(
    ("k_core", "files", "chosen"),
    [(5, "auto", "_5"), (0, "auto", ""), (0, "5core", "_5"), (5, "full", "")],
)
def test_which_of_two_published_files_is_read(tmp_path, k_core, files, chosen):
    for suffix in ("_5", ""):
        put(tmp_path / "raw" / "2018" / f"Toys_and_Games{suffix}.json.gz", lines({}))
    found = locate(toys(tmp_path, k_core=k_core, files=files), tmp_path / "cache")
    assert list(found) == [f"Toys_and_Games{chosen}.json.gz"]


def test_the_only_published_file_at_hand_is_read(tmp_path):
    put(tmp_path / "raw" / "Toys_and_Games.json", lines({}))
    assert list(locate(toys(tmp_path, k_core=5), tmp_path / "cache")) == ["Toys_and_Games.json"]


# Downloads


ADDRESSES = {
    "2014": ("/reviews_Baby_5.json.gz", "/meta_Baby.json.gz"),
    "2018": ("/categoryFilesSmall/Software_5.json.gz", "/metaFiles2/meta_Software.json.gz"),
    "2023": ("/raw/review_categories/Software.jsonl.gz", "/raw/meta_categories/meta_Software.jsonl.gz"),
}


@pytest.mark.parametrize("version", ADDRESSES)
def test_reviews_and_metadata_are_downloaded_once_and_checked(server, tmp_path, version):
    of_reviews, of_metadata = ADDRESSES[version]
    new = version == "2023"
    row = {"user_id": "U", "parent_asin": "B1", "rating": 5.0, "timestamp": 1547589356557} if new else GOOD
    server.files[of_reviews] = gzip.compress(json.dumps(row).encode())
    meta = {"parent_asin" if new else "asin": "B1", "title": "A &amp; B"}
    server.files[of_metadata] = gzip.compress((repr(meta) if version == "2014" else json.dumps(meta)).encode())
    category = "Baby" if version == "2014" else "Software"
    files = "full" if new else "5core"
    config = AmazonConfig(version=version, category=category, k_core=0, files=files, mirror=server.url)
    data = prepare(config, tmp_path)
    assert data.item_table()["title"].to_list() == ["A & B"]
    assert [path for path, _ in server.requests] == [of_reviews, of_metadata]
    prepare(config, tmp_path)
    assert len(server.requests) == 2
    file = tmp_path / "raw" / "amazon" / version / Path(of_reviews).name
    file.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match=r"is not the file that was downloaded: SHA-256 is .*, was "):
        prepare(config, tmp_path)


def test_the_three_5core_files_of_2023_are_downloaded(server, tmp_path):
    for part in ("train", "valid", "test"):
        server.files[f"/benchmark/5core/last_out_w_his/Software.{part}.csv.gz"] = gzip.compress(CSV.encode())
    found = locate(AmazonConfig(version="2023", category="Software", mirror=server.url), tmp_path)
    assert list(found) == ["Software.train.csv.gz", "Software.valid.csv.gz", "Software.test.csv.gz"]


def test_metadata_that_cannot_be_had_are_noted_and_asked_for_again_a_day_later(server, tmp_path):
    server.files["/categoryFilesSmall/Software_5.json.gz"] = gzip.compress(lines({}).encode())
    config = AmazonConfig(version="2018", category="Software", k_core=0, files="5core", mirror=server.url)
    data = prepare(config, tmp_path)
    assert not data.has_text
    assert "meta_Software.json.gz failed: the server answered 404" in data.manifest["extra"]["metadata"]
    prepare(config, tmp_path)
    assert len(server.requests) == 2
    note = tmp_path / "raw" / "amazon" / "2018" / "meta_Software.json.gz.failed"
    os.utime(note, (0, time.time() - 25 * 3600))
    server.files["/metaFiles2/meta_Software.json.gz"] = gzip.compress(b'{"asin": "B1", "title": "T"}')
    assert prepare(config, tmp_path).has_text
    assert not note.exists()
