"""A run on prepared data starts without the libraries that read raw data and track runs: they are not on every machine that trains."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc
gc.disable()  # it takes a fifth of what imports cost
import sys
import torch
from recbench.evaluation.cost.flops import count_flops
ones = torch.ones(4, 4)
assert count_flops(lambda: ones @ ones) == 128
print("compiler:", "torch._dynamo" in sys.modules)
import recbench.nn.text.text_reader
print("language models:", "transformers" in sys.modules)
from recbench.models.base import ModelContext
from recbench.models.registry import lookup
for name in ("sasrec", "srgnn", "gcsan", "tagnn", "gcegnn"):
    entry = lookup(name)
    entry.model(entry.config(), ModelContext(9, 4, 10))
print("graphs:", "torch_geometric" in sys.modules)
from recbench.config.compose import compose
from recbench.experiment import job, evaluate, produce
compose(["model=sasrec", "data=synthetic"])
for name in ("sasrec", "slmrec", "tiger", "srgnn", "ease"):
    try:
        lookup(name)
    except Exception as error:
        raise SystemExit(f"{name}: {error}")
print("readers and trackers:", sorted({"polars", "pyarrow", "mlflow", "pandas"} & set(sys.modules)))
"""


def test_counting_comes_without_the_compiler_models_without_their_libraries_and_a_run_without_readers_and_trackers():
    """In one process, which does one after the other (2 s). The compiler would take longer than a short run. The library of graphs is imported by
    a graph alone: a model that is opened from a stored run reads its table. That of language models comes when one is built."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if ": " in line]
    assert said == ["compiler: False", "language models: False", "graphs: False", "readers and trackers: []"]


def test_a_config_and_the_doctor_come_without_torch():
    """The doctor says that torch is missing, and what only reads or writes configs does not wait a second for it."""
    code = "import sys; from recbench.config import run; from recbench.cli.doctor import command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
