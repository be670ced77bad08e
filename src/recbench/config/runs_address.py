"""``runs_dir`` at an address (s3://, gs://, az://): runs are made in a folder of this disk, which knows where finished ones are copied.

``runs_dir=s3://BUCKET/runs`` is the folder ``runs_at/s3/BUCKET/runs`` under the working directory. Whether the store takes files is asked before
anything is trained. The copying is done by ``recbench.experiment.copies``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from recbench.core.disk import write_atomically
from recbench.core.errors import UserError
from recbench.core.secrets import redact

#: Name of the file in a folder of runs that holds the address.
MARK = ".copied_to.json"
#: Where folders of runs lie whose copies are at an address.
PLACE = "runs_at"


def placed(word: str) -> str:
    """A word of the command line, with the folder of this disk where it is ``runs_dir=ADDRESS``. Raises UserError.

    >>> placed("runs_dir=runs"), placed("data.path=s3://bucket/a.csv")
    ('runs_dir=runs', 'data.path=s3://bucket/a.csv')
    """
    key, _, value = word.lstrip("+").partition("=")
    if "://" not in value:
        return word
    if key == "cache_dir":
        raise UserError(
            f"cache_dir={redact(value)}: arrays are mapped from a folder of this disk; data.path, data.raw_dir and runs_dir take addresses"
        )
    return f"runs_dir={local_runs(value)}" if key == "runs_dir" else word


@lru_cache
def local_runs(address: str) -> Path:
    """The folder of this disk for runs whose copies are at an address. Raises UserError for a store that takes no files."""
    from recbench.data.sources.object_store import store_of

    if redact(address) != address:
        raise UserError(
            "runs_dir: an address must hold no password or token; set credentials as the store's own library reads them"
        )
    scheme, _, rest = address.partition("://")
    parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
    if not parts:
        raise UserError(f"runs_dir={address} names no bucket; write {scheme}://BUCKET/runs")
    with store_of(address, "runs_dir") as (store, root):
        store.pipe_file(f"{root}/.recbench", b"runs of recbench\n")
    folder = Path(PLACE, scheme, *parts).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / MARK) as temporary:
        temporary.write_text(json.dumps({"address": address}) + "\n", encoding="utf-8")
    return folder


def address_of(runs_dir: Path) -> str | None:
    """Where finished runs of a folder are copied; None where they stay."""
    try:
        return str(json.loads((runs_dir / MARK).read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{runs_dir / MARK} is damaged; delete it and give the command again") from error
