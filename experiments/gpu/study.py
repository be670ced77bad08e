"""Rows of a study on this machine's GPU, until the time is over."""

from __future__ import annotations

import argparse

from experiments.gpu.run import ROOT
from experiments.slmrec_pretrained.on_gpu import in_time


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
    status = in_time([study, *only, hardware, *words], seconds, ROOT)
    return 3 if status is None else status
