"""Tables at addresses, from an S3 server on loopback; Spark's folders, there and here; and what is said where something is missing."""

from __future__ import annotations

import os

import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.clicks.build import click_split
from recbench.data.clicks.protocol import ClicksConfig
from recbench.data.sources.object_store import fetched
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.sources.table_open import parquet_parts
from recbench.data.store import prepare

COLUMNS = Columns(user="user", item="item", timestamp="time")


def events(parts=3):
    pairs = [(u, s) for u in range(30) for s in range(6)]
    columns = {
        "user": [f"u{u}" for u, _ in pairs],
        "item": [f"i{(u * 7 + s * s) % 12}" for u, s in pairs],
        "time": [1_400_000_000 + 60 * s + u for u, s in pairs],
    }
    rows = pl.DataFrame(columns)
    return [rows[i::parts] for i in range(parts)]


def spark_folder(folder):
    """As Spark's writer with partitionBy leaves it, with the rest of a job that was cut off."""
    for number, part in enumerate(events()):
        place = folder / f"day=2014-05-{number + 10}"
        place.mkdir(parents=True)
        part.write_parquet(place / f"part-0000{number}.snappy.parquet")
        (place / f".part-0000{number}.snappy.parquet.crc").write_bytes(b"crc")
    (folder / "_temporary").mkdir()
    events()[0].write_parquet(folder / "_temporary" / "part-9.parquet")
    (folder / "_SUCCESS").touch()


def test_a_folder_of_spark_is_read_as_it_is(tmp_path):
    spark_folder(tmp_path / "log.parquet")
    assert len(parquet_parts(tmp_path / "log.parquet")) == 3
    data = prepare(TableConfig(path=str(tmp_path / "log.parquet"), columns=COLUMNS, k_core=0), tmp_path / "cache")
    assert (data.n_interactions, data.n_users) == (180, 30)


def test_an_unknown_scheme_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing here reads nowhere://"):
        fetched("nowhere://bucket/x.csv", tmp_path, "data.path")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A bucket "logs" on an S3 server of this machine, and credentials for it."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key-of-a-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("logs")
        local = tmp_path_factory.mktemp("local")
        spark_folder(local / "spark")
        store.put(str(local / "spark"), "logs/spark", recursive=True)
        for number, part in enumerate(events()):
            part.write_csv(local / f"part-{number}.csv")
            store.put(str(local / f"part-{number}.csv"), f"logs/csv/part-{number}.csv")
        yield store
    server.stop()


def test_rows_of_a_store_are_asked_about_clicks_too(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    rows = "".join(f"u{n % 7},i{n % 5},{1 + n % 4},{1400000000 + n}\n" for n in range(120))
    fsspec.filesystem("memory").pipe("/logs/rated.csv", f"user,item,stars,time\n{rows}".encode())
    columns = Columns(user="user", item="item", timestamp="time", rating="stars")
    split = click_split(
        TableConfig(path="memory://logs/rated.csv", columns=columns, k_core=0), ClicksConfig(label_above=2), tmp_path
    )
    assert len(split.clicks) == 120
    assert split.clicks.label.mean() == 0.5


@pytest.mark.services
def test_globs_and_spark_folders_of_a_bucket(bucket, tmp_path):
    here = prepare(TableConfig(path="s3://logs/csv/part-*.csv", columns=COLUMNS, k_core=0), tmp_path)
    spark = prepare(TableConfig(path="s3://logs/spark", columns=COLUMNS, k_core=0), tmp_path)
    joined = prepare(
        TableConfig(
            raw_dir="s3://logs/csv", path=["part-0.csv", "part-1.csv", "part-2.csv"], columns=COLUMNS, k_core=0
        ),
        tmp_path,
    )
    assert here.fingerprint == spark.fingerprint == joined.fingerprint
    kept = sorted((tmp_path / "fetched").rglob("part-*"))
    assert len(kept) == 6
    before = [path.stat().st_mtime_ns for path in kept]
    prepare(TableConfig(path="s3://logs/csv/part-*.csv", columns=COLUMNS, k_core=0), tmp_path)
    assert [path.stat().st_mtime_ns for path in kept] == before
    bucket.pipe("logs/csv/part-0.csv", b"user,item,time\nu1,i1,1400000000\n")
    bucket.invalidate_cache()
    import fsspec

    fsspec.filesystem("s3").invalidate_cache()
    changed = prepare(TableConfig(path="s3://logs/csv/part-*.csv", columns=COLUMNS, k_core=0), tmp_path)
    assert changed.fingerprint != here.fingerprint


@pytest.mark.services
def test_what_a_store_refuses_is_one_line_without_secrets(bucket, tmp_path, monkeypatch):
    for address, message in (
        ("s3://no-such-bucket/x.csv", "no such bucket or file|there is no file at"),
        ("s3://logs/csv/none-*.csv", "there is no file at s3://logs/csv/none"),
    ):
        with pytest.raises(UserError, match=message) as said:
            fetched(address, tmp_path, "data.path")
        assert "secret-of-a-test" not in str(said.value)
        assert "\n" not in str(said.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"no credentials for s3://logs/csv/other\.csv|refuses s3://logs"):
        fetched("s3://logs/csv/other.csv", tmp_path, "data.path")


@pytest.mark.services
def test_raw_folders_partitions_and_runs_of_a_bucket(bucket, tmp_path, monkeypatch):
    """What test_addresses.py and test_copies.py ask of a store in memory, asked of S3."""
    import s3fs

    from recbench.config import runs_address
    from recbench.config.compose import compose
    from recbench.data.sources.movielens import MovieLensConfig
    from recbench.experiment.run import run

    s3fs.S3FileSystem.clear_instance_cache()  # the one of the test before has no credentials
    ratings = "".join(f"{n % 6}::{n % 5}::4::{978300000 + n}\n" for n in range(40)).encode()
    bucket.pipe("logs/ml/ml-1m/ratings.dat", ratings)
    there = prepare(MovieLensConfig(version="1m", k_core=0, raw_dir="s3://logs/ml"), tmp_path / "cache")
    assert there.n_interactions == 40
    days = Columns(user="user", item="item", timestamp="day")
    partitioned = prepare(TableConfig(path="s3://logs/spark", columns=days, k_core=0), tmp_path / "cache")
    assert (partitioned.manifest["first_date"], partitioned.manifest["last_date"]) == ("2014-05-10", "2014-05-12")
    monkeypatch.chdir(tmp_path)
    runs_address.local_runs.cache_clear()
    words = ("model=popularity", "data.n_users=200", "data.n_items=80", "tracking=off", "hardware=cpu")
    made = run(compose((*words, "runs_dir=s3://logs/runs", f"cache_dir={tmp_path}/cache")))
    assert bucket.exists(f"logs/runs/{made.folder.key}/status.json")
    with pytest.raises(UserError, match="there is no such bucket or file: s3://no-such-bucket/ml"):
        prepare(MovieLensConfig(version="1m", raw_dir="s3://no-such-bucket/ml"), tmp_path / "cache")
    with pytest.raises(UserError, match="there is no such bucket or file: s3://no-such-bucket/runs"):
        compose((*words, "runs_dir=s3://no-such-bucket/runs"))
