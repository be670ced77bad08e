"""What serving adds to a model's own step: latency of ``mlflow models serve`` under many clients, beside the step itself.

    python -m benchmarks.serving RUN_FOLDER --clients 16 --questions 20

The run is exported into a fresh MLflow store in a temporary folder and served on loopback. Each client asks one history at a time, the next one when
it has its answer. Printed: milliseconds p50 and p99 of the model's own step (one history, this process), of the stored model in this process, and
of the server's answers. Needs pandas and mlflow, which recbench brings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np


def milliseconds(work: Callable[[int], object], times: int) -> list[float]:
    """Of each call; three before the first are not counted."""
    for i in range(3):
        work(i)
    found = []
    for i in range(times):
        started = time.perf_counter()
        work(i)
        found.append(1000 * (time.perf_counter() - started))
    return found


def told(name: str, found: list[float]) -> None:
    print(
        f"{name:<28} p50 {np.percentile(found, 50):8.2f} ms   p99 {np.percentile(found, 99):8.2f} ms   of {len(found)}"
    )


def ask(port: int, history: list[str]) -> None:
    body = json.dumps({"dataframe_records": [{"history": history, "k": 10}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def serve(uri: str, store: str, place: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A server that answers, and its port."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # mlflow starts uvicorn by its name
    words = [
        "models",
        "serve",
        "--model-uri",
        uri,
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path}
    with (place / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                return server, port
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.5)
    os.killpg(server.pid, signal.SIGTERM)
    sys.exit((place / "serve.log").read_text()[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--questions", type=int, default=20, help="of each client")
    asked = parser.parse_args()
    import mlflow
    import pandas as pd

    from recbench.cli.export.registered import register_run
    from recbench.cli.recommend.answer import recommend
    from recbench.cli.recommend.histories import typed_history
    from recbench.cli.recommend.model_of_run import open_model
    from recbench.evaluation.cost.efficiency import spread

    opened = open_model(asked.run)
    data, cases = opened.stage.data, opened.stage.split.test
    names = data.item_table()["item"].to_list()
    histories = [[names[i - 1] for i in data.items[cases.start[c] : cases.end[c]]] for c in spread(len(cases), 200)]
    typed = [typed_history(data, history, None, None, opened.needs) for history in histories]
    told("the model's own step", milliseconds(lambda i: recommend(opened, [typed[i % len(typed)]], 10, None), 200))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        store = f"sqlite:///{folder}/mlflow.db"
        made = register_run(opened, "benchmark", store)
        mlflow.set_tracking_uri(store)
        model = mlflow.pyfunc.load_model(made.uri)
        rows = [pd.DataFrame({"history": [history], "k": [10]}) for history in histories]
        told("the stored model, here", milliseconds(lambda i: model.predict(rows[i % len(rows)]), 200))
        server, port = serve(made.uri, store, Path(folder))
        try:
            told("served, 1 client", milliseconds(lambda i: ask(port, histories[i % len(histories)]), 100))
            with ThreadPoolExecutor(asked.clients) as clients:
                parts = clients.map(
                    lambda c: milliseconds(
                        lambda i: ask(port, histories[(7 * c + i) % len(histories)]), asked.questions
                    ),
                    range(asked.clients),
                )
                told(f"served, {asked.clients} clients", [value for part in parts for value in part])
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


if __name__ == "__main__":
    main()
