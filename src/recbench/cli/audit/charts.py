"""The one chart of an audit: when training and test happened, or without a clock how long the histories of the test are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from recbench.report.charts import INK, Chart, as_svg, colour, label_axes, new_figure, short_amount

#: Days shown as dates; a longer time is told by months.
MONTHS_FROM = 400
TICKS = 4


def audit_chart(found: Mapping[str, Any]) -> Chart | None:
    """The chart of an audit; None for audits of before it was counted."""
    if found.get("timeline"):
        return _timeline(found["timeline"])
    return _lengths(found["lengths"]) if found.get("lengths") else None


def _timeline(line: Mapping[str, Any]) -> Chart:
    """Training events and test targets over time, each as a share of its own number."""
    edges = [datetime.fromisoformat(text) for text in line["edges"]]
    figure, axes = new_figure(4.8, 2.2)
    tips = {}
    x = list(range(len(edges)))
    for i, (name, counts) in enumerate((("training events", line["training"]), ("test targets", line["test"]))):
        total = sum(counts) or 1
        shares = [100 * count / total for count in counts]
        axes.fill_between(x, [*shares, shares[-1]], step="post", color=colour(i), alpha=0.25, linewidth=0)
        (drawn,) = axes.step(
            x, [*shares, shares[-1]], where="post", color=colour(i), linewidth=1.5, linestyle=("-", (0, (5, 1.5)))[i]
        )
        drawn.set_gid(f"tip{i}")
        tips[f"tip{i}"] = f"{name}: {sum(counts):,}"
        axes.text(
            0.01, 0.95 - 0.11 * i, f"{'— ' if i == 0 else '- - '}{name}", transform=axes.transAxes, color=colour(i), fontsize=8.5, va="top",
            parse_math=False,
        )  # fmt: skip
    label_axes(axes, "", "% of each", short_amount)
    shown = [round(k * (len(edges) - 1) / (TICKS - 1)) for k in range(TICKS)]
    form = "%Y-%m" if (edges[-1] - edges[0]).days > MONTHS_FROM else "%Y-%m-%d"
    axes.set_xticks(shown, [edges[i].strftime(form) for i in shown], fontsize=8.5, color=INK)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the words
    text = f"Training events and test targets over time, {_span(edges, line['training'])} and {_span(edges, line['test'])} of them."
    return Chart("When training and test happened", "time", as_svg(figure, "timeline", text, tips), text)


def _span(edges: Sequence[datetime], counts: Sequence[int]) -> str:
    """First and last day of what is counted."""
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return "none"
    return f"{edges[filled[0]].date()} to {edges[filled[-1] + 1].date()}"


def _lengths(lengths: Mapping[str, Any]) -> Chart:
    """Test cases by the length of their history."""
    figure, axes = new_figure(4.8, 2.2)
    places = range(len(lengths["labels"]))
    axes.bar(places, lengths["cases"], color=colour(0), width=0.8)
    label_axes(axes, "events in the history of a test case", "test cases", short_amount)
    axes.set_xticks(places, lengths["labels"], fontsize=8)
    counts = ", ".join(f"{name}: {count:,}" for name, count in zip(lengths["labels"], lengths["cases"], strict=True))
    text = f"Test cases by events in their history. {counts}."
    return Chart("How long the histories of the test are", "lengths", as_svg(figure, "lengths", text, {}), text)
