"""A user and a password of an address stand nowhere: in no file that a command writes, in nothing that it prints, in no process that it starts."""

from __future__ import annotations

import json

import pytest

from recbench.core import secrets
from recbench.core.secrets import reveal

USER, PASSWORD, TOKEN = "annabelle", "wonderful/p4ss", "t0ken-of-hers"
ADDRESS = f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:1/mlflow?sslpassword={TOKEN}"


@pytest.fixture(autouse=True)
def own_vault(monkeypatch):
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.delenv(secrets.VARIABLE, raising=False)


@pytest.fixture
def words(tiny):
    return [*(word for word in tiny if word != "tracking=off"), "tracking.timeout_seconds=2"]


def spilled(folder, *texts: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [str(path) for path in files if any(s.encode() in path.read_bytes() for s in (USER, PASSWORD, TOKEN))]
    return found + [text for text in texts for s in (USER, PASSWORD, TOKEN) if s in text]


def test_a_run(cli, words, tmp_path):
    found = cli("model=popularity", *words, f"tracking.uri='{ADDRESS}'", cwd=tmp_path)
    assert found.status == 0
    assert "MLflow is not reachable: postgresql+psycopg://***@127.0.0.1:1/mlflow" in found.err
    assert spilled(tmp_path, found.out, found.err) == []
    (config,) = (tmp_path / "runs").glob("popularity-*/config.yaml")
    assert "uri: postgresql+psycopg://***@127.0.0.1:1/mlflow?sslpassword=***" in config.read_text()
    assert reveal("postgresql+psycopg://***@127.0.0.1:1/mlflow?sslpassword=***") == ADDRESS


def test_a_sweep_with_hydras_own_files(cli, words, tmp_path):
    found = cli("-m", "model=popularity,markov", *words, f"tracking.uri='{ADDRESS}'", cwd=tmp_path)
    assert found.status == 0
    assert list((tmp_path / "runs" / "sweeps").glob("*/multirun.yaml"))
    assert spilled(tmp_path, found.out, found.err) == []


def test_a_variable_that_the_config_reads(cli, words, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_STORE", ADDRESS)
    found = cli("-m", "model=popularity,markov", *words, "tracking.uri=${oc.env:MY_STORE}", cwd=tmp_path)
    assert found.status == 0
    assert spilled(tmp_path, found.out, found.err) == []


def test_mistakes_and_failures(cli, words, tmp_path):
    for more in (["modle=x"], ["model=sasrek"], ["training.lr=abc"], ["model=popularity", "data.n_users=0"]):
        found = cli(*more, *words, f"tracking.uri='{ADDRESS}'", f"data.raw_dir='{ADDRESS}'", cwd=tmp_path)
        assert found.status == 2, more
        assert spilled(tmp_path, found.out, found.err) == [], more


def test_what_is_printed_of_a_config(cli, words, tmp_path):
    found = cli("--cfg", "job", *words, f"tracking.uri='{ADDRESS}'", cwd=tmp_path)
    assert "***@127.0.0.1:1" in found.out
    assert spilled(tmp_path, found.out, found.err) == []


def test_sync_and_results(cli, words, tmp_path):
    import recbench

    assert cli("model=popularity", *words, "tracking=off", cwd=tmp_path).status == 0
    found = cli("tracking", "sync", "--uri", ADDRESS, cwd=tmp_path)
    assert found.status == 1
    assert spilled(tmp_path, found.out, found.err) == []
    with pytest.raises(recbench.UserError) as caught:
        recbench.results(ADDRESS)
    assert spilled(tmp_path, str(caught.value)) == []


def test_a_report_of_runs_that_an_older_recbench_made(folders, cli, tmp_path):
    folders.add("sasrec-1", config={"tracking": {"name": "mlflow", "uri": ADDRESS}})
    (folders.path / "sasrec-1" / "mlflow.json").write_text(json.dumps({f"{ADDRESS}#x": "1"}))
    found = cli("report", f"runs_dir={folders.path}", "out=page", cwd=tmp_path)
    assert found.status == 0
    assert spilled(tmp_path / "page", found.out, found.err) == []


def test_python(words, tmp_path, caplog):
    import recbench

    places = [f"runs_dir={tmp_path}/runs", f"tracking.uri='{ADDRESS}'"]
    result = recbench.run("model=popularity", *words, *places)
    assert result.config.tracking.uri.startswith("postgresql+psycopg://***@")
    recbench.sweep("model=popularity,markov", *words, *places)
    assert spilled(tmp_path, caplog.text) == []


def test_a_study_starts_its_runs_without_them(tmp_path, monkeypatch):
    from recbench.study.values import last_of_each

    word = secrets.hide(f"tracking.uri='{ADDRESS}'")
    assert last_of_each((word,)) == (word,)
    assert spilled(tmp_path, word) == []


def test_a_download_asks_with_them_and_keeps_none(tmp_path):
    import base64
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from recbench.data.download import fetch

    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"abc")

        def log_message(self, *words):
            return None

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.handle_request, daemon=True).start()
    address = f"http://{USER}:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{server.server_port}/a?token={TOKEN}"
    fetch(secrets.hide(address), tmp_path / "a", backoff=())
    server.server_close()
    path, authorization = asked[0]
    assert path == f"/a?token={TOKEN}"
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"{USER}:{PASSWORD}"
    assert spilled(tmp_path) == []
