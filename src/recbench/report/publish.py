"""A report as an artifact in MLflow, where the runs that it is about are."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.config.settings import TrackingConfig
from recbench.core.secrets import MARK, reveal
from recbench.report.collect import StoredRun

if TYPE_CHECKING:
    from recbench.tracking.mlflow_store import Store
    from recbench.tracking.store import Entry

logger = logging.getLogger(__name__)


def publish(name: str, out: Path, runs: Sequence[StoredRun]) -> str | None:
    """Send the files of a report to the store that most of its runs were sent to; returns the MLflow id that holds them, or None.

    They go to the parent that all of these runs share, as those of a sweep do; else to a run called ``report NAME``, found again by that
    name. Never fails: a report on disk is complete, and why it was not sent is said.
    """
    sent = [place for run in runs for place in _places(run)]
    if not sent:
        return None
    place, _ = Counter(place for place, _ in sent).most_common(1)[0]
    uri, _, experiment = place.rpartition("#")
    if _gone(uri):
        logger.warning("not sent to MLflow: %s is not in this folder", uri)
        return None
    if MARK in reveal(uri):
        logger.warning("not sent to MLflow: the runs are in %s, whose secrets are not stored", uri)
        return None
    from recbench.tracking.client import reachable
    from recbench.tracking.mlflow_store import Store
    from recbench.tracking.store import Unreachable

    try:
        config = TrackingConfig(uri=uri, experiment=experiment)
        store = Store(config)
        with reachable(config):
            target = _target(store, name, [run_id for where, run_id in sent if where == place])
            if target is None:
                return None
            store.client.upload(target.run_id, sorted(path for path in out.iterdir() if path.is_file()))
    except Unreachable as error:
        logger.warning("not sent to MLflow, which is not reachable: %s", error)
        return None
    logger.info("in MLflow: artifacts of run %s of %s", target.run_id, uri)
    return target.run_id


def _places(run: StoredRun) -> list[tuple[str, str]]:
    """(store and experiment, MLflow id) of wherever a run was sent."""
    path = run.path / "mlflow.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return []
    return [(str(place), str(run_id)) for place, run_id in found.items()] if isinstance(found, dict) else []


def _gone(uri: str) -> bool:
    """Whether a store is a file that is not here: asking for it would make an empty one."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()


def _target(store: Store, name: str, run_ids: Sequence[str]) -> Entry | None:
    """The MLflow run that takes the report; None if the store knows none of the runs any more."""
    from recbench.tracking.store import KEY_TAG, NAME_TAG, PARENT_TAG

    known = [entry for run_id in run_ids if (entry := store.client.get(run_id)) is not None]
    if not known:
        return None
    parents = {entry.tags.get(PARENT_TAG) for entry in known}
    if len(known) > 1 and len(parents) == 1 and (parent := parents.pop()) is not None:
        found = store.client.get(parent)
        if found is not None:
            return found
    key = f"report {name}"
    for earlier in store.client.find(store.experiment, key):
        return earlier
    now = int(1000 * time.time())
    made = store.client.create(store.experiment, now, {NAME_TAG: key, KEY_TAG: key})
    store.client.set_status(made.run_id, "FINISHED", now)
    return made
