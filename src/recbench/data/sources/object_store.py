"""Files at addresses (s3://, gs://, az://, hf:// and whatever fsspec knows), brought to this disk before they are read.

A file is fetched whole or not at all into ``cache_dir/fetched``, under a hash of its address, size and version, and found there again: a file
that was replaced in the store is another one. Credentials are those of the store's own library, such as AWS_ACCESS_KEY_ID or ~/.aws; another
server than Amazon's is named with AWS_ENDPOINT_URL. No message holds either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recbench.core.disk import write_atomically
from recbench.core.errors import MissingData, UserError
from recbench.core.secrets import redact

log = logging.getLogger(__name__)

#: Scheme of an address -> what pip calls the package that reads it.
PACKAGES = {
    "s3": "recbench[s3]",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
}
#: Files of a folder that a source reads. Each want is a list of options, best first, of which the first that is there entirely is taken; an option
#: is a list of files, each by the names that it may have.
Wants = Sequence[Sequence[Sequence[Sequence[str]]]]

#: What a store says of a file that tells it from another of the same address.
VERSIONS = ("ETag", "etag", "generation", "last_modified", "LastModified", "mtime")


def is_address(value: Any) -> bool:
    """
    >>> is_address("s3://bucket/part-*.parquet"), is_address("events.csv"), is_address(1)
    (True, False, False)
    """
    return isinstance(value, str) and "://" in value


def base_address(config: Any) -> str | None:
    """``data.raw_dir`` where it is an address, without a slash at its end."""
    return str(config.raw_dir).rstrip("/") if is_address(config.raw_dir) else None


def local_files(value: Any, base: str | None, cache_dir: Path, key: str) -> Any:
    """What a setting names (a file, a pattern, or several), with files of this disk in place of addresses. base: where relative names begin, if
    that is an address. Raises UserError for a store, a bucket or a file that cannot be reached."""
    if not value:
        return value
    named = [value] if isinstance(value, str | Path | int | float) else list(value)
    if base is None and not any(map(is_address, named)):
        return value
    found: list[Any] = []
    for name in named:
        address = under(base, name)
        found += fetched(address, cache_dir, key) if is_address(address) else [name]
    return found if len(found) > 1 or not isinstance(value, str) else found[0]


def under(base: str | None, name: Any) -> str:
    """What a setting names, below the address ``base`` where there is one and the name is relative.

    >>> under("s3://bucket/a", "b.npy"), under("s3://bucket/a", "/b.npy"), under(None, "b.npy")
    ('s3://bucket/a/b.npy', '/b.npy', 'b.npy')
    """
    relative = not is_address(name) and not Path(str(name)).expanduser().is_absolute()
    return f"{base}/{name}" if base is not None and relative else str(name)


def fetched(address: str, cache_dir: Path, key: str) -> list[str]:
    """The files of an address, a pattern or a folder of Parquet parts, as files of this disk in the order of their names. Raises UserError."""
    with store_of(address, key) as (store, place):
        names = _names(store, place)
        if not names:
            raise MissingData(f"{key}: there is no file at {redact(address)}")
        return [str(_fetch(store, name, cache_dir)) for name in names]


def _names(store: Any, place: str) -> list[str]:
    if any(c in place for c in "*?["):
        return sorted(name for name in store.glob(place) if not store.isdir(name))
    if not store.isdir(place):
        return [place] if store.exists(place) else []
    found = sorted(name for name in store.find(place) if name.endswith(".parquet"))
    inside = [(name, name.removeprefix(place).strip("/").split("/")) for name in found]
    return [name for name, parts in inside if not any(part[0] in "_." for part in parts)]


def mirrored(address: str, wants: Wants, cache_dir: Path, key: str) -> Path:
    """A folder of this disk with those files of a folder at an address that are wanted; where the address is that of a file, this file.

    wants: see ``Wants``. What is wanted and not there is left out, but where nothing of the first want is there, UserError is raised.
    """
    with store_of(address, key) as (store, root):
        if _is_file(store, root):
            return _fetch(store, root, cache_dir)
        chosen: dict[str, Path] = {}
        for number, options in enumerate(wants):
            found = next((each for option in options if (each := _there(store, root, option))), [])
            if not found and number == 0:
                if not store.exists(root):
                    raise FileNotFoundError(root)
                names = ", ".join(dict.fromkeys(option[0][0] for option in options))
                raise MissingData(f"{key}: {redact(address)} has none of the files that are read: {names}")
            chosen |= {name: _fetch(store, f"{root}/{name}", cache_dir) for name in found}
    told = json.dumps([address, sorted((name, path.parent.name) for name, path in chosen.items())])
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    folder = (cache_dir / "fetched" / digest / root.rpartition("/")[2]).absolute()
    for name, path in chosen.items():
        _link(path, folder / name)
    return folder


def _is_file(store: Any, name: str) -> bool:
    """fsspec's own question says no also where the store refuses to answer; here that is an error."""
    try:
        return bool(store.info(name)["type"] == "file")
    except FileNotFoundError:
        return False


