"""``runs_dir`` at an address: runs are made here, copied when they are complete, and found there by another machine."""

from __future__ import annotations

import logging

import pytest

from recbench.config import runs_address
from recbench.config.compose import compose
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.experiment.run import run

WORDS = ("model=popularity", "tracking=off", "hardware=cpu", "data.n_users=200", "data.n_items=80")


@pytest.fixture
def store(tmp_path, monkeypatch):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    runs_address.local_runs.cache_clear()
    monkeypatch.chdir(tmp_path)
    yield memory
    memory.store.clear()
    runs_address.local_runs.cache_clear()


def made(tmp_path, address="memory://team/runs"):
    return run(compose((*WORDS, f"runs_dir={address}", f"cache_dir={tmp_path}/cache")))


def test_a_finished_run_is_copied_and_another_machine_finds_it(store, tmp_path, monkeypatch):
    first = made(tmp_path)
    key = first.folder.key
    assert first.folder.path == tmp_path / "runs_at" / "memory" / "team" / "runs" / key
    names = {name.removeprefix(f"/team/runs/{key}/") for name in store.find(f"/team/runs/{key}")}
    assert {"config.yaml", "metrics.json", "weights.safetensors", "ranks.parquet", "status.json"} <= names
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    runs_address.local_runs.cache_clear()
    second = made(tmp_path)
    assert second.reused
    assert (tmp_path / "second") in second.folder.path.parents
    assert second.metrics == first.metrics
    RunFolder(second.folder.path).check_whole()


def test_a_store_that_fails_ends_no_run(store, tmp_path, monkeypatch, caplog):
    import fsspec.implementations.memory as memory

    def full(*_, **__):
        raise OSError("quota")

    config = compose((*WORDS, "runs_dir=memory://team/runs", f"cache_dir={tmp_path}/cache"))
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "recbench"):
        broken.setattr(memory.MemoryFileSystem, "put_file", full)
        found = run(config)
    assert found.folder.finished
    assert "is complete here and not copied: runs_dir: memory://team/runs cannot be reached" in caplog.text
    assert not store.exists(f"/team/runs/{found.folder.key}/status.json")
    assert run(config).reused
    assert store.exists(f"/team/runs/{found.folder.key}/status.json")


def test_what_cannot_be_is_one_line(store, tmp_path):
    for word, message in (
        ("runs_dir=nowhere://bucket/runs", "nothing here reads nowhere://"),
        ("runs_dir=s3://me:secret@host/runs", "must hold no password"),
        ("runs_dir=memory://", "names no bucket"),
        ("cache_dir=s3://bucket/cache", "arrays are mapped from a folder of this disk"),
    ):
        with pytest.raises(UserError, match=message) as said:
            compose((*WORDS, word))
        assert "secret" not in str(said.value)
