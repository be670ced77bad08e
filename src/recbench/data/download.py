"""Fetching raw files, and knowing that they are still the ones that were fetched.

``fetch`` resumes an interrupted transfer from its ``.part`` file and writes beside the finished file a record
``<name>.download.json`` with URL, size and SHA-256. ``check`` compares a file with its record; ``hash_file`` hashes any
other file, once per (path, size, mtime). urllib does all of it: nothing here needs more than GET with a Range header.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import hashlib
import http.client
import json
import logging
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbench.core.disk import disk_errors, write_atomically
from recbench.core.errors import UserError
from recbench.core.secrets import redact_addresses, reveal
from recbench.core.transfer_bar import Progress

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20.0
#: How long a server may take to say how large a file is.
HEAD_SECONDS = 5.0
#: Waits between attempts, in seconds; one attempt more than there are waits.
BACKOFF_SECONDS = (1.0, 2.0, 4.0)
BLOCK_BYTES = 1 << 20
#: Schemes of addresses that urllib reads.
URLLIB = ("http", "https", "ftp", "file")


class DownloadFailed(Exception):
    """A file could not be fetched; the message is the reason. The caller knows what else the user can do."""


class _Passing(Exception):
    """A failure that may be gone at the next attempt."""


_OFFLINE: contextvars.ContextVar[bool] = contextvars.ContextVar("offline", default=False)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it nothing is fetched: for what only reads, such as a report."""
    token = _OFFLINE.set(True)
    try:
        yield
    finally:
        _OFFLINE.reset(token)


def is_offline() -> bool:
    """Whether nothing is to be fetched here."""
    return _OFFLINE.get()


def size_words(url: str, about_bytes: float | None = None) -> str:
    """How large a file is, for a message: as its server says, else about as large as is known, else that it is not known."""
    found = None if is_offline() else _content_length(url)
    if found is not None:
        return f"{_megabytes(found)} MB"
    return f"about {_megabytes(about_bytes)} MB" if about_bytes else "its size is not known here"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


def _content_length(url: str) -> int | None:
    """What the server says without sending the file; None where it does not answer at once."""
    request = urllib.request.Request(
        url, method="HEAD", headers={"User-Agent": "recbench", "Accept-Encoding": "identity"}
    )
    try:
        with urllib.request.urlopen(request, timeout=HEAD_SECONDS) as response:
            return int(response.headers["Content-Length"])
    except (OSError, ValueError, TypeError, http.client.HTTPException):
        return None


def fetch(url: str, path: Path, backoff: tuple[float, ...] | None = None) -> dict[str, Any]:
    """Download ``url`` to ``path`` (resuming ``path.part``), record size and SHA-256, return {"path", "size",
    "sha256"}.

    Two processes that want the same file: the second waits for the first and takes its file. Raises DownloadFailed if
    the server cannot be reached or has no such file, UserError if the disk is full or read-only.
    """
    from filelock import FileLock

    with disk_errors(path.parent, "cache_dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists() and has_record(path):
                return check(path)
            if _OFFLINE.get():
                raise DownloadFailed("nothing is downloaded here")
            log.info("downloading %s", url)
            if urllib.parse.urlsplit(url).scheme not in URLLIB:
                return _from_store(url, path)
            _attempts(url, path.with_name(path.name + ".part"), BACKOFF_SECONDS if backoff is None else backoff)
            return _finish(url, path)


def _from_store(url: str, path: Path) -> dict[str, Any]:
    """A file of an object store (s3, gs, az, hf): through fsspec, whole or not at all."""
    from recbench.data.sources.object_store import store_of

    part = path.with_name(path.name + ".part")
    try:
        with store_of(url, "data.mirror") as (store, place):
            store.get_file(place, str(part))
    except UserError as error:
        part.unlink(missing_ok=True)
        raise DownloadFailed(str(error)) from error
    return _finish(url, path)


def check(path: Path) -> dict[str, Any]:
    """{"path", "size", "sha256"} of a downloaded file that is still what its record says.

    Size and mtime as recorded are trusted; otherwise the file is hashed again. Raises UserError naming both hashes if
    it is another file by now, FileNotFoundError if it has no record.
    """
    record_path = _record_path(path)
    record = json.loads(record_path.read_text(encoding="utf-8"))
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (record["size"], record["mtime_ns"]):
        found = sha256(path)
        if found != record["sha256"]:
            raise UserError(
                f"{path} is not the file that was downloaded: SHA-256 is {found}, was {record['sha256']}; "
                f"delete it to download it again from {record['url']}"
            )
        _write_json(record_path, {**record, "mtime_ns": status.st_mtime_ns})
    return {"path": str(path), "size": record["size"], "sha256": record["sha256"]}


def has_record(path: Path) -> bool:
    """True if ``fetch`` brought this file."""
    return _record_path(path).exists()


def hash_file(path: Path, cache_dir: Path) -> dict[str, Any]:
    """{"path", "size", "sha256"} of any file; the hash is kept under ``cache_dir`` until size or mtime change."""
    path = path.resolve()
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns]
    name = hashlib.blake2b(os.fsencode(path), digest_size=12).hexdigest()
    kept = cache_dir / "hashes" / f"{name}.json"
    try:
        record = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    if record.get("path") != str(path) or record.get("state") != state:
        record = {"path": str(path), "state": state, "sha256": sha256(path)}
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            _write_json(kept, record)
        except OSError as error:
            # Prepared data in a read-only cache can still be used; only this hash is computed each time.
            log.info("the hash of %s is not kept: %s", path.name, error)
    return {"path": str(path), "size": status.st_size, "sha256": record["sha256"]}


def sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".download.json")


def _write_json(path: Path, record: dict[str, Any]) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")


def _finish(url: str, path: Path) -> dict[str, Any]:
    """Give the complete ``.part`` file its name. The record goes first, so that no file is ever without one."""
    part = path.with_name(path.name + ".part")
    status = part.stat()
    record = {
        "url": redact_addresses(url),
        "size": status.st_size,
        "sha256": sha256(part),
        "mtime_ns": status.st_mtime_ns,
    }
    _write_json(_record_path(path), record)
    os.replace(part, path)
    _validator_path(part).unlink(missing_ok=True)
    log.info("downloaded %s (%s MB, SHA-256 %s)", path, f"{status.st_size / 1e6:,.1f}", record["sha256"])
    return {"path": str(path), "size": record["size"], "sha256": record["sha256"]}


def _attempts(url: str, part: Path, backoff: tuple[float, ...]) -> None:
    for wait in (*backoff, None):
        try:
            return _transfer(url, part)
        except _Passing as problem:
            if wait is None:
                raise DownloadFailed(str(problem)) from problem
            log.warning("%s: %s; trying again in %g s", url, problem, wait)
            time.sleep(wait)


def _request(url: str) -> urllib.request.Request:
    """With the secrets of the address, which stand nowhere else; user and password go as basic authentication."""
    place = urllib.parse.urlsplit(reveal(url))
    user, at, host = place.netloc.rpartition("@")
    headers = {"User-Agent": "recbench", "Accept-Encoding": "identity"}
    if at:
        headers["Authorization"] = "Basic " + base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return urllib.request.Request(urllib.parse.urlunsplit(place._replace(netloc=host)), headers=headers)


def _transfer(url: str, part: Path) -> None:
    """One attempt: append to ``part`` until it is complete."""
    done = part.stat().st_size if part.exists() else 0
    request = _request(url)
    validator = _read_validator(part)
    if done and validator:
        # If-Range: a file that changed on the server comes whole, instead of a tail that does not fit our head.
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            done = done if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length is not None else None
            _validator_path(part).write_text(_validator_of(response.headers), encoding="utf-8")
            done = _copy(response, part, done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            if error.headers.get("Content-Range", "").endswith(f"/{done}"):
                return  # complete: the last run was stopped between the last byte and the new name
            part.unlink()
            raise _Passing("the partial file does not fit the server's; starting over") from error
        problem = f"the server answered {error.code} {error.reason}"
        raise (_Passing if error.code == 429 or error.code >= 500 else DownloadFailed)(problem) from error
    except urllib.error.URLError as error:
        unknown_host = isinstance(error.reason, socket.gaierror)
        raise (DownloadFailed if unknown_host else _Passing)(f"no connection ({error.reason})") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Passing(f"the connection broke ({error!r})") from error
    if total is not None and done != total:
        raise _Passing(f"the connection ended after {done:,} of {total:,} bytes")


def _copy(response: http.client.HTTPResponse, part: Path, done: int, total: int | None) -> int:
    with part.open("ab" if done else "wb") as out, Progress(f"downloading {part.stem}", total, done) as progress:
        while block := response.read(BLOCK_BYTES):
            out.write(block)
            done += len(block)
            progress.to(done)
    return done


def _validator_path(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _validator_of(headers: Any) -> str:
    etag = headers.get("ETag") or ""
    return headers.get("Last-Modified") or "" if etag.startswith("W/") or not etag else etag


def _read_validator(part: Path) -> str:
    path = _validator_path(part)
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
