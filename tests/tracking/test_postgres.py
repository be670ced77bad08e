"""A server on PostgreSQL and a folder of artifacts, as README describes it, against a PostgreSQL of this test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from recbench.core.run_folder import RunFolder
from recbench.tracking.store import PARENT_TAG
from recbench.tracking.sync import sync, unsent

pytestmark = pytest.mark.postgres


def binaries():
    """The folder of PostgreSQL's programs; Debian keeps them off the path."""
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(there[-1]) if there else shutil.which("initdb")
    return Path(found).parent if found else None


@pytest.fixture(scope="module")
def database(loopback_port):
    """The URI of an empty database, on the loopback, under a user who is not root, behind a password."""
    pytest.importorskip("psycopg", reason="needs the extra 'server'")
    programs = binaries()
    if programs is None:
        pytest.skip("there is no PostgreSQL here (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="recbench-postgres-"))  # not below pytest's own folder, which is root's alone
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    port, password = loopback_port(), os.urandom(12).hex()
    (folder / "password").write_text(password)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, **user)

    def program(name, *words):
        subprocess.run([programs / name, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    try:
        program("initdb", "-D", folder / "data", "-U", "recbench", "-A", "scram-sha-256", f"--pwfile={folder}/password")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        program("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", settings, "-w", "start")
        try:
            yield f"postgresql+psycopg://recbench:{password}@127.0.0.1:{port}/postgres"
        finally:
            program("pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def test_sweeps_with_processes_of_their_own_on_postgresql(database, cli, tiny, tmp_path, configured, server_class):
    """Two processes at a time write to the server; it is killed and started again, and has everything once."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")

    server = server_class(database, tmp_path)
    server.start()
    try:
        config = configured(server.uri)
        words = [word for word in tiny if word != "tracking=off"]
        tracking = [f"tracking.uri={server.uri}", f"tracking.experiment={config.experiment}"]
        side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        finished = cli("-m", *words, "model=markov", "model.backoff=0.1,0.2,0.3,0.4", *tracking, *side, cwd=tmp_path)
        assert finished.status == 0, finished.err
        server.kill()
        cli(*words, "model=itemknn", *tracking, "tracking.timeout_seconds=2", cwd=tmp_path)
        (missed,) = unsent(tmp_path / "runs", config)
        server.start()
        assert list(sync(tmp_path / "runs", config)) == [missed.key]
        assert list(sync(tmp_path / "runs", config)) == []
        library = MlflowClient(tracking_uri=server.uri)
        found = library.search_runs([library.get_experiment_by_name(config.experiment).experiment_id])
    finally:
        server.kill()
    (sweep,) = [run for run in found if "recbench.sweep" in run.data.tags]
    runs = {run.data.tags["recbench.key"]: run for run in found if run is not sweep}
    assert set(runs) == {path.parent.name for path in tmp_path.glob("runs/*/metrics.json")}
    assert len(runs) == len(found) - 1 == 6
    assert {run.info.status for run in found} == {"FINISHED"}
    markov = [run for run in runs.values() if run.data.params["model"] == "markov"]
    assert {run.data.tags[PARENT_TAG] for run in markov} == {sweep.info.run_id}
    one = markov[0]
    folder = RunFolder(tmp_path / "runs" / one.data.tags["recbench.key"])
    assert one.data.metrics["test/ndcg_at_10"] == pytest.approx(folder.read("metrics.json")["test/ndcg@10"])
    kept = tmp_path / "artifacts" / one.info.experiment_id / one.info.run_id / "artifacts" / "ranks.parquet"
    assert kept.read_bytes() == folder.ranks.read_bytes()
