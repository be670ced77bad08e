"""``recbench compare ... --lists K``: how far the lists of any two of the compared runs agree, from their stored weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table


def lists_of(path: Path, k: int) -> np.ndarray:
    """[C, K] the best items of each test case of a finished run. Raises UserError for one that ranks nothing."""
    from recbench.experiment.asking import rank_cases
    from recbench.experiment.build import load_model
    from recbench.experiment.device import prepare_device
    from recbench.experiment.run import open_run

    run, stage = open_run(path)
    prepare_device(run.config.hardware, run.config.seed)
    model = load_model(run, stage)
    if not model.ranks:
        raise UserError(f"{path} ranks nothing, so it has no lists to compare")
    found = rank_cases(model, stage.data, stage.split, stage.split.test, run.config, top_k=min(k, stage.data.n_items))
    return found.top_k


def agreement_table(runs: Sequence[tuple[str, Path]], k: int) -> Table:
    """A row for each two of the runs (name, folder). Raises UserError where they were asked about other users."""
    from rich import box
    from rich.table import Table

    from recbench.evaluation.agreement import agreement, rank_biased_overlap

    table = Table(
        title="how far the lists agree, first seed of each", title_justify="left", box=box.ASCII2, pad_edge=False
    )
    for heading in ("", "", f"Agr@{k}", "rank-biased overlap"):
        table.add_column(heading, justify="left" if not heading else "right")
    lists = [(name, lists_of(path, k)) for name, path in runs]
    for (one, ours), (other, theirs) in combinations(lists, 2):
        cells = (agreement(ours, theirs).mean(), rank_biased_overlap(ours, theirs).mean())
        table.add_row(one, other, *(f"{value:.3f}" for value in cells))
    return table
