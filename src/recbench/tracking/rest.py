"""An MLflow server by its REST API (https://mlflow.org/docs/latest/api_reference/rest-api.html), over one kept connection."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from recbench.tracking.client import NAME_TAG, Entry, Library, Point, batches, key_filter
from recbench.tracking.sqlite import copy_files, local_folder

#: What asks for more than a password or a token; MLflow's library knows it.
SPECIAL = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_WORKSPACE",
)


class RefusedError(Exception):
    """The server answered, with an error. code: MLflow's name of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.code = code


class Rest:
    """A server that speaks MLflow's REST API."""

    def __init__(self, uri: str) -> None:
        import requests

        self.uri = uri.rstrip("/")
        self.session = requests.Session()
        # Asked again once where the connection broke before an answer came; what may not be done twice is looked up by ``Store``.
        self.session.mount(self.uri, requests.adapters.HTTPAdapter(max_retries=1))
        user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        if user and password:
            self.session.auth = (user, password)
        elif token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def opened(cls, uri: str) -> Rest | None:
        """None for what is no plain server, or one that is protected by more than a password or a token."""
        stored_password = Path("~/.mlflow/credentials").expanduser().is_file()
        if not uri.startswith(("http://", "https://")) or stored_password or any(map(os.environ.get, SPECIAL)):
            return None
        return cls(uri)

    def call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """One call. content: ``params`` or ``json`` or ``data``, as requests names them. Raises RefusedError, and what requests raises."""
        seconds = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"))
        answer = self.session.request(method, f"{self.uri}/api/2.0/{path}", timeout=seconds, **content)
        try:
            found = answer.json()
        except ValueError:
            found = {}
        if not answer.ok:
            raise RefusedError(
                answer.status_code, found.get("error_code", ""), found.get("message", answer.reason or "")
            )
        return found

    def experiment(self, name: str) -> str:
        for attempt in (1, 2):
            try:
                found = self.call("GET", "mlflow/experiments/get-by-name", params={"experiment_name": name})
                return str(found["experiment"]["experiment_id"])
            except RefusedError as error:
                if error.code != "RESOURCE_DOES_NOT_EXIST" or attempt == 2:
                    raise
            try:
                return str(self.call("POST", "mlflow/experiments/create", json={"name": name})["experiment_id"])
            except RefusedError as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":  # else another process was quicker
                    raise
        raise AssertionError

    def get(self, run_id: str) -> Entry | None:
        try:
            run = self.call("GET", "mlflow/runs/get", params={"run_id": run_id})["run"]
        except RefusedError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return _entry(run) if run["info"]["lifecycle_stage"] == "active" else None

    def find(self, experiment: str, key: str) -> list[Entry]:
        asked = {"experiment_ids": [experiment], "filter": key_filter(key), "max_results": 100}
        return [_entry(run) for run in self.call("POST", "mlflow/runs/search", json=asked).get("runs", [])]

    def create(self, experiment: str, started: int, tags: Mapping[str, str]) -> Entry:
        told = [{"key": name, "value": value} for name, value in tags.items()]
        user = tags.get("mlflow.user", "unknown")
        asked = {"experiment_id": experiment, "start_time": started, "tags": told, "user_id": user}
        return _entry(self.call("POST", "mlflow/runs/create", json={**asked, "run_name": tags[NAME_TAG]})["run"])

    def log(self, run_id: str, parameters: Sequence[tuple[str, str]], points: Sequence[Point]) -> None:
        for some, few in batches(parameters, points):
            values = [
                {"key": p.name, "value": _number(p.value), "timestamp": p.milliseconds, "step": p.step} for p in few
            ]
            told = [{"key": name, "value": value} for name, value in some]
            self.call("POST", "mlflow/runs/log-batch", json={"run_id": run_id, "metrics": values, "params": told})

    def upload(self, entry: Entry, files: Sequence[Path]) -> None:
        """Through the server where it keeps the files itself, else to where it says that they lie."""
        place = urlsplit(entry.artifacts)
        if place.scheme == "mlflow-artifacts" and not place.netloc:
            for path in files:
                target = quote(str(PurePosixPath(place.path.lstrip("/"), path.name)))
                self.call("PUT", f"mlflow-artifacts/artifacts/{target}", data=path.read_bytes())
        elif (folder := local_folder(entry.artifacts)) is not None:
            copy_files(files, folder)
        else:  # a store such as S3
            Library(self.uri).upload(entry, files)

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        told = {"run_id": run_id, "status": status, **({"end_time": ended} if ended is not None else {})}
        self.call("POST", "mlflow/runs/update", json=told)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.call("POST", "mlflow/runs/set-tag", json={"run_id": run_id, "key": name, "value": value})

    def delete(self, run_id: str) -> None:
        self.call("POST", "mlflow/runs/delete", json={"run_id": run_id})


def _entry(run: Mapping[str, Any]) -> Entry:
    info = run["info"]
    tags = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
    return Entry(info["run_id"], info["status"], int(info["start_time"]), info["artifact_uri"], tags)


def _number(value: float) -> float | str:
    """JSON knows no infinity; MLflow reads these words."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
