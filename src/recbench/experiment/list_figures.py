"""The metrics of lists (``recbench.evaluation.lists``) for a run: what they read of its data, and what they leave in its folder."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.core.run_folder import replacing
from recbench.data.user_attributes import has_user_attributes, user_attributes
from recbench.evaluation.lists import families
from recbench.evaluation.lists.families import DISPARITY, FAMILIES, READ_CATEGORIES, READ_TEXT, STABILITY, ListFigures
from recbench.evaluation.lists.material import Items, blocks, categories_of
from recbench.evaluation.lists.stability import LISTS_FILE, write_lists

if TYPE_CHECKING:
    from recbench.config.run import RunConfig
    from recbench.core.run_folder import RunFolder
    from recbench.data.prepared import PreparedData
    from recbench.data.split import Split
    from recbench.evaluation.outcome import Evaluation

logger = logging.getLogger(__name__)

#: In metrics.json: the names of the metrics of lists that a run has.
LIST_METRICS = "list_metrics"


def check_list_metrics(config: RunConfig, data: PreparedData) -> None:
    """Raise UserError, before anything is trained, for a metric of lists that has nothing to read in these data."""
    asked = config.evaluation.metrics
    if "ild" in asked:
        families.check_data(asked, categories_of(data) is not None, data.has_text)
    if config.data.users.path:
        attributes_of(asked, data, config)


def list_figures(
    ranked: Evaluation, counts: np.ndarray, data: PreparedData, split: Split, config: RunConfig
) -> tuple[ListFigures, dict[str, Any]]:
    """The metrics of lists that a config asks for, and what metrics.json says of them: their names and the seconds they took.

    counts [n_items + 1]: training events.
    """
    asked = [name for name in config.evaluation.metrics if name in FAMILIES]
    if not asked:
        return ListFigures({}, {}), {}
    items = items_of(asked, counts, data, config)
    started = time.perf_counter()
    parts = blocks(ranked, data, split.test, split.seen_items == "mask")
    attributes = attributes_of(asked, data, config)
    of_cases = {name: group[split.test.user[ranked.top_k_case]] for name, group in attributes.items()}
    found = families.measure(asked, items, parts, ranked, config.evaluation.cutoffs, of_cases)
    last = max(config.evaluation.cutoffs)
    for name, values in found.per_case.items():
        if name.endswith(f"@{last}") and np.isnan(values).any():
            without, n = int(np.isnan(values).sum()), len(values)
            logger.info("%s: %s of %s cases have no value and are left out", name, f"{without:,}", f"{n:,}")
    return found, {LIST_METRICS: asked, "cost/list_metrics_seconds": time.perf_counter() - started}


def items_of(asked: list[str], counts: np.ndarray, data: PreparedData, config: RunConfig) -> Items:
    """Facts on the items that the metrics read. Texts are TF-IDF vectors whatever ``data.text`` says: the same for every run on the data."""
    categories = categories_of(data) if set(asked) & set(READ_CATEGORIES) else None
    vectors = None
    if set(asked) & set(READ_TEXT) and data.has_text:
        import torch

        from recbench.data.text_config import TextConfig
        from recbench.nn.text.vectors import text_vectors

        vectors = text_vectors(data, TextConfig(), config.cache_dir, torch.device("cpu")).numpy()
    return Items(counts, categories, vectors)


def attributes_of(asked: list[str], data: PreparedData, config: RunConfig) -> dict[str, np.ndarray]:
    """Name of an attribute of users, as it stands in a figure's name -> [U] number of its value from 0, -1 where nothing is known. Empty where
    ``disparity`` is not asked for, and where a source knows nothing of these users, such as sessions. Raises UserError for a table
    (``data.users``) that cannot be used."""
    import polars as pl

    if DISPARITY not in asked or not has_user_attributes(config.data):
        return {}
    try:
        table = user_attributes(data, config.data, config.cache_dir)
    except UserError:
        if config.data.users.path:
            raise
        return {}
    found = {}
    for column in table.columns[1:]:
        number = table[column].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
        found["".join(c if c.isascii() and c.isalnum() else "_" for c in column.lower())] = number
    return found


def stored_lists(ranked: Evaluation, config: RunConfig, folder: RunFolder) -> None:
    """Keep the lists in the folder, where ``stability`` is asked for."""
    if STABILITY in config.evaluation.metrics:
        with replacing(folder.path / LISTS_FILE) as temporary:
            write_lists(temporary, ranked.top_k_case, ranked.top_k)
