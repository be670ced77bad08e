"""Rows of a study on this machine's GPU, until the time is over."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from experiments.gpu.run import GRACE, ROOT


def train(study: str, rows: str, chosen: argparse.Namespace, seconds: float) -> int:
    """Train what is missing; an unfinished run goes on from its last epoch next time.

    Returns the study's exit status, 3 where the time ended first.
    """
    if seconds <= 0:
        return 3
    out = chosen.out.absolute()
    words = [f"cache_dir={out / 'cache'}", f"runs_dir={out / 'runs'}", f"data.raw_dir={out / 'raw'}", "tracking=off"]
    hardware = "hardware=cpu" if chosen.device == "cpu" else "hardware=gpu"
    only = ["--rows", rows] if rows else []
    command = [sys.executable, "-m", "recbench", "study", study, "--jobs", "1", *only, hardware, *words]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # as Ctrl+C: the study ends its run, whose last checkpoint stays
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return 3
