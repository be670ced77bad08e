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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.disk import write_atomically
from recbench.core.errors import MissingData, UserError
from recbench.core.secrets import redact

if TYPE_CHECKING:
    from recbench.data.sources.table_config import TableConfig

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
#: What a store says of a file that tells it from another of the same address.
VERSIONS = ("ETag", "etag", "generation", "last_modified", "LastModified", "mtime")


def is_address(value: Any) -> bool:
    """
    >>> is_address("s3://bucket/part-*.parquet"), is_address("events.csv"), is_address(1)
    (True, False, False)
    """
    return isinstance(value, str) and "://" in value


def with_local_files(config: TableConfig, cache_dir: Path) -> TableConfig:
    """The config with files of this disk in place of addresses. Raises UserError for a store, a bucket or a file that is not to be reached."""
    base = str(config.raw_dir).rstrip("/") if is_address(config.raw_dir) else None

    def local(value: Any, key: str) -> Any:
        if not value:
            return value
        named = [value] if isinstance(value, str | Path | int | float) else list(value)
        if base is None and not any(map(is_address, named)):
            return value
        found: list[Any] = []
        for name in named:
            address = f"{base}/{name}" if base is not None and not is_address(name) else str(name)
            found += fetched(address, cache_dir, key) if is_address(address) else [name]
        return found if len(found) > 1 or not isinstance(value, str) else found[0]

    parts = {name: local(value, f"data.parts.{name}") for name, value in config.parts.files().items()}
    return replace(
        config,
        raw_dir=None if base is not None else config.raw_dir,
        path=local(config.path, "data.path"),
        items_path=local(config.items_path, "data.items_path"),
        parts=replace(config.parts, **parts),
    )


def fetched(address: str, cache_dir: Path, key: str) -> list[str]:
    """The files of an address, a pattern or a folder of Parquet parts, as files of this disk in the order of their names. Raises UserError."""
    with plain_refusals(address, key):
        import fsspec

        store, place = fsspec.core.url_to_fs(address)
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


def _fetch(store: Any, name: str, cache_dir: Path) -> Path:
    info = store.info(name)
    size = int(info.get("size") or 0)
    told = [str(store.protocol), name, str(size), *(str(info[key]) for key in VERSIONS if info.get(key))]
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()
    path = cache_dir / "fetched" / digest / Path(name).name
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


@contextlib.contextmanager
def plain_refusals(address: str, key: str) -> Iterator[None]:
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
