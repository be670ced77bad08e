"""Charts as SVG that stands inside the page: its colours are the page's, its text is text, and nothing is fetched or run to show it.

Matplotlib draws them. It is there already (MLflow brings it), and a chart of its is 10 to 20 kB that also prints and shows without
JavaScript, where Plotly's library alone would put 4 MB into every report.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbench.core.terminal import short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from recbench.report.columns import Axis
    from recbench.report.curves import Curve
    from recbench.report.pareto import Point
    from recbench.report.slices import Slices

#: Lines with a colour of their own; the others are grey.
N_COLOURS = 8
DASHES: Sequence[Any] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = "osD^vPX*"
#: Colours that stand for the page's own, which change with its theme.
INK, RULE, FAINT = "#010101", "#020202", "#030303"
ROLES = {INK: "var(--ink)", RULE: "var(--rule)", FAINT: "var(--faint)"}
EPOCH = "epoch"
#: Shares of a chart's width and height within which two numbers would cover each other; numbers of one label.
NEAR, MOST_NUMBERS = (0.12, 0.055), 6
#: Small, so that text is still large enough where a phone shows the whole width.
SIZE = 4.0, 2.8


@dataclass(frozen=True)
class Chart:
    """title; choice: what it is called where one of several is chosen; svg: ready for the page; text: what it shows, in words."""

    title: str
    choice: str
    svg: str
    text: str


def colour(i: int) -> str:
    """What stands for colour ``i`` of the page while a chart is drawn."""
    return f"#a0b0{i:02x}"


def style(i: int | None) -> dict[str, Any]:
    """Colour, dashes and marker of line ``i``, so that none of them is needed alone; grey for None."""
    if i is None:
        return {"color": FAINT, "linewidth": 0.8, "zorder": 1}
    return {
        "color": colour(i),
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.5,
    }


def pareto_chart(axis: Axis, points: Sequence[Point], metric: str, numbers: Mapping[str, int], name: str) -> Chart:
    """Quality over one kind of cost; numbers: place of a row in its table, which stands beside its point."""
    figure, axes = new_figure()
    whole = [point.cost for point in points]
    if min(whole) > 0 and max(whole) / min(whole) > 20:
        axes.set_xscale("log")
    steps = [point for point in points if point.on_front]
    axes.plot(
        [p.cost for p in steps],
        [p.value for p in steps],
        drawstyle="steps-post",
        color=colour(0),
        linewidth=1.2,
        zorder=1,
    )
    tips = {}
    for i, point in enumerate(points):
        face = colour(0) if point.on_front else "none"
        (dot,) = axes.plot(
            point.cost, point.value, "o", color=colour(0) if point.on_front else INK, markerfacecolor=face, markersize=5
        )
        dot.set_gid(f"tip{i}")
        tips[f"tip{i}"] = (
            f"{point.name}: {metric} {point.value:.4f}, {axis.label} {short_amount(point.cost)} {axis.unit}"
        )
    axes.margins(0.1, 0.12)
    axes.autoscale_view()  # else the limits are set when it is drawn, and no place is known before
    for x, y, names in clusters(points, axes.get_xscale() == "log"):
        _number(axes, x, y, [numbers[name] for name in names])
    label_axes(axes, f"{axis.label} ({axis.unit})", metric, short_amount)
    front = ", ".join(f"{point.name} ({metric} {point.value:.4f}, {short_amount(point.cost)})" for point in steps)
    text = (
        f"{metric} over {axis.label} in {axis.unit}, {len(points)} rows. Nothing is cheaper and better than: {front}."
    )
    return Chart(f"Quality against {axis.label}", axis.label, as_svg(figure, name, text, tips), text)


def clusters(points: Sequence[Point], log: bool) -> list[tuple[float, float, list[str]]]:
    """(cost, value, names) of points that lie so close that their numbers would cover each other; those share one label."""
    from math import log10

    across = [log10(point.cost) if log else point.cost for point in points]
    width = (max(across) - min(across)) or 1.0
    height = (max(p.value for p in points) - min(p.value for p in points)) or 1.0
    found: list[tuple[float, float, float, float, list[str]]] = []
    for point, x in sorted(zip(points, across, strict=True), key=lambda pair: -pair[0].value):
        for left, low, _, _, names in found:
            if abs(x - left) / width < NEAR[0] and abs(point.value - low) / height < NEAR[1]:
                names.append(point.name)
                break
        else:
            found.append((x, point.value, point.cost, point.value, [point.name]))
    return [(cost, value, names) for _, _, cost, value, names in found]


def _number(axes: Axes, x: float, y: float, numbers: Sequence[int]) -> None:
    """Numbers beside a point: to its right, unless they would leave the chart."""
    text = ", ".join(map(str, sorted(numbers)[:MOST_NUMBERS])) + (" …" if len(numbers) > MOST_NUMBERS else "")
    inside = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    left = inside[0] > 0.7
    offset, side = ((-5, 2), "right") if left else ((5, 2), "left")
    axes.annotate(text, (x, y), offset, textcoords="offset points", ha=side, color=INK, fontsize=8)


def curves_chart(curves: Sequence[Curve], metric: str, styles: Mapping[str, int], by: str, name: str) -> Chart:
    """Validation metric over epochs or seconds; by: ``epochs`` or ``seconds``."""
    figure, axes = new_figure()
    tips = {}
    for i, curve in enumerate(curves):
        place = styles.get(curve.name)
        (line,) = axes.plot(getattr(curve, by), curve.values, **style(place), markevery=max(1, len(curve.values) // 6))
        line.set_gid(f"tip{i}")
        tips[f"tip{i}"] = f"{curve.name}: best {max(curve.values):.4f} of {len(curve.values)} epochs"
    label_axes(
        axes,
        {"epochs": EPOCH, "seconds": "seconds of training and validation"}[by],
        f"validation {metric}",
        short_amount,
    )
    best = ", ".join(
        f"{c.name} {max(c.values):.4f} at epoch {c.epochs[c.values.index(max(c.values))]}" for c in curves[:N_COLOURS]
    )
    more = f"; and {len(curves) - N_COLOURS} more" if len(curves) > N_COLOURS else ""
    text = f"Validation {metric} by {by} of training, first seed of each row. Best values: {best}{more}."
    return Chart(f"Learning curves over {by}", by, as_svg(figure, name, text, tips), text)


def slices_chart(slices: Slices, metric: str, styles: Mapping[str, int], title: str, name: str) -> Chart:
    """The metric of each row over the groups."""
    figure, axes = new_figure()
    places, tips = range(len(slices.labels)), {}
    for i, (row, values) in enumerate(slices.values.items()):
        (line,) = axes.plot(places, values, **style(styles.get(row)))
        line.set_gid(f"tip{i}")
        tips[f"tip{i}"] = row
    label_axes(axes, slices.what, metric, short_amount)
    axes.set_xticks(places, slices.labels, fontsize=7.5)
    counts = ", ".join(f"{label}: {count:,}" for label, count in zip(slices.labels, slices.counts, strict=True))
    text = f"{metric} by {slices.what}; {slices.unit} in each group: {counts}. The values stand in the table below."
    return Chart(title, title, as_svg(figure, name, text, tips), text)


def swatch(i: int) -> str:
    """A line of the legend in the style of line ``i``."""
    dashes = DASHES[i % len(DASHES)]
    pattern = "" if dashes == "-" else f' stroke-dasharray="{" ".join(str(2 * part) for part in dashes[1])}"'
    return (
        f'<svg class="swatch" viewBox="0 0 36 10" aria-hidden="true"><path d="M0 5H36" stroke="var(--c{i})" stroke-width="2.5"'
        f"{pattern}/></svg>"
    )


def short_amount(value: float, _place: object = None) -> str:
    """A number on an axis, short."""
    return short_number(value).replace(".0", "") if value >= 1000 else f"{value:.3g}"


def new_figure(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """A figure with one pair of axes. width, height: inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def label_axes(axes: Axes, x: str, y: str, form: Callable[..., str]) -> None:
    """Axes in the page's ink, with light rules across."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_xlabel(x, color=INK, fontsize=9, parse_math=False)
    axes.set_ylabel(y, color=INK, fontsize=9, parse_math=False)
    axes.grid(True, axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=8.5, width=0.6)
    log = axes.get_xscale() == "log"
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6) if log else MaxNLocator(6, integer=x == EPOCH))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(form))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)


def as_svg(figure: Figure, name: str, text: str, tips: Mapping[str, str]) -> str:
    """The figure as an element of the page: no prolog, no fonts, no names of its own; colours and ids are the page's."""
    from matplotlib import rc_context

    target = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg") :]
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<!--.*?-->",
        r"<style.*?</style>",
        r' xmlns(:\w+)?="[^"]*"',
        r"font-family: [^;\"]*;? ?",
    ):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    # Hundredths of a point are not seen, and are a third of the file.
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) | set(tips)
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", svg)
    for role, value in {**ROLES, **{colour(i): f"var(--c{i})" for i in range(N_COLOURS)}}.items():
        svg = svg.replace(role, value)
    for tip, words in tips.items():
        svg = svg.replace(f'<g id="{name}-{tip}">', f'<g id="{name}-{tip}"><title>{html.escape(words)}</title>')
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="[^"]*"', head[0])
    assert box is not None
    opening = f'<svg {box[0]} role="img" aria-label="{html.escape(text)}">'
    return opening + re.sub(r"\s*\n\s*", " ", svg[head.end() :]).strip()
