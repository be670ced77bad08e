"""A disk that is full, wherever: one line, exit status 2, and the same command goes on once there is space."""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import sqlite3
from pathlib import Path

import pytest

from recbench.core import disk
from recbench.core.disk import DiskFull, explained, is_full, new_array, write_atomically
from recbench.core.run_folder import LogFile, RunFolder, replacing

#: A model whose weights are the largest file but for the checkpoint.
WORDS = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.max_epochs=2"]


@contextlib.contextmanager
def no_file_longer_than(n_bytes: int):
    """The kernel refuses to make a file longer than this, as a full disk would; libraries of any language meet it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def full_at(monkeypatch, name: str):
    """Writing a file of that name fails as on a full disk, in the words of whatever library writes it."""
    plain = disk.os.replace

    def refuse(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(disk.os, "replace", refuse)
        yield


def is_one_line(found) -> bool:
    lines = [line for line in found.err.splitlines() if line.startswith("error:")]
    return len(lines) == 1 and "Traceback" not in found.err and "the disk is full" in lines[0]


@pytest.mark.parametrize("limit", [200, 2_000, 9_000])
def test_files_that_cannot_grow(cli, tiny, tmp_path, limit):
    """Of the config, of the weights, of the checkpoint: whichever is the first that is too long."""
    cli("model=popularity", *tiny, cwd=tmp_path)  # prepares the data
    with no_file_longer_than(limit):
        found = cli(*WORDS, *tiny, cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)
    again = cli(*WORDS, *tiny, cwd=tmp_path)
    assert again.status == 0, again.err
    assert not list((tmp_path / "runs").rglob("*.tmp"))


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "provenance.json", "history.jsonl", "weights.safetensors", "resume.ckpt", "ranks.parquet", "metrics.json"],
)  # fmt: skip
def test_every_file_of_a_run(cli, tiny, tmp_path, monkeypatch, name):
    with full_at(monkeypatch, name):
        found = cli(*WORDS, *tiny, cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)
    assert name in found.err
    (folder,) = (tmp_path / "runs").glob("sasrec-*")
    assert RunFolder(folder).state == "failed"
    assert cli(*WORDS, *tiny, cwd=tmp_path).status == 0
    assert RunFolder(folder).finished


def test_a_job_of_a_sweep_and_its_record(cli, tiny, tmp_path, monkeypatch):
    with full_at(monkeypatch, "ranks.parquet"):
        found = cli("-m", "model=popularity,markov", *tiny, cwd=tmp_path)
    assert found.status == 2
    assert "Traceback" not in found.err
    assert "0 of 2 jobs finished" in found.out
    with full_at(monkeypatch, "job-00000.json"):
        found = cli("-m", "model=popularity,markov", *tiny, cwd=tmp_path)
    assert found.status == 2
    assert "Traceback" not in found.err
    assert cli("-m", "model=popularity,markov", *tiny, cwd=tmp_path).status == 0


def test_the_cache(cli, tiny, tmp_path):
    words = ["model=popularity", *tiny, f"cache_dir={tmp_path}/cache"]
    with no_file_longer_than(500):
        found = cli(*words, cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)
    assert "cache_dir" in found.err
    assert cli(*words, cwd=tmp_path).status == 0


def test_the_candidates_of_a_protocol(cli, tiny, tmp_path):
    words = [
        "model=popularity",
        *tiny,
        f"cache_dir={tmp_path}/cache",
        "protocol=sampled_999",
        "protocol.n_candidates=20",
    ]
    assert cli("model=popularity", *tiny, f"cache_dir={tmp_path}/cache", cwd=tmp_path).status == 0
    with no_file_longer_than(400):
        found = cli(*words, cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)
    assert cli(*words, cwd=tmp_path).status == 0


def test_a_database_that_cannot_grow_is_one_line_and_the_run_is_whole(cli, tiny, tmp_path):
    words = [word for word in tiny if word != "tracking=off"]
    with no_file_longer_than(100_000):
        found = cli("model=popularity", *words, cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)
    assert "recbench tracking sync" in found.err
    assert "ndcg@10" in found.out  # its table stands
    (folder,) = (tmp_path / "runs").glob("popularity-*")
    assert RunFolder(folder).finished
    assert not (tmp_path / "mlflow.db").exists()


def test_a_report_and_its_tables(folders, cli, tmp_path):
    folders.add("sasrec-1")
    with no_file_longer_than(3_000):
        found = cli("report", f"runs_dir={folders.path}", "tracking=off", cwd=tmp_path)
    assert found.status == 2
    assert is_one_line(found)


def test_output_that_nobody_can_take(cli, tmp_path, monkeypatch):
    import sys

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            return None

    from recbench.cli.main import main

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["doctor", "--json"]) == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), OSError(errno.EFBIG, "x"), sqlite3.OperationalError("database or disk is full"),
        OSError("120 requested and 7 written"), RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
    ],
)  # fmt: skip
def test_whatever_words_a_library_has_for_it(tmp_path, error):
    assert is_full(error)
    assert str(explained(error)).startswith("the disk is full")
    outer = RuntimeError("wrapped")
    outer.__cause__ = error
    assert is_full(outer)
    with pytest.raises(OSError, match="No space left") as caught, write_atomically(tmp_path / "a"):
        raise error
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(DiskFull, match=r"cannot write .*a: No space"), replacing(tmp_path / "a"):
        raise error


def test_other_errors_are_not_put_down_to_the_disk():
    assert explained(ValueError("odd")) is None
    assert explained(OSError(errno.EACCES, "no")) is None


def test_an_array_takes_its_space_before_it_is_filled(tmp_path):
    with no_file_longer_than(10_000), pytest.raises(OSError) as caught:
        new_array(tmp_path / "a.npy", "float32", (100, 100))
    assert is_full(caught.value)
    array = new_array(tmp_path / "b.npy", "float32", (100, 100))
    assert (tmp_path / "b.npy").stat().st_blocks * 512 >= array.nbytes


def test_a_log_that_cannot_grow_says_so_once(tmp_path, capfd, monkeypatch):
    logger = logging.getLogger("recbench")
    handler = LogFile(tmp_path / "log.txt")
    monkeypatch.setattr(logger, "handlers", [handler])  # what stderr is caught in may not grow either
    monkeypatch.setattr(logger, "propagate", False)  # nor what Hydra's handlers write to, where a sweep has left them
    try:
        with no_file_longer_than(300):
            for _ in range(40):
                logger.warning("a line that is some fifty letters long, or a little more")
    finally:
        handler.close()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "--- Logging error" not in said
    assert handler.broken
