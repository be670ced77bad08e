"""A miniature study on the tiny data, and the study command without a process a run: imports are paid once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SIZES = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "model.n_layers=1",
    "training.batch_size=256",
]


class InProcess:
    """Stands for ``start_process``: runs a job here, at once, as its process would have."""

    started: list[list[str]] = []

    def __init__(self, command: list[str], environment: dict[str, str], log: Any) -> None:
        from recbench import cli
        from recbench.sweep import RECORD_VARIABLE

        assert command[:3] == [sys.executable, "-m", "recbench"]
        words = command[3:]
        InProcess.started.append(words)
        before = list(sys.argv)
        os.environ[RECORD_VARIABLE] = environment[RECORD_VARIABLE]
        try:
            sys.argv = ["recbench", *words]
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self.status = cli.main()
        finally:
            sys.argv = before
            del os.environ[RECORD_VARIABLE]

    def poll(self) -> int:
        return self.status


@pytest.fixture
def study(
    tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, own_messages: Callable[..., Any]
) -> Callable[..., Any]:
    """study(content) writes experiments/mini/study.yaml with the tiny data in its base; study.run(...) is the command on it."""
    from recbench.study.__main__ import main

    monkeypatch.setattr("recbench.study.pool.start_process", InProcess)
    monkeypatch.setattr("recbench.study.pool.PERIOD", 0)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "mini"
    folder.mkdir(parents=True)

    class Mini:
        path, runs = folder, tmp_path / "runs"

        def write(self, **content: Any) -> Mini:
            given = {"base": [*tiny, *SIZES, "training.max_epochs=2"], **content}
            (folder / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
            return self

        def run(self, *words: str) -> tuple[int, str, str, list[list[str]]]:
            """(exit status, standard output, standard error, command lines that were started)."""
            InProcess.started = []
            out, err = io.StringIO(), io.StringIO()
            handler = signal.getsignal(signal.SIGTERM)
            with own_messages(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = main(["mini", *words])
                finally:
                    signal.signal(signal.SIGTERM, handler)
            return status, out.getvalue(), err.getvalue(), InProcess.started

        def metrics(self, key: str) -> dict[str, Any]:
            return json.loads((self.runs / key / "metrics.json").read_text())

    return Mini()
