"""The MovieLens source: every way in which a release is written and packed, downloads, real files, and bad input."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import download
from recbench.data.prepared import PreparedData
from recbench.data.sources import movielens_rows, raw_lines
from recbench.data.sources.movielens import MovieLensConfig, locate
from recbench.data.sources.movielens_releases import RELEASES
from recbench.data.store import prepare
from tests.fixtures.ports import free_port

#: (user, movie, rating, timestamp) in file order. User 1 rated 20 and 10 in the same second, 30 before.
RATINGS = [(1, 20, 5, 100), (1, 10, 3, 100), (1, 30, 4, 50), (2, 10, 1, 70), (2, 30, 2, 60)]

#: movie -> (title, genres)
MOVIES = {
    10: ("Alien: Café (1995)", ["Comedy", "Drama"]),
    20: ("Seven, or So (1990)", []),
    30: ('A "Q" (2000)', ["Children's"]),
}

VERSIONS = list(RELEASES)


def ratings_text(version: str, rows: list[tuple] = RATINGS) -> bytes:
    layout = RELEASES[version].layout
    header = "userId,movieId,rating,timestamp\n" if layout.header else ""
    return (header + "".join(layout.separator.join(map(str, row)) + "\n" for row in rows)).encode()


def movies_text(version: str) -> bytes:
    """Written out by hand per form, so that the reader's own tables are not their own witness."""
    if version == "100k":
        flags = {10: (5, 8), 20: (0,), 30: (4,)}
        rows = [
            [str(movie), title, "01-Jan-1995", "", "http://x/?a|b".replace("|", "%7C")]
            + ["1" if at in flags[movie] else "0" for at in range(19)]
            for movie, (title, _) in MOVIES.items()
        ]
        return "".join("|".join(row) + "\n" for row in rows).encode("latin-1")
    if version in ("1m", "10m"):
        rows = [f"{m}::{t}::{'|'.join(g) or '(no genres listed)'}\n" for m, (t, g) in MOVIES.items()]
        return "".join(rows).encode("latin-1" if version == "1m" else "utf-8")
    quoted = {movie: '"' + title.replace('"', '""') + '"' for movie, (title, _) in MOVIES.items()}
    rows = [f"{m},{quoted[m]},{'|'.join(g) or '(no genres listed)'}\r\n" for m, (_, g) in MOVIES.items()]
    return ("movieId,title,genres\r\n" + "".join(rows)).encode()


def files_of(version: str, rows: list[tuple] = RATINGS) -> dict[str, bytes]:
    layout = RELEASES[version].layout
    return {layout.ratings: ratings_text(version, rows), layout.movies: movies_text(version)}


def zipped(version: str, files: dict[str, bytes] | None = None, folder: str | None = None) -> bytes:
    """The archive as published: the files in a folder, between others that are none of ours."""
    packed = io.BytesIO()
    folder = RELEASES[version].folder if folder is None else folder
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", b"")
        archive.writestr(f"{folder}/README", b"terms of use")
        archive.writestr(f"__MACOSX/{folder}/._ratings.dat", b"\0")
        for name, content in (files_of(version) if files is None else files).items():
            archive.writestr(f"{folder}/{name}", content)
    return packed.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def config_of(tmp_path: Path, version: str = "1m", **settings: object) -> MovieLensConfig:
    here = {"version": version, "raw_dir": str(tmp_path / "raw"), "k_core": 0}
    return MovieLensConfig(**{**here, **settings})  # type: ignore[arg-type]


def prepared(tmp_path: Path, version: str = "1m", **settings: object) -> PreparedData:
    return prepare(config_of(tmp_path, version, **settings), tmp_path / "cache")


def with_ratings(tmp_path: Path, text: bytes, version: str = "1m", **settings: object) -> PreparedData:
    """Prepare a hand-made rating file beside good movies."""
    layout = RELEASES[version].layout
    put(tmp_path / "raw" / layout.ratings, text)
    put(tmp_path / "raw" / layout.movies, movies_text(version))
    return prepared(tmp_path, version, **settings)


def sequences(data: PreparedData) -> dict[str, list[str]]:
    names = ["", *data.item_table()["item"]]
    users = data.user_ids()["user_id"].to_list()
    return {
        u: [names[i] for i in part] for u, part in zip(users, np.split(data.items, data.offsets[1:-1]), strict=True)
    }


