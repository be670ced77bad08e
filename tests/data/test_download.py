"""Downloads over a loopback server: resume, retry, records of what was fetched."""

import errno
import os
import threading
from pathlib import Path

import pytest

from recbench.core.disk import disk_errors
from recbench.core.errors import UserError
from recbench.data import download
from tests.fixtures.ports import free_port

BODY = bytes(range(256)) * 40_000  # ten blocks of the transfer
NO_WAIT = (0.0, 0.0)


def fetch(server, path: Path, backoff=NO_WAIT):
    return download.fetch(f"{server.url}/x.gz", path, backoff)


def test_a_fetched_file_has_its_bytes_and_a_record_that_checks(server, tmp_path):
    server.files["/x.gz"] = BODY
    path = tmp_path / "raw" / "x.gz"
    entry = fetch(server, path)
    assert path.read_bytes() == BODY
    assert entry["size"] == len(BODY)
    assert entry == download.check(path)
    assert entry["sha256"] == download.sha256(path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.gz", "x.gz.download.json", "x.gz.lock"]


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path):
    server.files["/x.gz"] = BODY
    server.break_after["/x.gz"] = 3_000_000
    fetch(server, tmp_path / "x.gz")
    assert (tmp_path / "x.gz").read_bytes() == BODY
    assert [r for _, r in server.requests] == [None, "bytes=3000000-"]


def test_what_a_killed_download_left_is_resumed_by_the_next_one(server, tmp_path):
    server.files["/x.gz"] = BODY
    server.break_after["/x.gz"] = 3_000_000
    with pytest.raises(download.DownloadFailed, match=r"ended after 3,000,000 of 10,240,000 bytes"):
        fetch(server, tmp_path / "x.gz", backoff=())
    assert not (tmp_path / "x.gz").exists()
    fetch(server, tmp_path / "x.gz", backoff=())
    assert (tmp_path / "x.gz").read_bytes() == BODY
    assert server.requests[-1] == ("/x.gz", "bytes=3000000-")


@pytest.mark.parametrize("change", ["other file on the server", "server without ranges"])
def test_a_head_that_does_not_fit_is_thrown_away(server, tmp_path, change):
    server.files["/x.gz"] = BODY
    server.break_after["/x.gz"] = 3_000_000
    with pytest.raises(download.DownloadFailed):
        fetch(server, tmp_path / "x.gz", backoff=())
    if change == "server without ranges":
        server.ranges = False
    else:
        server.files["/x.gz"] = BODY[::-1]
    fetch(server, tmp_path / "x.gz", backoff=())
    assert (tmp_path / "x.gz").read_bytes() == server.files["/x.gz"]


@pytest.mark.parametrize("left", [BODY, BODY + b"too much"])
def test_a_part_that_is_already_complete_or_too_long(server, tmp_path, left):
    server.files["/x.gz"] = BODY
    (tmp_path / "x.gz.part").write_bytes(left)
    (tmp_path / "x.gz.part.validator").write_text(f'"{hash(BODY)}"')
    fetch(server, tmp_path / "x.gz")
    assert (tmp_path / "x.gz").read_bytes() == BODY
    # The complete part costs one request without a body, the other one is fetched again.
    assert len(server.requests) == (1 if left == BODY else 2)


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.files["/x.gz"] = BODY
    server.errors = [503, 429]
    fetch(server, tmp_path / "x.gz")
    assert len(server.requests) == 3
    with pytest.raises(download.DownloadFailed, match=r"the server answered 404"):
        download.fetch(f"{server.url}/none.gz", tmp_path / "none.gz", NO_WAIT)
    assert len(server.requests) == 4


def test_no_server_is_a_failure_that_says_so(tmp_path):
    port = free_port()
    with pytest.raises(download.DownloadFailed, match="no connection"):
        download.fetch(f"http://127.0.0.1:{port}/x.gz", tmp_path / "x.gz", NO_WAIT)


def test_a_changed_file_is_refused_with_both_hashes_and_a_touched_one_is_not(server, tmp_path, monkeypatch):
    server.files["/x.gz"] = BODY
    path = tmp_path / "x.gz"
    entry = fetch(server, path)
    os.utime(path, (1, 1))
    assert download.check(path) == entry
    monkeypatch.setattr(download, "sha256", lambda _: pytest.fail("hashed although size and mtime are as recorded"))
    assert download.check(path) == entry
    monkeypatch.undo()
    path.write_bytes(BODY[:-1] + b"!")
    with pytest.raises(UserError, match=rf"SHA-256 is {download.sha256(path)}, was {entry['sha256']}; delete it"):
        download.check(path)


def test_two_that_want_one_file_cost_one_download(server, tmp_path):
    server.files["/x.gz"] = BODY
    threads = [threading.Thread(target=fetch, args=(server, tmp_path / "x.gz")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x.gz").read_bytes() == BODY
    assert len(server.requests) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(server, tmp_path):
    server.files["/x.gz"] = BODY
    (tmp_path / "x.gz.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"the disk is full under .*; free some space or set cache_dir"):
        fetch(server, tmp_path / "x.gz")


def test_a_folder_that_cannot_be_made_is_one_clear_line(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write under .*cache_dir"):
        fetch(server, tmp_path / "file" / "x.gz")


def test_disk_errors_name_a_foreign_file_and_let_other_errors_pass(tmp_path):
    with pytest.raises(UserError, match=r"cannot open /elsewhere/raw.gz"), disk_errors(tmp_path, "cache_dir"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/raw.gz")
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path, "cache_dir"):
        raise ZeroDivisionError


def test_hash_file_hashes_once_until_the_file_changes(tmp_path, monkeypatch):
    path, hashed = tmp_path / "x.csv", []
    path.write_bytes(b"a")
    original = download.sha256
    monkeypatch.setattr(download, "sha256", lambda p: hashed.append(p) or original(p))
    first = download.hash_file(path, tmp_path / "cache")
    assert download.hash_file(path, tmp_path / "cache") == first
    assert len(hashed) == 1
    path.write_bytes(b"b!")
    assert download.hash_file(path, tmp_path / "cache")["sha256"] == original(path) != first["sha256"]
    assert len(hashed) == 2
