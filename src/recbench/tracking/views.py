"""A view of MLflow's chart page: which runs, in which order, and which charts come first.

MLflow keeps a view that somebody shares as a tag of the experiment, in JSON, with the fields below. Without one it sorts its charts by the
alphabet, costs before test figures, and draws parallel coordinates of nothing. A version of MLflow that does not know a field leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from recbench.tracking.describe import headline, metric_name
from recbench.tracking.store import EXPERIMENT_TAG_LENGTH, Entry

#: MLflow's name of the tag, less the name of the view.
VIEW_TAG = "mlflow.sharedViewState."

#: Sections of the page in their order; those after the first are closed.
FIRST, CLOSED = "test", ("cost", "epoch", "validation", "epoch/train", "epoch/validation", "epoch/seconds")
#: The most axes of the plot of parallel coordinates, and the most names on one; MLflow leaves out what goes beyond.
MOST_AXES, MOST_NAMES = 8, 30
#: Costs that are an axis of it where they differ.
COST_AXES = ("cost/parameters_total", "cost/train_seconds_with_dependencies")


def view(having: str, runs: Sequence[Entry], asked: Collection[str] | None = None) -> str:
    """The view of runs that match a filter, as MLflow stores it. asked: ids of those that decide what varies; by default all."""
    deciding = [run for run in runs if asked is None or run.run_id in asked] or list(runs)
    ours = dict.fromkeys(name.replace("_at_", "@") for run in deciding for name in run.metrics)
    figures = [metric_name(name) for measure in ("ndcg", "hr", "mrr") if (name := headline(ours, measure))]
    charts = [_chart("BAR", name, metricKey=name, runsCountToCompare=20) for name in figures]
    axes = varying(deciding)
    if axes and figures:
        shared = [name for name in COST_AXES if _differs(name, deciding)]
        metrics = [*shared, figures[0]]  # the last axis gives the lines their colour
        charts.append(
            _chart("PARALLEL", "what differs", selectedParams=axes, selectedMetrics=metrics, showAllRuns=False)
        )
    best = {"orderByKey": f"metrics.`{figures[0]}`", "orderByAsc": False} if figures else {}
    sections = [_section(FIRST, True), *(_section(name, False) for name in CLOSED)]
    state = {
        "searchFilter": having,
        **best,
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": sections,
    }
    return _within_limit(state, charts)


def varying(runs: Sequence[Entry]) -> list[str]:
    """Parameters that every run has and that differ between them, the model first; at most MOST_AXES less the axes of figures.

    MLflow draws no line for a run that lacks one of the axes, or whose value is a word where most are numbers.
    """
    if not runs:
        return []
    names = [name for name in runs[0].parameters if all(name in run.parameters for run in runs)]
    values = {name: [run.parameters[name] for run in runs] for name in names}
    drawn = [name for name in names if len(set(values[name])) > 1 and _one_kind(values[name])]
    # What divides the runs as another parameter does tells nothing more.
    kept: dict[tuple[int, ...], str] = {}
    for name in sorted(drawn, key=lambda name: (name != "model", name.startswith(("hardware.", "data.")))):
        kept.setdefault(tuple(values[name].index(value) for value in values[name]), name)
    return list(kept.values())[: MOST_AXES - len(COST_AXES) - 1]


def _differs(metric: str, runs: Sequence[Entry]) -> bool:
    """Whether all runs have a figure, and not all the same."""
    return all(metric in run.metrics for run in runs) and len({run.metrics[metric] for run in runs}) > 1


def _one_kind(values: Sequence[str]) -> bool:
    """Whether values fit on one axis: all numbers, or a few words."""
    numbers = sum(map(_is_number, values))
    return numbers == len(values) or (not numbers and len(set(values)) <= MOST_NAMES)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _chart(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    own = {"uuid": name, "type": kind, "metricSectionId": FIRST, "displayName": name}
    return {**own, "deleted": False, "isGenerated": False, "runsCountToCompare": 20, **settings}


def _section(name: str, display: bool) -> dict[str, Any]:
    # As if somebody had moved its charts: MLflow then adds those that are not named here behind them.
    return {"uuid": name, "name": name, "display": display, "isReordered": True, "deleted": False, "isGenerated": False}


def _within_limit(state: dict[str, Any], charts: list[dict[str, Any]]) -> str:
    """As JSON, with as many of the charts as the length of a tag allows."""
    while True:
        text = json.dumps({**state, "compareRunCharts": charts}, separators=(",", ":"))
        if len(text) <= EXPERIMENT_TAG_LENGTH or not charts:
            return text
        charts = charts[:-1]
