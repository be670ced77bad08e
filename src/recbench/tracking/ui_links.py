"""Where in MLflow to look: its chart page with the right runs, the best one first.

MLflow hides the children of a run until it is opened, and draws no chart of what is hidden; a page with a filter shows them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from recbench.config.settings import TrackingConfig
from recbench.tracking.client import PARENT_TAG
from recbench.tracking.describe import headline, metric_name

#: Where ``mlflow ui`` answers unless told otherwise.
LOCAL = "http://127.0.0.1:5000"


def comparable(tags: Mapping[str, str]) -> str:
    """The filter for all runs that may stand in one table with a run: the same data, split and protocol."""
    names = ("recbench.protocol", "recbench.split_hash")
    return " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in names if name in tags)


def children(parent: str) -> str:
    """The filter for the runs of a sweep."""
    return f"tags.`{PARENT_TAG}` = '{parent}'"


def comparison(config: TrackingConfig, experiment: str, having: str, metrics: Mapping[str, Any]) -> str:
    """How to come to the charts of the runs that match a filter. metrics: of one of them, to know which one they are sorted by."""
    best = headline(metrics)
    asked = {
        "searchFilter": having,
        **({"orderByKey": f"metrics.`{metric_name(best)}`", "orderByAsc": "false"} if best else {}),
        "compareRunsMode": "CHART",
        "workflowType": "machine_learning",  # else MLflow shows its pages for language models
    }
    server = config.uri.startswith(("http://", "https://"))
    page = f"{config.uri.rstrip('/') if server else LOCAL}/#/experiments/{experiment}/runs?{urlencode(asked)}"
    return page if server else f"mlflow ui --backend-store-uri {config.uri}, then {page}"
