"""Addresses in place of raw folders and files, for every source that says what it reads; and the columns that folders of a table name.

The store is fsspec's own in memory; the S3 server of test_object_store.py is for what only a real store says.
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import download
from recbench.data.beside_config import FeaturesConfig, KnowledgeConfig, UsersConfig
from recbench.data.features import item_features
from recbench.data.knowledge import knowledge
from recbench.data.local_files import local_texts
from recbench.data.sources.amazon import AmazonConfig
from recbench.data.sources.diginetica import DigineticaConfig
from recbench.data.sources.movielens import MovieLensConfig
from recbench.data.sources.session_file import SessionFileConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.store import prepare
from recbench.data.text_config import TextConfig
from recbench.data.user_attributes import user_attributes
from recbench.data.user_text import user_texts

REVIEWS = "".join(
    json.dumps({"reviewerID": f"A{n % 7}", "asin": f"B{n % 5}", "overall": 5.0, "unixReviewTime": 1393545600 + n})
    + "\n"
    for n in range(60)
)
META = "".join(json.dumps({"asin": f"B{n}", "title": f"Toy {n}"}) + "\n" for n in range(5))


@pytest.fixture
def store():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def test_each_source_reads_its_folder_at_an_address_as_it_reads_one_here(store, tmp_path):
    ratings = "".join(f"{n % 6}::{n % 5}::4::{978300000 + n}\n" for n in range(40))
    views = "sessionId;userId;itemId;timeframe;eventdate\n" + "".join(
        f"{n // 4};NA;{n % 6};{n * 1000};2016-05-09\n" for n in range(40)
    )
    files = {
        "amazon/2018/Toys_and_Games_5.json.gz": gzip.compress(REVIEWS.encode()),
        "amazon/meta_Toys_and_Games.json": META.encode(),
        "ml/ml-1m/ratings.dat": ratings.encode(),
        "ml/ml-1m/movies.dat": b"1::One (1990)::Drama\n",
        "ml/ml-1m/users.dat": b"".join(b"%d::F::25::%d::0\n" % (n, n) for n in range(6)),
        "cup/train-item-views.csv": views.encode(),
        "sets/mine/train.txt": b"1 2 3\n2 3\n",
        "sets/mine/test.txt.gz": gzip.compress(b"3 1\n"),
    }
    for name, content in files.items():
        store.pipe(f"/raw/{name}", content)
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(content)
    configs = {
        "amazon": AmazonConfig(version="2018", category="Toys and Games", k_core=0),
        "ml": MovieLensConfig(version="1m", k_core=0),
        "cup": DigineticaConfig(),
        "sets/mine": SessionFileConfig(),
    }
    for folder, config in configs.items():
        config.raw_dir = str(tmp_path / "raw" / folder)
        here = prepare(config, tmp_path / "cache")
        config.raw_dir = f"memory://raw/{folder}"
        there = prepare(config, tmp_path / "other")
        assert there.folder.name == here.folder.name
        assert there.fingerprint == here.fingerprint
        assert there.has_text == here.has_text == (folder in ("amazon", "ml"))
    users = user_attributes(prepare(configs["ml"], tmp_path / "other"), configs["ml"], tmp_path / "other")
    assert sorted(users["occupation"]) == ["0", "1", "2", "3", "4", "5"]
    store.mv("/raw/cup/train-item-views.csv", "/raw/cup/other.csv")
    with pytest.raises(UserError, match=r"memory://raw/cup has none of the files that are read: train-item-views\.csv"):
        prepare(DigineticaConfig(raw_dir="memory://raw/cup"), tmp_path / "new")


def test_files_beside_the_events_lie_at_addresses_too(store, tmp_path):
    store.pipe(
        "/log/events.csv", b"user,item,timestamp\n" + b"".join(b"u%d,i%d,%d\n" % (n % 4, n % 3, n) for n in range(24))
    )
    np.save(tmp_path / "image.npy", np.arange(6.0).reshape(3, 2))
    store.put(str(tmp_path / "image.npy"), "/log/image.npy")
    store.pipe("/log/image.txt", b"i2\ni0\ni1\n")
    store.pipe("/log/kg.txt", b"i0\tmade_by\tA\ni1\tmade_by\tA\n")
    store.pipe("/users.csv", b"user,group,says\nu0,a,likes tea\nu1,b,\n")
    config = TableConfig(
        raw_dir="memory://log",
        path="events.csv",
        k_core=0,
        features=FeaturesConfig(image="image.npy"),
        knowledge=KnowledgeConfig(path="kg.txt"),
        users=UsersConfig(path="memory://users.csv", text="says"),
    )
    data = prepare(config, tmp_path / "cache")
    row = dict(zip(data.item_table()["item"], data.item_table()["item_id"], strict=True))
    vectors = item_features(data, config, tmp_path / "cache")["image"]
    assert [vectors[row[name]].tolist() for name in ("i2", "i0", "i1")] == [[0, 1], [2, 3], [4, 5]]
    assert len(knowledge(data, config, tmp_path / "cache").triples) == 2
    assert sorted(user_attributes(data, config, tmp_path / "cache")["group"].drop_nulls()) == ["a", "b"]
    assert sorted(user_texts(data, config, tmp_path / "cache", data.offsets[1:])) == ["", "", "", "likes tea"]
    texts = local_texts(TextConfig(encoder="file", path="memory://log/image.npy"), tmp_path / "cache")
    assert np.load(texts.path).shape == (3, 2)


def test_a_mirror_may_be_an_address(store, tmp_path):
    store.pipe("/mirror/a.bin", b"four")
    found = download.fetch("memory://mirror/a.bin", tmp_path / "a.bin")
    assert (found["size"], (tmp_path / "a.bin").read_bytes()) == (4, b"four")
    with pytest.raises(download.DownloadFailed, match="no such bucket or file: memory://mirror/b"):
        download.fetch("memory://mirror/b.bin", tmp_path / "b.bin")


def test_folders_of_a_partitioned_table_are_columns(store, tmp_path):
    def write(folder, days):
        for at, day in enumerate(days):
            place = folder / f"country=fr/day={day}"
            place.mkdir(parents=True)
            rows = {"user": [f"u{n}" for n in range(6)], "item": [f"i{(n + at) % 4}" for n in range(6)]}
            pl.DataFrame(rows).write_parquet(place / "part-0.parquet")
        (folder / "_SUCCESS").touch()
        return TableConfig(path=str(folder), columns=Columns(timestamp="day"), k_core=0)

    first = prepare(write(tmp_path / "a", ["2014-05-01", "2014-05-02"]), tmp_path / "cache")
    assert (first.manifest["first_date"], first.manifest["last_date"]) == ("2014-05-01", "2014-05-02")
    assert first.n_interactions == 12
    later = prepare(write(tmp_path / "b", ["2014-06-01", "2014-06-02"]), tmp_path / "cache")
    assert later.manifest["first_date"] == "2014-06-01"  # the files are the same bytes
    store.put(str(tmp_path / "a"), "/spark", recursive=True)
    there = prepare(TableConfig(path="memory://spark", columns=Columns(timestamp="day"), k_core=0), tmp_path / "cache")
    assert there.fingerprint == first.fingerprint
    unknown = write(tmp_path / "c", ["2014-05-01", "__HIVE_DEFAULT_PARTITION__"])
    with pytest.raises(UserError, match="no timestamp"):
        prepare(unknown, tmp_path / "cache")
    behaviours = TableConfig(path=str(tmp_path / "a"), columns=Columns(timestamp="day", behaviour="country"), k_core=0)
    assert prepare(behaviours, tmp_path / "cache").manifest["behaviours"] == ["fr"]


def test_what_takes_no_address_says_so(tmp_path):
    with pytest.raises(UserError, match="raw_dir"):
        prepare(SyntheticConfig(raw_dir="memory://x"), tmp_path)
