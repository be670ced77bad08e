"""What a run costs: the one list of cost figures, read by the tables of terminal and page, by the charts, and by the columns of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recbench.core.terminal import short_number


@dataclass(frozen=True)
class Axis:
    """A cost as an axis of a chart. name: the figure's name without ``cost/``; unit: as on the axis; scale: from figure to unit."""

    name: str
    label: str
    unit: str
    scale: float = 1.0


@dataclass(frozen=True)
class Cost:
    """One cost figure.

    name: without ``cost/``. heading, show: its column on the page, and the form of a value there. help: one sentence. page: it has a column
    on the page without being asked for; extra: that column is hidden until it is chosen. terminal: heading and form in the tables of a
    terminal, for the few that stand there. recorded: every results.csv has a column for it, even an empty one. axis: label, unit and scale
    as an axis of a chart.
    """

    name: str
    heading: str
    show: Callable[[float], str]
    help: str
    page: bool = False
    extra: bool = False
    terminal: tuple[str, Callable[[float], str]] | None = None
    recorded: bool = False
    axis: tuple[str, str, float] | None = None


def seconds(value: float) -> str:
    """
    >>> seconds(1234.5), seconds(12.34)
    ('1,234', '12.3')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def size(value: float) -> str:
    """
    >>> size(387440)
    '387.4kB'
    """
    return f"{short_number(value)}B"


def milliseconds(value: float) -> str:
    """
    >>> milliseconds(1.234)
    '1.23'
    """
    return f"{value:,.2f}"


def amount(value: float) -> str:
    """
    >>> amount(1234.5), amount(12.0), amount(0.0123)
    ('1,234', '12', '0.0123')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


#: In the order of the page's columns. ``alone_``: measured by the latency pass of a study, with no other job on the machine.
COSTS: Sequence[Cost] = (
    Cost(
        "parameters_total",
        "parameters",
        short_number,
        "values that are trained or part of the network",
        page=True,
        terminal=("parameters", short_number),
        recorded=True,
        axis=("parameters", "values", 1.0),
    ),
    Cost(
        "parameters_active",
        "active",
        short_number,
        "values that one answer reads; of a table only the rows that it reads",
        page=True,
        extra=True,
    ),
    Cost("parameters_trainable", "trainable", short_number, "values that are trained", recorded=True),
    Cost(
        "train_seconds",
        "training s",
        seconds,
        "seconds of training, without the runs that it needs",
        page=True,
        terminal=("training", lambda value: f"{value:.1f} s"),
        recorded=True,
        axis=("training time", "seconds", 1.0),
    ),
    Cost("train_cpu_seconds", "training CPU s", seconds, "processor seconds of training, of all threads", extra=True),
    Cost(
        "train_seconds_with_dependencies",
        "all training s",
        seconds,
        "seconds of training, with the runs that it needs",
        page=True,
        extra=True,
        axis=("training with dependencies", "seconds", 1.0),
    ),
    Cost(
        "latency_p50_ms",
        "latency ms",
        milliseconds,
        "median time of one answer to one user",
        page=True,
        terminal=("latency", lambda value: f"{value:.1f} ms"),
        axis=("latency of one user, median", "ms", 1.0),
    ),
    Cost("latency_p95_ms", "latency p95 ms", milliseconds, "time within which 95 % of the answers are given"),
    Cost("users_per_second", "users/s", amount, "users that are answered in a second, in batches"),
    Cost("rows_per_second", "rows/s", amount, "impressions that are answered in a second, in batches"),
    Cost("alone_latency_p50_ms", "latency alone ms", milliseconds, "median latency, nothing else on the machine"),
    Cost("alone_latency_p95_ms", "latency alone p95 ms", milliseconds, "latency of 95 %, nothing else on the machine"),
    Cost("alone_users_per_second", "users/s alone", amount, "users a second, nothing else on the machine"),
    Cost(
        "bytes_on_disk",
        "disk",
        size,
        "bytes of the stored weights",
        page=True,
        extra=True,
        terminal=("disk", size),
        axis=("size on disk", "MB", 1e-6),
    ),
    Cost("bytes_in_memory", "memory", size, "bytes of the weights in memory"),
    Cost(
        "flops_per_user",
        "FLOP",
        short_number,
        "work of one answer, counted by torch",
        page=True,
        extra=True,
        axis=("work of one answer", "FLOP", 1.0),
    ),
    Cost(
        "peak_memory_bytes",
        "peak memory",
        size,
        "largest memory held",
        page=True,
        extra=True,
        axis=("peak memory", "MB", 1e-6),
    ),
    Cost(
        "peak_gpu_memory_bytes",
        "peak GPU memory",
        size,
        "largest memory held on the GPU",
        page=True,
        extra=True,
        axis=("peak GPU memory", "MB", 1e-6),
    ),
    Cost(
        "energy_joules",
        "energy J",
        lambda value: f"{value:,.0f}",
        "energy of training, where the machine has a counter",
        page=True,
        extra=True,
        axis=("energy of training", "J", 1.0),
    ),
    Cost(
        "energy_estimated_joules",
        "energy J (estimate)",
        lambda value: f"{value:,.0f}",
        "energy of the whole run as CodeCarbon estimates it, where the machine has no counter",
        page=True,
        extra=True,
    ),
    Cost("epochs", "epochs", amount, "epochs that were trained", recorded=True),
    Cost("best_epoch", "best epoch", amount, "the epoch whose weights were kept, from 0", recorded=True),
    Cost("seconds_per_epoch", "s/epoch", amount, "seconds of an epoch", recorded=True),
    Cost("test_seconds", "test s", amount, "seconds of the test", recorded=True),
)

BY_NAME: Mapping[str, Cost] = {cost.name: cost for cost in COSTS}
#: Costs with a column on the page without being asked for.
ON_PAGE: Sequence[Cost] = tuple(cost for cost in COSTS if cost.page)
#: Costs of every results.csv, even where they are empty.
RECORDED: Sequence[str] = tuple(cost.name for cost in COSTS if cost.recorded)
#: Costs as axes, in the order in which they are offered.
AXES: Sequence[Axis] = tuple(Axis(cost.name, *cost.axis) for cost in COSTS if cost.axis)
#: The figure's name in metrics.json -> heading and form in the tables of a terminal, in their order there.
ON_TERMINAL: Mapping[str, tuple[str, Callable[[float], str]]] = {
    f"cost/{name}": form
    for name in ("parameters_total", "bytes_on_disk", "latency_p50_ms", "train_seconds")
    if (form := BY_NAME[name].terminal) is not None
}
