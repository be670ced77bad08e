"""Where in MLflow to look: its chart page with the right runs, the best one first, the test figures on top.

MLflow hides the children of a run until it is opened, and draws no chart of what is hidden; a page with a filter shows them at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from recbench.config.settings import TrackingConfig
from recbench.core.secrets import redact_addresses
from recbench.tracking.store import SWEEPS_TAG, short_id
from recbench.tracking.views import VIEW_TAG, view

if TYPE_CHECKING:
    from recbench.tracking.library import Library

#: Where ``mlflow ui`` answers unless told otherwise, and the database that it opens.
LOCAL, LOCAL_STORE = "http://127.0.0.1:5000", "sqlite:///mlflow.db"
#: The most runs that are read to know in what they differ.
MOST_COMPARED = 200


def comparable(tags: Mapping[str, str]) -> str:
    """The filter for all runs that may stand in one table with a run: the same data, split and protocol."""
    names = ("recbench.protocol", "recbench.split_hash")
    return " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in names if name in tags)


def children(parent: str) -> str:
    """The filter for the runs of a sweep, those included that an earlier sweep made and holds."""
    return f"tags.`{SWEEPS_TAG}` LIKE '%{short_id(parent)}%'"


def comparison(
    client: Library, config: TrackingConfig, experiment: str, having: str, asked: Collection[str] | None = None
) -> str:
    """Save a view of the runs that match a filter, and say how to come to it.

    The view is a tag of the experiment, as MLflow's own button "Share" writes it; so the address is short.
    asked: ids of the runs that were asked for, where others match as well, such as the floor of a sweep.
    """
    name = hashlib.blake2b(having.encode(), digest_size=4).hexdigest()
    found = client.search(experiment, having, MOST_COMPARED)
    client.set_experiment_tag(experiment, f"{VIEW_TAG}{name}", view(having, found, asked))
    return f"{_door(config)}/#/experiments/{experiment}/runs?" + urlencode(
        {"compareRunsMode": "CHART", "viewStateShareKey": name}
    )


def _door(config: TrackingConfig) -> str:
    """What to start, if anything, and the address of MLflow's pages."""
    if config.uri.startswith(("http://", "https://")):
        return re.sub(r"://[^/]*@", "://", config.uri).rstrip("/")
    store = "" if config.uri == LOCAL_STORE else f" --backend-store-uri {redact_addresses(config.uri)}"
    return f"mlflow ui{store}, then {LOCAL}"
