"""Finished runs of a folder whose ``runs_dir`` is an address: copied there when they are complete, and taken from there where they are.

A run is at the address once its status.json is, which is written last. Each machine trains by itself: the lock of a run holds on one machine, so
two that want the same run at the same time both make it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from recbench.config.runs_address import address_of
from recbench.core.disk import write_atomically
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.sources.object_store import store_of

logger = logging.getLogger(__name__)

LAST = "status.json"


def send(folder: RunFolder) -> None:
    """Copy a finished run to where its folder of runs says, unless it is there. A store that fails ends no run: one line warns, and the same
    command tries again."""
    address = address_of(folder.path.parent)
    if address is None:
        return
    try:
        with store_of(address, "runs_dir") as (store, root):
            place = f"{root}/{folder.key}"
            if store.exists(f"{place}/{LAST}"):
                return
            names = [
                path.relative_to(folder.path).as_posix() for path in sorted(folder.path.rglob("*")) if path.is_file()
            ]
            names = [name for name in names if name != LAST and not any(part[0] == "." for part in name.split("/"))]
            for name in [*names, LAST]:
                store.makedirs(f"{place}/{name}".rpartition("/")[0], exist_ok=True)
                store.put_file(str(folder.path / name), f"{place}/{name}")
        logger.info("%s is copied to %s", folder.key, address)
    except UserError as error:
        logger.warning("%s is complete here and not copied: %s; the same command tries again", folder.key, error)


def fetch(folder: RunFolder) -> bool:
    """Take a finished run from the address of its folder of runs; whether it was there. Call it with the run's lock held. Raises UserError."""
    address = address_of(folder.path.parent)
    if address is None:
        return False
    with store_of(address, "runs_dir") as (store, root):
        place = f"{root}/{folder.key}"
        if not store.exists(f"{place}/{LAST}"):
            return False
        if json.loads(store.cat_file(f"{place}/{LAST}")).get("state") != "finished":
            return False
        names = [name.removeprefix(place).strip("/") for name in store.find(place)]
        for name in [*(name for name in names if name != LAST), LAST]:
            _get(store, f"{place}/{name}", folder.path / name)
    logger.info("%s was made elsewhere: fetched from %s", folder.key, address)
    return True


def _get(store: Any, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        store.get_file(name, str(temporary))
