"""A run on prepared data starts without the libraries that read raw data and track runs: they are not on every machine that trains."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from recbench.config.compose import compose
from recbench.experiment import job, evaluate, produce
from recbench.models.registry import lookup
compose(["model=sasrec", "data=synthetic"])
for name in ("sasrec", "slmrec", "tiger", "srgnn", "ease"):
    try:
        lookup(name)
    except Exception as error:
        raise SystemExit(f"{name}: {error}")
print(sorted({"polars", "pyarrow", "mlflow", "pandas"} & set(sys.modules)))
"""


def test_no_reader_and_no_tracker_is_imported():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[]"


def test_a_config_and_the_doctor_come_without_torch():
    """The doctor says that torch is missing, and what only reads or writes configs does not wait a second for it."""
    code = "import sys; from recbench.config import run; from recbench.cli.doctor import command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