def _there(store: Any, root: str, option: Sequence[Sequence[str]]) -> list[str]:
    """The first name of each of the groups; none where a group has no file."""
    found = [next((name for name in names if _is_file(store, f"{root}/{name}")), None) for names in option]
    return [] if None in found else [name for name in found if name is not None]


def _link(path: Path, to: Path) -> None:
    """A second name for a file, or a copy where the disk gives none."""
    if to.exists():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(to) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def _fetch(store: Any, name: str, cache_dir: Path) -> Path:
    info = store.info(name)
    size = int(info.get("size") or 0)
    told = [str(store.protocol), name, str(size), *(str(info[key]) for key in VERSIONS if info.get(key))]
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()
    # The folders of a partitioned table are read too: day=2014-07-01/part-0.parquet.
    path = (cache_dir / "fetched" / digest).absolute().joinpath(*map("=".join, partition_of(name)), Path(name).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        log.info("fetching %s (%s bytes)", name, f"{size:,}")
        with write_atomically(path) as temporary:
            store.get_file(name, str(temporary))
            if temporary.stat().st_size != size:
                raise UserError(
                    f"{name} came with {temporary.stat().st_size:,} of {size:,} bytes; give the command again"
                )
    return path


def partition_of(path: str) -> list[tuple[str, str]]:
    """(column, value) of the folders right above a file that are named as a partitioned table's are, the outermost first.

    >>> partition_of("log/v=1/x/day=2014-07-01/hour=03/part-0.parquet")
    [('day', '2014-07-01'), ('hour', '03')]
    """
    found = []
    for part in reversed(path.split("/")[:-1]):
        column, equals, value = part.partition("=")
        if not (column and equals):
            break
        found.append((column, value))
    return found[::-1]


@contextlib.contextmanager
def store_of(address: str, key: str) -> Iterator[tuple[Any, str]]:
    """The store of an address, and the place there, without a slash at its end. Whatever the store refuses with in the block is a UserError.

    key: the setting that holds the address, for messages.
    """
    with _plain_refusals(address, key):
        import fsspec

        store, place = fsspec.core.url_to_fs(address)
        store.invalidate_cache()  # of what lies where: others write there too
        yield store, place.rstrip("/")


@contextlib.contextmanager
def _plain_refusals(address: str, key: str) -> Iterator[None]:
    """Whatever a store refuses with, in one line, without the secrets of an address."""
    scheme = address.partition("://")[0]
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{key}: addresses that begin with {scheme}:// need another package: pip install '{PACKAGES.get(scheme, 'fsspec')}'"
        ) from error
    except FileNotFoundError as error:
        raise MissingData(f"{key}: there is no such bucket or file: {redact(address)}") from error
    except PermissionError as error:
        raise UserError(
            f"{key}: the store refuses {redact(address)} to these credentials; check them where its own library reads them"
        ) from error
    except Exception as error:
        kind = type(error).__name__
        if "Credentials" in kind:
            raise UserError(
                f"{key}: no credentials for {redact(address)}; set them as the store's own library reads them, such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from error
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise UserError(f"{key}: nothing here reads {scheme}://; s3, gs, az and hf are known") from error
        raise UserError(f"{key}: {redact(address)} cannot be reached ({kind})") from error
