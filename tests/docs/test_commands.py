"""Every command that README and ``docs/`` show works: each is run, small, in a folder with a few finished runs and small raw files."""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recbench.report import build
from recbench.study import board
from tests.fixtures.shown_commands import ROOT, Shown, Workplace, shown_commands, shrunk

SHOWN = shown_commands()
RUN = [shown for shown in SHOWN if shown.reason is None]
#: Part of a command -> why it takes long.
SLOW = {
    "hydra/launcher=joblib": "it starts two processes",
    "hardware=ddp": "it starts two processes",
    "--mlflow": "it imports MLflow and makes a database",
    "tracking sync": "it imports MLflow and makes a database",
    "benchmarks.profile": "it measures the machine first",
    "make demo": "it trains a language model and its teacher",
    "model=tiger": "six layers on each side",
    "+experiment=": "it prepares every run of a study",
    "study slmrec": "it prepares every run of a study",
    "training.selection=random,dealrec": "it trains a surrogate and takes gradients of its targets",
    "model=llamarec": "it trains a retriever and a language model",
    "model=onerec": "it trains a generator twice",
    "model=preference": "it trains a generator twice",
    "model=p5": "it trains an encoder and a decoder",
    "probe extraction": "it trains a copy for each way of asking",
    "probe leakage": "it trains a classifier for each fold",
    "recbench tune": "it trains a run a trial",
    "distillation.teacher.n_layers=8": "it trains a teacher of eight layers",
    "--format onnx": "it traces a model",
    "board same_day": "it draws charts",
    "report slmrec_distillation": "it draws charts",
    "attack=random,bandwagon": "it trains on three attacked sets",
}
#: Commands of which others show the same at a smaller size.
SLOW_WHOLE = {"recbench board": "it draws more than a hundred charts"}
#: Targets of make that .ci/run calls, so that running them here would run the suite within itself.
OF_CI = ("make test", "make lint", "make docs")


