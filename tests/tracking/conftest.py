"""An MLflow database and server that all tests share, each in an experiment of its own, and runs to send."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking.client import open_client, reachable
from tests.fixtures.ports import free_port


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


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of a database with MLflow's tables and nothing in them; they are made once, which takes seconds. Copy it."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
        with reachable(config):
            open_client(config)
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def local(empty_database, tmp_path_factory):
    """The URI of a local database; files of runs lie beside it."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copy(empty_database, folder / "mlflow.db")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the files of runs
        with reachable(config):
            open_client(config)
    return config.uri


@pytest.fixture(scope="session")
def server(empty_database, tmp_path_factory):
    """A server with its own database."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    made = Server(f"sqlite:///{folder}/mlflow.db", folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def finished(tmp_path):
    """finished("name", epochs=3) -> the folder of a run as a training leaves it, with figures that are hard to send."""

    def make(
        key: str = "sasrec-abc", epochs: int = 3, seed: int = 1, needs: tuple[str, ...] = (), **config
    ) -> RunFolder:
        folder = RunFolder(tmp_path / "runs" / key)
        folder.path.mkdir(parents=True)
        (tmp_path / "runs" / ".locks").mkdir(exist_ok=True)
        folder.write(
            "config.yaml",
            {
                "seed": seed,
                "model": {"name": key.partition("-")[0], **config},
                "data": {"name": "synthetic", "n_users": 160},
                "training": {"max_epochs": epochs, "lr": 0.001},
            },
        )
        folder.write("provenance.json", {"commit": "c0ffee", "split_hash": "5911", "versions": {"torch": "2"}})
        figures = {
            "test/hr@10": 0.5,
            "test/ndcg@10": 0.25,
            "test/ndcg@10_optimistic": 0.5,
            "test/odd": float("nan"),
            "test/endless": float("inf"),
            "cost/train_seconds": 2.5,
            "cost/users_per_second": 100.0,
        }
        known = {"protocol": "leave_one_out", "audit": {"cold_targets": 0.5}}
        folder.write("metrics.json", {**figures, **known, "dependencies": {name: name for name in needs}})
        folder.write_history([{"epoch": n, "train/loss": 1 / (n + 1), "seconds/train": 0.5} for n in range(epochs)])
        (folder.path / "log.txt").write_text("said")
        folder.ranks.write_bytes(b"ranks")
        folder.set_state("finished")
        return folder

    return make


@pytest.fixture
def configured(request):
    """configured(uri) -> the tracking of an experiment that is this test's own."""
    return lambda uri: TrackingConfig(uri=uri, experiment=request.node.name, timeout_seconds=60)


@pytest.fixture
def told():
    """told(config) -> (runs by key, sweeps) of its experiment, as MLflow's own client reads them."""

    def read(config):
        client = MlflowClient(tracking_uri=config.uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:  # nothing has been sent yet
            return {}, []
        found = client.search_runs([experiment.experiment_id], max_results=1000)
        sweeps = [run for run in found if "recbench.sweep" in run.data.tags]
        runs = [run for run in found if run not in sweeps]
        by_key = {run.data.tags["recbench.key"]: run for run in runs}
        assert len(by_key) == len(runs)  # none twice
        return by_key, sweeps

    return read


@pytest.fixture
def tracked(tiny):
    """tracked(config) -> the words of ``tiny``, sent to a store."""

    def words(config):
        told = [f"tracking.uri={config.uri}", f"tracking.experiment={config.experiment}"]
        return [
            *(word for word in tiny if word != "tracking=off"),
            *told,
            f"tracking.timeout_seconds={config.timeout_seconds}",
        ]

    return words
