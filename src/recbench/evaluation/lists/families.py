"""The metrics of lists by the name that chooses them in ``evaluation.metrics``. One name may give several figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recbench.core.errors import UserError
from recbench.evaluation.lists.calibration import calibration
from recbench.evaluation.lists.disparity import Served, disparity, taste
from recbench.evaluation.lists.diversity import ild
from recbench.evaluation.lists.material import Block, Items, Listed
from recbench.evaluation.lists.popularity import aplt, arp, tail_recall
from recbench.evaluation.lists.serendipity import serendipity

CaseMetric = Callable[[Items, Block, Sequence[int]], dict[str, np.ndarray]]

#: Metrics with a value for each case.
PER_CASE: Mapping[str, CaseMetric] = {
    "ild": ild,
    "calibration": calibration,
    "arp": arp,
    "aplt": aplt,
    "tail_recall": tail_recall,
    "serendipity": serendipity,
}
#: A figure of all cases together, and one that needs the lists of several runs.
DISPARITY, STABILITY = "disparity", "stability"
#: Every name.
FAMILIES = (*PER_CASE, DISPARITY, STABILITY)
#: Those that read categories, and those that read texts, where there are any.
READ_CATEGORIES, READ_TEXT = ("ild", "calibration", DISPARITY), ("ild",)


@dataclass(frozen=True)
class ListFigures:
    """per_case: name@k -> [C], nan where a case has no value; overall: name@k -> one number."""

    per_case: dict[str, np.ndarray]
    overall: dict[str, float]

    def figures(self) -> dict[str, float]:
        """name@k -> the number of a run; means over the cases that have a value. What has none at all is left out."""
        means = {name: float(np.nanmean(v)) for name, v in self.per_case.items() if not np.isnan(v).all()}
        return {**means, **{name: value for name, value in self.overall.items() if np.isfinite(value)}}


def check_data(names: Sequence[str], has_categories: bool, has_text: bool) -> None:
    """Raise UserError for a metric that has nothing to read in these data."""
    if "ild" in names and not (has_categories or has_text):
        raise UserError(
            "evaluation.metrics=[ild] reads categories or texts of items, and these data have neither; leave ild out, or name an item table "
            "(data.items)"
        )


def measure(
    names: Sequence[str],
    items: Items,
    parts: Iterator[Block],
    found: Listed,
    cutoffs: Sequence[int],
    attributes: Mapping[str, np.ndarray] | None = None,
) -> ListFigures:
    """All metrics of ``names``, in one pass over the cases. parts: the blocks of ``found``; attributes: as in ``Served``."""
    collected: dict[str, list[np.ndarray]] = {}
    tastes, lengths = [np.empty(0)], [np.empty(0)]
    for block in parts:
        for name in names:
            for key, values in PER_CASE[name](items, block, cutoffs).items() if name in PER_CASE else ():
                collected.setdefault(key, []).append(values)
        if DISPARITY in names:
            tastes.append(taste(items, block))
            lengths.append(block.length)
    overall = {}
    if DISPARITY in names:
        row = np.searchsorted(found.top_k_case, found.case)
        served = Served(
            np.concatenate(tastes),
            np.concatenate(lengths),
            row,
            found.target.astype(np.int64),
            found.rank,
            found.top_k,
            found.n_ranked,
            attributes or {},
        )
        overall = disparity(items, served, cutoffs)
    return ListFigures({name: np.concatenate(values) for name, values in collected.items()}, overall)