def check_content(data: PreparedData) -> None:
    assert sequences(data) == {"1": ["30", "20", "10"], "2": ["30", "10"]}
    assert sorted(data.timestamps.tolist()) == [50, 60, 70, 100, 100]
    table = {row["item"]: row for row in data.item_table().iter_rows(named=True)}
    for movie, (title, genres) in MOVIES.items():
        assert table[str(movie)]["title"] == title
        assert table[str(movie)]["categories"] == (genres or None)
    assert data.manifest["counts"] == {"rows_read": 5, "movie_rows_rejected": 0, "items_without_title": 0}


# Forms and places


@pytest.fixture
def nobody() -> str:
    """The address of a server that is not there."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_reads_alike_from_its_archive(tmp_path, version):
    put(tmp_path / "raw" / f"ml-{version}.zip", zipped(version))
    data = prepared(tmp_path, version)
    check_content(data)
    assert list(data.manifest["files"]) == [f"ml-{version}.zip"]
    outside = {p.name for p in tmp_path.iterdir()} | {p.name for p in (tmp_path / "raw").iterdir()}
    assert outside == {"raw", "cache", f"ml-{version}.zip"}
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.name.startswith(("ratings", "movies", "u."))]


@pytest.mark.parametrize("form", ["folder", "flat", "archive named", "folder named", "cache", "other inner folder"])
@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("version", ["100k", "10m", "25m"])
def test_every_place_in_which_a_release_may_lie(tmp_path, version, form, gz):
    release, settings = RELEASES[version], {}
    bare = {"folder": "raw/" + release.folder, "flat": "raw", "folder named": "raw/" + release.folder, "cache": ""}
    if form in ("archive named", "other inner folder"):
        folder = "somewhere/deep" if form == "other inner folder" else None
        archive = put(tmp_path / "raw" / release.zip_name, zipped(version, folder=folder))
        settings = {"raw_dir": str(archive)} if form == "archive named" else {}
    elif form == "cache":
        put(tmp_path / "cache" / "raw" / "movielens" / version / release.zip_name, zipped(version))
        settings = {"raw_dir": None}
    else:
        for name, content in files_of(version).items():
            put(tmp_path / bare[form] / (name + gz), content)
        settings = {"raw_dir": str(tmp_path / bare[form])} if form == "folder named" else {}
    check_content(prepared(tmp_path, version, **settings))


def test_the_folder_of_the_right_name_is_preferred_to_bare_files(tmp_path):
    put(tmp_path / "raw" / "ratings.csv", ratings_text("25m", [(9, 9, 5, 9)]))
    for name, content in files_of("25m").items():
        put(tmp_path / "raw" / "ml-25m" / name, content)
    check_content(prepared(tmp_path, "25m"))


def test_ratings_alone_do_and_the_absence_of_text_is_noted(tmp_path):
    put(tmp_path / "raw" / "ratings.dat", ratings_text("1m"))
    data = prepared(tmp_path)
    assert not data.has_text
    assert data.n_interactions == 5
    assert data.manifest["extra"]["metadata"] == "no movies.dat beside the ratings"


def test_half_stars_windows_lines_and_a_last_line_without_end(tmp_path):
    text = ratings_text("10m", [(1, 2, 0.5, 5), (1, 3, 4.5, 6)]).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    assert sequences(with_ratings(tmp_path, text, "10m")) == {"1": ["2", "3"]}
    assert sequences(with_ratings(tmp_path, text, "10m", min_rating=1.0)) == {"1": ["3"]}


def test_columns_of_csv_go_by_their_names(tmp_path):
    text = b"timestamp,extra,movieId,rating,userId\n7,x,5,4.0,1\n6,y,6,4.0,1\n"
    assert sequences(with_ratings(tmp_path, text, "25m")) == {"1": ["6", "5"]}


def test_rating_filter_core_and_repeats_are_those_of_every_source(tmp_path):
    rows = [(1, 20, 5, 1), (1, 20, 5, 2), (1, 10, 5, 3), (2, 20, 5, 4), (2, 10, 4, 5), (3, 10, 1, 6)]
    data = with_ratings(tmp_path, ratings_text("1m", rows), min_rating=4.0, repeats="first", k_core=2)
    assert sequences(data) == {"1": ["20", "10"], "2": ["20", "10"]}
    steps = {step["step"]: step["rows"] for step in data.manifest["cleaning"]}
    assert steps == {"read": 6, "rating": 5, "duplicates": 5, "repeats": 4, "k_core": 4}
    assert MovieLensConfig().k_core == 5


# Rows

BAD = {
    "too few fields": ("1::20::5", "too few fields: 3 of 4"),
    "too many fields": ("1::20::5::100::9", "too many fields: 5, not 4"),
    "another separator": ("1,20,5,100", "too few fields: 1 of 4"),
    "no user": ("::20::5::100", "no user"),
    "no movie": ("1::::5::100", "no item"),
    "user is text": ("u1::20::5::100", "no usable user: u1"),
    "movie is text": ("1::tt20::5::100", "no usable item: tt20"),
    "no rating": ("1::20::::100", "no rating"),
    "NaN": ("1::20::NaN::100", "no usable rating: NaN"),
    "infinite rating": ("1::20::inf::100", "no usable rating: inf"),
    "six stars": ("1::20::6::100", "no usable rating: 6"),
    "no time": ("1::20::5::", "no timestamp"),
    "text for a time": ("1::20::5::noon", "no usable timestamp: noon"),
    "NaN for a time": ("1::20::5::nan", "no usable timestamp: nan"),
    "milliseconds": ("1::20::5::1393545600000", "no usable timestamp: 1393545600000"),
    "before the clock": ("1::20::5::-1", "no usable timestamp: -1"),
    "not UTF-8": ("1::20::5::10\udcff", "no usable timestamp: 10�"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_or_counted(tmp_path, row, reason):
    good = ratings_text("1m")
    text = good + b"\n" + row.encode(errors="surrogateescape") + b"\n" + ratings_text("1m", [(2, 20, 5, 99)])
    with pytest.raises(
        UserError, match=rf"^ratings.dat line 7: {reason}; mend it, or set data.bad_rows=skip"
    ) as raised:
        with_ratings(tmp_path, text)
    assert "\n" not in str(raised.value)
    data = prepared(tmp_path, bad_rows="skip")
    assert sequences(data) == {"1": ["30", "20", "10"], "2": ["30", "10", "20"]}
    counts = data.manifest["counts"]
    assert counts["rows_read"] == 7
    assert counts[f"rows_rejected_{reason.split(':')[0].replace(' ', '_')}"] == 1


def test_a_bad_row_of_an_archive_is_named_with_its_place(tmp_path):
    put(tmp_path / "raw" / "ml-25m.zip", zipped("25m", files_of("25m", [*RATINGS, (1, 2, "nan", 3)])))
    with pytest.raises(UserError, match=r"^ratings.csv line 7: no usable rating: nan.*ml-25m.zip/ml-25m/ratings.csv"):
        prepared(tmp_path, "25m")


def test_values_written_another_way_that_still_say_what_they_mean(tmp_path):
    data = with_ratings(tmp_path, b"1:: 20::5.0::100.0\n1::10::3::99\n")
    assert sequences(data) == {"1": ["10", "20"]}
    assert data.timestamps.tolist() == [99, 100]


def test_blocks_may_end_anywhere_and_lines_keep_their_numbers(tmp_path, monkeypatch):
    rows = [(n % 5 + 1, n % 7 + 1, n % 5 + 1, n) for n in range(200)]
    whole = with_ratings(tmp_path / "whole", ratings_text("1m", rows))
    monkeypatch.setattr(raw_lines, "BLOCK_BYTES", 100)
    pieces = with_ratings(tmp_path / "pieces", ratings_text("1m", rows))
    assert pieces.fingerprint == whole.fingerprint
    rows[150] = (1, 1, 1, "x")
    with pytest.raises(UserError, match="line 151: no usable timestamp: x"):
        with_ratings(tmp_path / "bad", ratings_text("1m", rows))


@pytest.mark.parametrize("version", ["100k", "1m", "25m"])
def test_a_block_with_a_bad_row_gives_the_same_good_rows(tmp_path, version):
    rows = [(n % 5 + 1, n * 7919 % 50 + 1, (n % 9 + 1) / 2, n // 3) for n in range(500)]
    good = with_ratings(tmp_path / "good", ratings_text(version, rows), version)
    slow = with_ratings(tmp_path / "slow", ratings_text(version, [*rows, (1, 2)]), version, bad_rows="skip")
    assert slow.fingerprint == good.fingerprint


def test_good_rows_never_become_python_objects(tmp_path, monkeypatch):
    """Only a block with a bad row is cut into lines: the rest goes from bytes to columns within Polars."""
    monkeypatch.setattr(movielens_rows, "_checked", lambda *_: pytest.fail("a good block was cut into lines"))
    monkeypatch.setattr(raw_lines, "BLOCK_BYTES", 10_000)
    rows = [(n % 50 + 1, n % 70 + 1, 4, n) for n in range(20_000)]
    for version in ("100k", "1m", "25m"):
        text = raw_lines.RawText(put(tmp_path / version, ratings_text(version, rows)))
        counts = movielens_rows.spool_ratings(text, RELEASES[version].layout, tmp_path / "x.parquet", "error")
        assert counts == {"rows_read": 20_000}
        spooled = pl.read_parquet(tmp_path / "x.parquet").select("user", "item", "rating", "timestamp")
        assert spooled.rows() == [(str(user), str(item), 4.0, n) for user, item, _, n in rows]


BAD_MOVIES = {
    "too few fields": (b"10::A (1995)\n", r"movies.dat line 2: too few fields: 2, not 3"),
    "too many fields": (b"10::A::B::C\n", r"movies.dat line 2: too many fields: 4, not 3"),
    "number": (b"x::A::B\n", r"movies.dat line 2: no usable movie number: x"),
}


@pytest.mark.parametrize(("row", "message"), BAD_MOVIES.values(), ids=BAD_MOVIES)
def test_a_bad_row_of_the_movies_is_named_or_counted(tmp_path, row, message):
    put(tmp_path / "raw" / "ratings.dat", ratings_text("1m"))
    put(tmp_path / "raw" / "movies.dat", b"20::Seven (1990)::Comedy\n" + row)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path)
    data = prepared(tmp_path, bad_rows="skip")
    assert data.manifest["counts"] == {"rows_read": 5, "movie_rows_rejected": 1, "items_without_title": 2}
    assert data.item_table()["title"].drop_nulls().to_list() == ["Seven (1990)"]


def test_csv_without_the_columns(tmp_path):
    with pytest.raises(UserError, match=r"ratings.csv has no column userId, movieId; it has: user, item, rating, time"):
        with_ratings(tmp_path, b"user,item,rating,timestamp\n1,2,3,4\n", "25m")
    with pytest.raises(UserError, match=r"ratings.csv has the column rating more than once"):
        with_ratings(tmp_path, b"userId,movieId,rating,timestamp,rating\n1,2,3,4,5\n", "25m")
    put(tmp_path / "raw" / "movies.csv", b"movieId,name,genres\n")
    put(tmp_path / "raw" / "ratings.csv", ratings_text("25m"))
    with pytest.raises(UserError, match=r"movies.csv has no column title; it has: movieId, name, genres"):
        prepared(tmp_path, "25m")


# Archives


def test_an_archive_cut_short_or_none_at_all(tmp_path):
    path = put(tmp_path / "raw" / "ml-1m.zip", zipped("1m")[:-60])
    with pytest.raises(UserError, match=r"ml-1m.zip is a zip archive cut short .*; delete it and fetch it again"):
        prepared(tmp_path)
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(UserError, match=r"ml-1m.zip is not a zip archive, whatever its name says"):
        prepared(tmp_path)


def test_an_archive_without_the_expected_file(tmp_path):
    put(tmp_path / "raw" / "ml-1m.zip", zipped("25m"))
    with pytest.raises(UserError, match=r"ml-1m.zip has no ratings.dat; it holds 'ml-25m/README',.*another release"):
        prepared(tmp_path)
    put(tmp_path / "raw" / "ml-1m.zip", zipped("1m", {"ratings.dat": ratings_text("1m")}))
    with pytest.raises(UserError, match=r"ml-1m.zip has no movies.dat"):
        prepared(tmp_path)


def test_damaged_bytes_in_an_archive(tmp_path):
    rows = [(n % 50 + 1, n * 7919 % 700 + 1, 4, n * n) for n in range(5000)]
    packed = bytearray(zipped("1m", files_of("1m", rows)))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        entry = archive.getinfo("ml-1m/ratings.dat")
    packed[entry.header_offset + entry.compress_size // 2] ^= 0xFF
    put(tmp_path / "raw" / "ml-1m.zip", bytes(packed))
    with pytest.raises(
        UserError, match=r"ml-1m.zip: ml-1m/ratings.dat is (damaged|cut short).*fetch it again"
    ) as raised:
        prepared(tmp_path, bad_rows="skip")
    assert "\n" not in str(raised.value)


def test_a_member_that_wants_a_password(tmp_path):
    packed = bytearray(zipped("1m"))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := packed.find(signature, start + 1)) >= 0:
            packed[start + at] |= 1
    put(tmp_path / "raw" / "ml-1m.zip", bytes(packed))
    with pytest.raises(UserError, match=r"ml-1m.zip: cannot read ml-1m/ratings.dat: .*password"):
        prepared(tmp_path)


def test_a_member_whose_name_climbs_out_is_read_in_place(tmp_path):
    put(tmp_path / "raw" / "ml-1m.zip", zipped("1m", folder="../../out"))
    check_content(prepared(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "raw"]
    assert not (tmp_path.parent / "out").exists()


def test_a_gzip_file_cut_short_says_how_much_is_readable(tmp_path):
    rows = [(n % 50 + 1, n * 7919 % 700 + 1, 4, n * n) for n in range(20_000)]
    packed = gzip.compress(ratings_text("1m", rows))[:-20_000]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ratings.dat.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"ratings.dat.gz is cut short: \d+,\d{3} rows can be read from it"):
        prepared(tmp_path)


# Settings and downloads


@pytest.mark.parametrize("version", VERSIONS)
def test_the_archive_is_downloaded_once_and_checked(server, tmp_path, version):
    server.files[f"/ml-{version}.zip"] = zipped(version)
    settings = {"raw_dir": None, "mirror": server.url}
    check_content(prepared(tmp_path, version, **settings))
    prepared(tmp_path, version, **settings)
    assert [path for path, _ in server.requests] == [f"/ml-{version}.zip"]
    file = tmp_path / "cache" / "raw" / "movielens" / version / f"ml-{version}.zip"
    file.write_bytes(zipped(version, files_of(version, RATINGS[:3])))
    with pytest.raises(
        UserError, match=r"is not the file that was downloaded: SHA-256 is .*; delete it to download it"
    ):
        prepared(tmp_path, version, **settings)


def test_the_official_address():
    assert MovieLensConfig(version="10m").release.zip_name == "ml-10m.zip"
    from recbench.data.sources.movielens import BASE_URL

    assert BASE_URL == "https://files.grouplens.org/datasets/movielens"


def test_what_is_missing_without_a_network_names_all_that_was_tried(tmp_path, nobody, monkeypatch):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", ())
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError) as raised:
        prepared(tmp_path, "10m", mirror=nobody)
    message = str(raised.value)
    assert "no raw file for MovieLens 10m: looked for ml-10m.zip, ml-10M100K/ratings.dat and ratings.dat" in message
    for folder in (tmp_path / "raw", tmp_path / "cache" / "raw" / "movielens" / "10m"):
        assert str(folder) in message
    assert f"downloading {nobody}/ml-10m.zip failed: no connection" in message
    assert "data.raw_dir" in message
    assert "\n" not in message


def test_an_archive_that_the_server_has_not(server, tmp_path):
    with pytest.raises(UserError, match=r"ml-32m.zip failed: the server answered 404"):
        prepared(tmp_path, "32m", raw_dir=None, mirror=server.url)


def test_slips_in_the_settings(tmp_path, nobody):
    put(tmp_path / "raw" / "ratings.dat", ratings_text("1m"))
    put(tmp_path / "ml-25m" / "ratings.csv", ratings_text("25m"))
    archive = put(tmp_path / "ml-20m.zip", zipped("20m"))
    for version, settings, message in [
        ("1M", {}, r"data.version=1M is not known; choose one of: 100k, 1m, 10m, 20m, 25m, 32m, latest-small, latest"),
        ("1m", {"category": "Drama"}, "data.category=Drama: MovieLens has no categories"),
        ("1m", {"raw_dir": str(tmp_path / "rwa")}, "rwa is not there"),
        ("25m", {}, r"ratings.dat is of another release: set data.version=1m or 10m \(now 25m\)"),
        ("20m", {"raw_dir": str(tmp_path / "ml-25m")}, r"ml-25m is of another release: set data.version=25m"),
        ("25m", {"raw_dir": str(archive)}, r"ml-20m.zip is of another release: set data.version=20m"),
        ("1m", {"repeats": "last"}, "data.repeats=last is not known"),
    ]:
        with pytest.raises(UserError, match=message):
            prepared(tmp_path, version, mirror=nobody, **settings)


def test_several_releases_may_lie_side_by_side(tmp_path):
    for version in ("20m", "25m"):
        put(
            tmp_path / "raw" / f"ml-{version}.zip", zipped(version, files_of(version, RATINGS[: int(version[:2]) - 20]))
        )
    put(tmp_path / "raw" / "ml-20m.zip", zipped("20m"))
    assert list(locate(config_of(tmp_path, "20m"), tmp_path / "cache")) == ["ml-20m.zip"]
    check_content(prepared(tmp_path, "25m"))


def test_the_command_line_takes_it(compose):
    from recbench.config.run import RunConfig

    config = RunConfig.from_hydra(compose("data=movielens", "data.version=latest-small", "data.min_rating=4"))
    assert config.data == MovieLensConfig(version="latest-small", min_rating=4.0)


# Real files


def test_latest_small_has_its_published_size(shared_data, tmp_path):
    raw_dir = shared_data / "movielens"
    if not (raw_dir / "ml-latest-small").is_dir():
        pytest.skip("MovieLens latest-small is not in ../shared/data")
    config = MovieLensConfig(version="latest-small", raw_dir=str(raw_dir), k_core=0)
    data = prepare(config, tmp_path)
    assert (data.n_interactions, data.n_users, data.n_items) == (100_836, 610, 9_724)
    assert (data.manifest["first_date"], data.manifest["last_date"]) == ("1996-03-29", "2018-09-24")
    assert data.manifest["counts"] == {"rows_read": 100_836, "movie_rows_rejected": 0, "items_without_title": 0}
    table = {row["item"]: row for row in data.item_table().iter_rows(named=True)}
    assert table["1"]["title"] == "Toy Story (1995)"
    assert table["1"]["categories"] == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    assert data.item_table()["categories"].null_count() == 34
    raw = pl.read_csv(raw_dir / "ml-latest-small" / "ratings.csv.gz").sort("userId", "timestamp", maintain_order=True)
    expected = raw.group_by("userId", maintain_order=True).agg("movieId")
    assert sequences(data) == {str(u): [str(m) for m in movies] for u, movies in expected.iter_rows()}


def test_the_same_real_ratings_come_out_of_an_archive(shared_data, tmp_path):
    folder = shared_data / "movielens" / "ml-latest-small"
    if not folder.is_dir():
        pytest.skip("MovieLens latest-small is not in ../shared/data")
    files = {name: gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in ("ratings.csv", "movies.csv")}
    put(tmp_path / "raw" / "ml-latest-small.zip", zipped("latest-small", files))
    packed = prepared(tmp_path, "latest-small", k_core=5)
    loose = prepared(tmp_path, "latest-small", k_core=5, raw_dir=str(folder))
    assert packed.fingerprint == loose.fingerprint
    assert packed.folder != loose.folder
    assert (np.bincount(packed.items)[1:] >= 5).all()


def test_titles_of_the_real_1m_are_latin_1(shared_data, tmp_path):
    source = shared_data / "movielens" / "ml-1m" / "movies.dat.gz"
    if not source.is_file():
        pytest.skip("the movies of MovieLens 1m are not in ../shared/data")
    movies = gzip.decompress(source.read_bytes())
    ids = [line.split(b"::")[0].decode() for line in movies.splitlines()]
    put(tmp_path / "raw" / "movies.dat", movies)
    put(tmp_path / "raw" / "ratings.dat", ratings_text("1m", [(1, item, 5, 1) for item in ids]))
    table = prepared(tmp_path).item_table()
    assert table.height == 3_883
    assert table["title"].null_count() == 0
    assert table["categories"].list.len().min() == 1
    assert len(set(table["categories"].explode())) == 18
    titles = dict(table.select("item", "title").iter_rows())
    assert titles["73"] == "Misérables, Les (1995)"
