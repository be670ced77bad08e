"""The tables of a report, once as cells, then as Markdown, LaTeX and CSV; the page draws the same cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from recbench.core.terminal import short_number
from recbench.report.board import BOUND, MEASURED, PUBLISHED, Board, Line


@dataclass(frozen=True)
class Cell:
    """text as shown; sort: by what a column is sorted, if not by the text; bar: (low, mean, high) in shares of the column's range."""

    text: str
    sort: float | None = None
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Heading:
    """text; help: one sentence; numeric: set to the right; paper: also in LaTeX, which has little room; screen: on the page only."""

    text: str
    help: str = ""
    numeric: bool = True
    paper: bool = False
    screen: bool = False


@dataclass(frozen=True)
class Table:
    """headings [N], rows of N cells, and the kind of each row (measured, published, best achievable)."""

    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kinds: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


EMPTY = Cell("")
#: Costs of a board, by the figure's name: heading, form, what it is.
COSTS: Mapping[str, tuple[str, Callable[[float], str], str]] = {
    "parameters_total": ("parameters", short_number, "values that are trained or part of the network"),
    "parameters_active": ("active", short_number, "values that one answer reads, tables counted by the rows it reads"),
    "train_seconds": ("training s", lambda v: _seconds(v), "seconds of training, dependencies not included"),
    "train_seconds_with_dependencies": (
        "with deps s",
        lambda v: _seconds(v),
        "seconds of training, those of the runs it stands on included",
    ),
    "latency_p50_ms": ("latency ms", lambda v: f"{v:.2f}", "median time of one answer to one user"),
    "bytes_on_disk": ("disk", lambda v: f"{short_number(v)}B", "bytes of the stored weights"),
    "flops_per_user": ("FLOP", short_number, "work of one answer, by torch's counter"),
    "peak_memory_bytes": ("peak memory", lambda v: f"{short_number(v)}B", "largest memory held"),
    "peak_gpu_memory_bytes": ("peak GPU memory", lambda v: f"{short_number(v)}B", "largest memory held on the GPU"),
    "energy_joules": ("energy J", lambda v: f"{v:,.0f}", "energy of training, where a counter is readable"),
}


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


#: Figures whose deviation over seeds tells nothing.
AMOUNTS = (
    "epochs",
    "best_epoch",
    "test_seconds",
    "seconds_per_epoch",
    "users_per_second",
    "latency_p95_ms",
    "latency_p50_ms",
)
HELP = {
    "ndcg": "normalised discounted cumulative gain",
    "hr": "hit rate: share of cases with the target among the first k",
    "mrr": "mean reciprocal rank",
    "coverage": "share of the catalogue that is recommended to anybody",
    "novelty": "mean self-information of what is recommended, in bits",
    "mean_popularity": "mean training count of what is recommended: popularity bias",
    "gini": "how unequally items are recommended, 0 to 1",
}


def leaderboard(board: Board, columns: Sequence[str] = ()) -> Table:
    """The table of a board. columns: figures that a study asks for; they stand before the usual ones."""
    if board.metric is None:
        return _plain_board(board, columns)
    names = _accuracy(board, columns)
    costs = [name for name in COSTS if any(name in line.figures for line in board.measured)]
    others = [name for name in columns if name in _all_names(board) and name not in (*names, *costs, board.metric)]
    judged = any(line.verdict for line in board.lines)
    against = board.reference is not None and judged
    headings = [
        Heading("#", "place by the metric, and number in the charts", screen=True),
        Heading("row", "", numeric=False, paper=True),
        Heading(board.metric, _help(board.metric) + "; rows are sorted by it", paper=True),
        *([Heading("95 %", "interval over users and seeds", paper=True)] if judged else []),
        *(
            [Heading("interval", "the same, drawn; all rows on one scale", numeric=False, screen=True)]
            if judged
            else []
        ),
        *(
            [Heading("group", "rows that share a letter are not told apart (Holm, 5 %)", numeric=False, paper=True)]
            if judged
            else []
        ),
        *(
            [Heading(f"against {board.reference}", "relative difference with its 95 % interval", paper=True)]
            if against
            else []
        ),
        *([Heading("p (Holm)", "of that difference, corrected for all comparisons of the table")] if against else []),
        *(Heading(name, _help(name), paper=i < 3) for i, name in enumerate(names)),
        *(Heading(COSTS[name][0], COSTS[name][2], paper=name == "parameters_total") for name in costs),
        *(Heading(name.replace("_", " ")) for name in others),
        Heading("seeds", "runs behind the row", paper=True),
    ]
    scale = _scale(board)
    rows, number = [], 0
    for line in board.lines:
        number += line.kind == MEASURED
        rows.append(
            (
                Cell(str(number), number) if line.kind == MEASURED else EMPTY,
                _name(line),
                _figure(line, board.metric),
                *(_interval(line, scale) if judged else ()),
                *(_against(line, board) if against else ()),
                *(_figure(line, name) for name in names),
                *(_cost(line, name) for name in costs),
                *(_figure(line, name) for name in others),
                Cell(str(len(line.row.runs)), len(line.row.runs)) if line.row else EMPTY,
            )
        )
    return Table(
        f"Test, {board.title}", tuple(headings), tuple(rows), tuple(line.kind for line in board.lines), board.notes
    )


