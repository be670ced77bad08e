"""The runs that an MLflow store holds, asked through MLflow's own client, as rows of ``recbench.results``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.secrets import hide, reveal
from recbench.core.typed import typed

#: Runs of one answer.
PAGE = 1000


def stored_in_mlflow(uri: str, experiment: str) -> list[dict[str, Any]]:
    """One mapping a finished run of ours. Raises UserError for a store that does not answer, an unknown experiment, and where there is none."""
    from recbench.config.settings import TrackingConfig
    from recbench.tracking.mlflow_store import Unreachable, reachable

    uri = hide(uri)
    _refuse_missing_file(uri)
    try:
        with reachable(TrackingConfig(uri=uri, experiment=experiment)):
            found = [_row(run) for run in _finished(uri, experiment)]
    except Unreachable as error:
        raise UserError(f"MLflow is not reachable: {error}; results('runs') reads the folders instead") from error
    if not found:
        raise UserError(f"the experiment '{experiment}' of {uri} holds no finished run of recbench")
    return found


def _refuse_missing_file(uri: str) -> None:
    """MLflow would make an empty database where there is none."""
    scheme, _, rest = uri.partition("://")
    if scheme == "sqlite" and not Path(rest.removeprefix("/")).is_file():
        raise UserError(f"there is no database {rest.removeprefix('/')}; runs are sent to it with tracking.uri={uri}")
    if scheme not in ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "file", "databricks"):
        raise UserError(
            f"{uri} is no folder and no address that MLflow knows, such as sqlite:///mlflow.db or http://HOST:5000"
        )


def _finished(uri: str, experiment: str) -> Iterator[Any]:
    """MLflow's runs of the experiment that are a run of ours; the parents of sweeps are none."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=reveal(uri))
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = [one.name for one in client.search_experiments()]
        raise UserError(f"unknown experiment '{experiment}' in {uri}; {nearest(experiment, names)}")
    token = None
    while True:
        page = client.search_runs(
            [known.experiment_id], "attributes.status = 'FINISHED'", max_results=PAGE, page_token=token
        )
        yield from (run for run in page if "recbench.key" in run.data.tags)
        token = page.token
        if not token:
            return


def _row(run: Any) -> dict[str, Any]:
    from recbench.cli.face.result import run_name

    # MLflow keeps every parameter as text.
    tags, params = run.data.tags, {name: typed(text) for name, text in run.data.params.items()}
    params = {name: value for name, value in params.items() if not name.startswith("hardware")}
    groups = {part: {"name": params.get(part, "none")} for part in ("distillation", "compression")}
    model = {"name": tags["recbench.model"], "auxiliary": _names(params.get("model.auxiliary"))}
    return {
        **params,
        "key": tags["recbench.key"],
        "name": run_name({"model": model, **groups, "seed": tags.get("recbench.seed")}),
        "model": tags["recbench.model"],
        "data": tags.get("recbench.data"),
        "protocol": tags.get("recbench.protocol"),
        "seed": typed(tags.get("recbench.seed", "")),
        "state": "finished",
        "updated": run.info.end_time,
        "folder": tags.get("recbench.folder"),
        **{our_name(name): value for name, value in run.data.metrics.items() if not name.startswith("epoch/")},
    }


def our_name(name: str) -> str:
    """The name of a figure as recbench writes it; MLflow allows no '@'.

    >>> our_name("test/ndcg_at_10"), our_name("cost/train_seconds")
    ('test/ndcg@10', 'cost/train_seconds')
    """
    return re.sub(r"_at_(\d+)", r"@\1", name)


def _names(text: Any) -> list[str]:
    return re.findall(r"\w+", text) if isinstance(text, str) else []
