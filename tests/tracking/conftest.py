"""An MLflow server on the loopback, and a run to send."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """``mlflow server`` as README starts it, on a port of its own."""

    def __init__(self, backend: str, folder: Path, port: int | None = None) -> None:
        self.backend, self.folder, self.port = backend, folder, port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self, seconds: float = 240) -> None:
        words = ["server", "--backend-store-uri", self.backend, "--artifacts-destination", f"{self.folder}/artifacts"]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, *place],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        deadline = time.monotonic() + seconds
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9, of the server and of all that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def server_class():
    return Server


@pytest.fixture(scope="session")
def loopback_port():
    return free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with its own database."""
    folder = tmp_path_factory.mktemp("server")
    made = Server(f"sqlite:///{folder}/mlflow.db", folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The URI of an empty local database; its tables are made once, which takes seconds."""
    from mlflow.tracking import MlflowClient

    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        uri = f"sqlite:///{folder}/mlflow.db"
        MlflowClient(tracking_uri=uri).search_experiments()
        yield uri


@pytest.fixture
def finished(tmp_path):
    """finished("name", epochs=3) -> the folder of a run as a training leaves it, with figures that are hard to send."""

    def make(key: str = "sasrec-abc", epochs: int = 3, **config) -> RunFolder:
        folder = RunFolder(tmp_path / "runs" / key)
        folder.path.mkdir(parents=True)
        (tmp_path / "runs" / ".locks").mkdir(exist_ok=True)
        folder.write(
            "config.yaml",
            {"seed": 1, "model": {"name": "sasrec", **config}, "data": {"name": "synthetic"}},
        )
        folder.write("provenance.json", {"commit": "c0ffee", "split_hash": "5911", "versions": {"torch": "2"}})
        figures = {
            "test/hr@10": 0.5,
            "test/ndcg@10": 0.25,
            "test/ndcg@10_optimistic": 0.5,
            "cost/odd": float("nan"),
            "cost/endless": float("inf"),
        }
        folder.write("metrics.json", {**figures, "protocol": "leave_one_out", "audit": {"cold_targets": 0.5}})
        folder.write_history([{"epoch": n, "train/loss": 1 / (n + 1), "seconds/train": 0.5} for n in range(epochs)])
        folder.set_state("finished")
        return folder

    return make


@pytest.fixture
def configured(request):
    """configured(uri) -> the tracking of an experiment that is this test's own."""
    return lambda uri: TrackingConfig(uri=uri, experiment=request.node.name, timeout_seconds=60)