def _plain_board(board: Board, columns: Sequence[str]) -> Table:
    """Of runs that rank nothing: what they say of themselves, such as the figures of item codes."""
    there = [name for name in _all_names(board) if name.startswith("tokenizer/")]
    wanted = [name for name in columns if name in there]
    names = wanted or [name for name in there if not re.search(r"_[2-9]$", name)][:12]
    costs = [name for name in COSTS if any(name in line.figures for line in board.measured)]
    headings = (
        Heading("row", numeric=False, paper=True),
        *(Heading(name.removeprefix("tokenizer/").replace("_", " "), paper=i < 6) for i, name in enumerate(names)),
        *(Heading(COSTS[name][0], COSTS[name][2]) for name in costs),
        Heading("seeds", paper=True),
    )
    rows = tuple(
        (
            _name(line),
            *(_figure(line, name) for name in names),
            *(_cost(line, name) for name in costs),
            Cell(str(len(line.row.runs)), len(line.row.runs)) if line.row else EMPTY,
        )
        for line in board.lines
    )
    return Table(
        f"Runs that rank nothing, {board.title}", headings, rows, tuple(line.kind for line in board.lines), board.notes
    )


def _all_names(board: Board) -> list[str]:
    return list(dict.fromkeys(name for line in board.lines for name in line.figures))


def _accuracy(board: Board, columns: Sequence[str]) -> list[str]:
    """The figures beside the metric: what a study asks for of this protocol, then accuracy, coverage, novelty and bias at the same cutoff."""
    assert board.metric is not None
    there, cutoff = set(_all_names(board)), board.plain_metric.partition("@")[2] or "10"
    usual = [
        f"ndcg@{cutoff}",
        f"hr@{cutoff}",
        "mrr",
        *(f"{n}@{cutoff}" for n in ("coverage", "novelty", "mean_popularity")),
    ]
    if board.place.protocol.startswith("sessions-"):
        usual[:0] = ["hr@20", "mrr@20"]
    asked = [name for name in columns if "@" in name or name.endswith("mrr")]
    wanted = dict.fromkeys([*asked, *(board.prefix + name for name in usual)])
    return [name for name in wanted if name in there and name != board.metric]


def _help(name: str) -> str:
    plain = next((kind for kind in HELP if re.search(rf"(^|_){kind}(@|$)", name)), "")
    return HELP.get(plain, "")


def _name(line: Line) -> Cell:
    marks = {PUBLISHED: f" (published: {line.source})", BOUND: " (known of the generated data)"}
    return Cell(line.name + marks.get(line.kind, ""))


def number(value: float) -> str:
    """Four decimals without the zero before the point; larger figures shorter.

    >>> number(0.05461), number(-0.5), number(11.7173)
    ('.0546', '-.5000', '11.72')
    """
    if abs(value) >= 1000:
        return short_number(value) if value > 0 else f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.4g}"
    return f"{value:.4f}".replace("0.", ".", 1)


def _figure(line: Line, name: str) -> Cell:
    if name not in line.figures:
        return EMPTY
    mean, deviation = line.figures[name]
    if name.startswith(("parameters", "bytes")):
        return Cell(short_number(mean), mean)
    if name in AMOUNTS:
        return Cell(f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}", mean)
    return Cell(number(mean) + (f" ± {number(deviation)}" if deviation is not None else ""), mean)


def _cost(line: Line, name: str) -> Cell:
    value = line.mean(name)
    return EMPTY if value is None else Cell(COSTS[name][1](value), value)


def _scale(board: Board) -> tuple[float, float]:
    """Range of all intervals of a board."""
    ends = [end for line in board.lines if line.verdict for end in (line.verdict.low, line.verdict.high)]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _interval(line: Line, scale: tuple[float, float]) -> tuple[Cell, Cell, Cell]:
    found = line.verdict
    if found is None:
        return EMPTY, EMPTY, EMPTY
    width = (scale[1] - scale[0]) or 1.0
    low, mean, high = ((value - scale[0]) / width for value in (found.low, found.mean, found.high))
    text = f"[{number(found.low)}, {number(found.high)}]"
    return Cell(text, found.low), Cell("", found.mean, (low, mean, high)), Cell(letters(found.group))


def letters(group: str) -> str:
    """A group's letters with runs of them shortened, for tables of many rows.

    >>> letters("acdefg"), letters("abc"), letters("yza2b2c2")
    ('ac–g', 'abc', 'y–c2')
    """
    places = [ord(letter) - ord("a") + 26 * (int(turn or 1) - 1) for letter, turn in re.findall(r"([a-z])(\d*)", group)]
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    said = [f"{_letter(run[0])}–{_letter(run[-1])}" if len(run) > 3 else "".join(map(_letter, run)) for run in runs]
    return "".join(said)


def _letter(place: int) -> str:
    turn, letter = divmod(place, 26)
    return chr(ord("a") + letter) + (str(turn + 1) if turn else "")


def _against(line: Line, board: Board) -> tuple[Cell, Cell]:
    found = line.verdict
    if found is None or line.name == board.reference or found.relative is None:
        return EMPTY, EMPTY
    ends = ""
    if found.relative_low is not None and found.relative_high is not None:
        ends = f" [{100 * found.relative_low:+.1f}, {100 * found.relative_high:+.1f}]"
    corrected = EMPTY
    if found.p_holm is not None:
        corrected = Cell("< .001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}".removeprefix("0"), found.p_holm)
    return Cell(f"{100 * found.relative:+.1f} %{ends}", found.relative), corrected