@pytest.fixture(scope="module")
def workplace(
    tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any], tiny: list[str], stored_llama: Path
) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("workplace")
    raw = folder / "raw"
    raw.mkdir()
    _write_raw_files(folder, raw)
    shutil.copytree(ROOT / "experiments", folder / "experiments", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "tuned").mkdir()
    (folder / "tuned" / "sasrec-synthetic.yaml").write_text("# @package _global_\ntraining:\n  lr: 0.01\n")
    made = cli("-m", "model=markov,sasrec", "seed=1,2", *tiny, "training.max_epochs=1", cwd=folder)
    assert made.status == 0, made.err
    run = min(path.name for path in (folder / "runs").glob("sasrec-*"))
    first = cli("recommend", f"runs/{run}", "--user", "u159", "--json", cwd=folder)
    assert first.status == 0, first.err
    items = re.findall(r'"item": "([^"]+)"', first.out)
    (folder / "pairs.csv").write_text(f"user,item\nu159,{items[0]}\nu159,unknown\n")
    names = items + re.findall(
        r'"item": "([^"]+)"', cli("recommend", f"runs/{run}", "--user", "u159", "--k", "99", "--json", cwd=folder).out
    )
    (folder / "new.csv").write_text(
        "user,item,timestamp\n" + "".join(f"v{u},{i},{9 * t + u}\n" for u in range(9) for t, i in enumerate(names))
    )
    lists = cli("recommend", f"runs/{run}", "--all", "--as-in-test", "--k", "20", "--to", "lists.csv", cwd=folder)
    assert lists.status == 0, lists.err
    spare = next(path.name for path in (folder / "runs").glob("popularity-*"))
    # A stored config of as many layers as the studies ask for stands for the pretrained model that they read.
    shape = json.loads((stored_llama / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": 8}))
    with pytest.MonkeyPatch.context() as patch:
        # An interval takes thousands of resamples, of which a few show that the command works.
        for module, name in ((board, "write_board"), (build, "write_report")):
            patch.setattr(module, name, functools.partial(getattr(module, name), resamples=100))
        patch.setenv("RECBENCH_MINILM", str(folder))
        deep = folder / "deep"
        deep.mkdir()
        (deep / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": 30}))
        patch.setenv("RECBENCH_LANGUAGE_MODEL", str(deep))
        yield Workplace(folder, raw, run, spare, "u159", (items[0], items[1]))


def _write_raw_files(folder: Path, raw: Path) -> None:
    """1,200 users with six events each over as many items, each item six times: enough items to draw 999 from."""
    n = 1_200
    events = [
        (user, (user + 7 * step * step + 131 * step) % n, 1_300_000_000 + 86_400 * (user % 40 + 3 * step))
        for user in range(n)
        for step in range(6)
    ]
    reviews = "".join(
        json.dumps({"reviewerID": f"U{u}", "asin": f"I{i}", "overall": 5.0, "unixReviewTime": t}) + "\n"
        for u, i, t in events
    )
    (raw / "reviews_Beauty_5.json.gz").write_bytes(gzip.compress(reviews.encode()))
    (folder / "events.csv").write_text("uid,sku,t\n" + "".join(f"u{u},i{i},{t}\n" for u, i, t in events))
    (folder / "impressions.csv").write_text(
        "user,item,click,time,device\n"
        + "".join(f"u{k % 60},i{k * 7 % 50},{k * k % 3 == 1:d},{k},d{k % 3}\n" for k in range(3_000))
    )
    (folder / "ml-1m.txt.gz").write_bytes(gzip.compress("".join(f"{u + 1} {i + 1}\n" for u, i, _ in events).encode()))
    sessions = [
        " ".join(f"i{(3 * session + 7 * step + step * step) % 20}" for step in range(8)) for session in range(40)
    ]
    (raw / "train.txt").write_text("\n".join(sessions[:32]) + "\n")
    (raw / "test.txt").write_text("\n".join(sessions[32:]) + "\n")
    (raw / "lists").mkdir()
    (raw / "lists" / "train.txt").write_text(
        "".join(f"{u} {u % 9} {u % 7 + 9} {u % 5 + 16}{' 21' * (u % 2)}\n" for u in range(30))
    )
    (raw / "lists" / "test.txt").write_text("".join(f"{u} {(u + 1) % 9}\n" for u in range(30)))


def _marks(shown: Shown) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if any(part in shown.text for part in SLOW) or shown.text in SLOW_WHOLE else []


@pytest.mark.parametrize(
    "shown", [pytest.param(shown, marks=_marks(shown), id=f"{shown.page}: {shown.text[:90]}") for shown in RUN]
)
def test_a_shown_command_works(shown: Shown, workplace: Workplace, cli: Callable[..., Any], tiny: list[str]) -> None:
    words = shlex.split(shown.text)
    if shown.text in OF_CI:
        assert shown.text in (ROOT / ".ci" / "run").read_text()
        return
    if words[:3] == ["python", "-m", "pytest"]:  # a part of this suite
        assert (ROOT / words[3]).is_dir()
        assert words[3].startswith("tests/")
        return
    if words[0] == "make":
        for line in _lines_of_make(words):
            _works(line, workplace, cli, tiny)
        return
    _works(words, workplace, cli, tiny)


def _lines_of_make(words: list[str]) -> list[list[str]]:
    """The recbench commands that a target of make would run."""
    dry = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [shlex.split(line) for line in dry.stdout.splitlines() if " -m recbench" in line]
    assert found, dry.stdout
    return [["python", *line[1:]] for line in found]


def _works(words: list[str], workplace: Workplace, cli: Callable[..., Any], tiny: list[str]) -> None:
    words = workplace.filled(words)
    if words[:3] == ["python", "-m", "recbench"] or words[0] == "recbench":
        own = shrunk(words[1:] if words[0] == "recbench" else words[3:], tiny)
        done = cli(*own, cwd=workplace.folder)
        # 1 from doctor says that something is missing here, which is an answer.
        assert done.status in ((0, 1) if own[0] == "doctor" else (0,)), f"{own}\n{done.out[-1000:]}{done.err[-3000:]}"
        return
    if words[0] == "torchrun":
        at = words.index("recbench")
        words = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--master-port",
            "29573",
            *words[1 : at + 1],
            *shrunk(words[at + 1 :], tiny),
        ]
    elif words[:2] == ["python", "-m"]:
        words = [sys.executable, "-m", words[2], *words[3:], "--steps", "1", "training.batch_size=64"]
    else:
        pytest.fail(
            f"nobody knows how to run this; teach {Path(__file__).name} or mark it on its page: {shlex.join(words)}"
        )
    place = ROOT if words[2].startswith("benchmarks") else workplace.folder
    done = subprocess.run(
        words, cwd=place, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def test_at_most_ten_commands_are_shown_without_being_run() -> None:
    marked = [shown for shown in SHOWN if shown.reason is not None]
    assert all(shown.reason for shown in marked)
    assert len(marked) <= 10, "\n".join(shown.text for shown in marked)


def test_every_command_of_ours_is_shown() -> None:
    from recbench.cli.commands import BUILT_IN

    shown = {shlex.split(command.text)[1] for command in SHOWN if command.text.startswith("recbench ")}
    assert shown >= set(BUILT_IN)


def test_commands_are_found_where_they_stand() -> None:
    texts = {shown.text for shown in SHOWN}
    assert "recbench report runs_dir=runs" in texts
    assert any(text.startswith("recbench model=slmrec data=amazon") and "gradient_clip: 0.0" in text for text in texts)
    assert all(text.split()[0] != "#" for text in texts)
