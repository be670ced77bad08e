"""The leaderboard of a board as a table: names, the metric with what is known of it, further figures, costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from recbench.config.tuned import tuned_file
from recbench.evaluation.clicks import METRICS as CLICK_METRICS
from recbench.report.board import BOUND, MEASURED, PUBLISHED, Board, Line
from recbench.report.cells import EMPTY, Cell, Column, Heading, Table, decimals_of, number
from recbench.report.columns import BY_NAME, ON_PAGE
from recbench.report.notes import MARK

#: Figures that ``evaluation.metrics`` asks for, and what each says.
OF_LISTS = {
    "ild_category": "intra-list diversity: how far the categories of a list's items are from each other",
    "ild_text": "intra-list diversity: how far the texts of a list's items are from each other",
    "calibration_category": "distance of a list's categories from those of its history; less is better",
    "calibration_popularity": "distance of a list's share of popular items from that of its history; less is better",
    "arp": "mean training count of the items of a list",
    "aplt": "share of a list that is of the long tail",
    "tail_recall": "share of targets of the long tail that are found",
    "serendipity": "share of a list that are hits which a list of popular items would not have had",
    "disparity_activity": "largest difference of NDCG between users by activity",
    "disparity_taste": "largest difference of NDCG between users by their taste for popular items",
    "disparity_popularity": "largest difference of hits between head, middle and tail items",
    "disparity_category": "largest difference of hits between categories of items",
    "disparity_exposure": "share of places that would have to go to another group for every group to have its share of events",
    "stability": "share of a list that is the same with another seed",
    "day_stability": "share of a list that is the same when the last day of training is drawn anew",
}
HELP = {
    "ndcg": "normalised discounted cumulative gain",
    "hr": "hit rate: share of cases with the target among the first k",
    "mrr": "mean reciprocal rank",
    "recall": "share of a case's targets that are among the first k",
    "precision": "share of the first k that are targets",
    "coverage": "share of the catalogue that is recommended to anybody",
    "novelty": "mean self-information of what is recommended, in bits",
    "mean_popularity": "mean training count of what is recommended: popularity bias",
    "auc": "chance that a click stands above a row without one",
    "gauc": "AUC among the rows of one user, weighted by rows",
    "logloss": "mean of -log p of what happened",
    "ne": "log loss over that of the constant model",
    "calibration": "sum of p over the number of clicks",
    "ece": "distance of p from the rate of clicks, over 20 bins",
    "gini": "how unequally items are recommended, 0 to 1",
    **OF_LISTS,
}
#: Figures of which more is better without a doubt; the best of a column is bold.
MORE_IS_BETTER = ("ndcg", "hr", "mrr", "recall", "precision", "auc", "gauc")
#: Figures that a reader must choose on the page.
ASIDE = ("novelty", "mean_popularity", "gini")


def leaderboard(board: Board, columns: Sequence[str] = ()) -> Table:
    """The table of a board. columns: figures that a study asks for; they stand before the usual ones."""
    if board.metric is None:
        return _plain_board(board, columns)
    names = _accuracy(board, columns)
    costs = [cost.name for cost in ON_PAGE if any(cost.name in line.figures for line in board.measured)]
    others = [name for name in columns if name in _all_names(board) and name not in (*names, *costs, board.metric)]
    made = [
        _places(board),
        _names(board),
        *_told(board),
        _figures(
            board, board.metric, Heading(board.metric, f"{_help(board.metric)}; rows are sorted by it", paper=True)
        ),
        *_verdicts(board),
        *(
            _figures(board, name, Heading(name, _help(name), paper=i < 3, extra=name not in columns and _aside(name)))
            for i, name in enumerate(names)
        ),
        *(_costs(board, name, asked=name in columns) for name in costs),
        *(
            _costs(board, name, asked=True)
            if name in BY_NAME
            else _figures(board, name, Heading(name.replace("_", " ")))
            for name in others
        ),
        _seeds(board),
    ]
    return Table.of(f"Test, {board.title}", made, [line.kind for line in board.lines], board.notes)


def _plain_board(board: Board, columns: Sequence[str]) -> Table:
    """Of runs that rank nothing: what they say of themselves, such as the figures of item codes."""
    there = [name for name in _all_names(board) if name.startswith("tokenizer/")]
    wanted = [name for name in columns if name in there]
    names = wanted or [name for name in there if not re.search(r"_[2-9]$", name)][:12]
    costs = [cost.name for cost in ON_PAGE if any(cost.name in line.figures for line in board.measured)]
    made = [
        _names(board),
        *_told(board),
        *(
            _figures(board, name, Heading(name.removeprefix("tokenizer/").replace("_", " "), paper=i < 6))
            for i, name in enumerate(names)
        ),
        *(_costs(board, name, asked=name in columns) for name in costs),
        _seeds(board),
    ]
    return Table.of(f"Runs that rank nothing, {board.title}", made, [line.kind for line in board.lines], board.notes)


def _all_names(board: Board) -> list[str]:
    return list(dict.fromkeys(name for line in board.lines for name in line.figures))


def _accuracy(board: Board, columns: Sequence[str]) -> list[str]:
    """The figures beside the metric: what a study asks for of this protocol, then accuracy, coverage, novelty and bias at the same cutoff."""
    assert board.metric is not None
    if board.plain_metric in CLICK_METRICS:
        of_clicks = [name for name in columns if name.partition(":")[0] in CLICK_METRICS]
        measured = _all_names(board)
        return [n for n in dict.fromkeys([*of_clicks, *CLICK_METRICS]) if n in measured and n != board.metric]
    there, cutoff = set(_all_names(board)), board.plain_metric.partition("@")[2] or "10"
    usual = [
        f"ndcg@{cutoff}",
        f"hr@{cutoff}",
        "mrr",
        *(f"{n}@{cutoff}" for n in ("coverage", "novelty", "mean_popularity")),
    ]
    if board.place.protocol.startswith("sessions-"):
        usual[:0] = ["hr@20", "mrr@20"]
    usual += [f"{name}@{cutoff}" for name in OF_LISTS]
    asked = [name for name in columns if "@" in name or name.endswith("mrr")]
    wanted = dict.fromkeys([*asked, *(board.prefix + name for name in usual)])
    return [name for name in wanted if name in there and name != board.metric]


def _kind(name: str, kinds: Sequence[str]) -> str:
    """Which of the kinds a figure is, whatever its protocol's prefix and its cutoff; "" for none."""
    return next((kind for kind in kinds if re.search(rf"(^|_){kind}(@|$)", name)), "")


def _help(name: str) -> str:
    return HELP.get(_kind(name, tuple(HELP)), "")


def _aside(name: str) -> bool:
    return bool(_kind(name, ASIDE))


def _places(board: Board) -> Column:
    numbers = iter(range(1, len(board.lines) + 1))
    cells = [Cell(str(n := next(numbers)), n) if line.kind == MEASURED else EMPTY for line in board.lines]
    return Column(Heading("#", "place by the metric, and number in the charts", screen=True), cells)


def _names(board: Board) -> Column:
    return Column(Heading("row", "", numeric=False, paper=True), [_name(line) for line in board.lines])


def _name(line: Line) -> Cell:
    marks = {PUBLISHED: f" (published: {line.source})", BOUND: " (known of the generated data)"}
    tuned = MARK if line.row and any(tuned_file(run.config) for run in line.row.runs) else ""
    return Cell(line.name + tuned + marks.get(line.kind, ""))


def _told(board: Board) -> list[Column]:
    """What is told of rows in words, such as their family."""
    names = dict.fromkeys(name for line in board.measured if line.row for name in line.row.told)
    return [
        Column(
            Heading(name, numeric=False),
            [Cell(line.row.told.get(name, "") if line.row else "") for line in board.lines],
        )
        for name in names
    ]


def _seeds(board: Board) -> Column:
    cells = [Cell(str(len(line.row.runs)), len(line.row.runs)) if line.row else EMPTY for line in board.lines]
    return Column(Heading("seeds", "runs behind the row", paper=True), cells)


def _figures(board: Board, name: str, heading: Heading) -> Column:
    """A figure of all lines with equal decimals; the best measured one is marked where more is better."""
    means = [line.mean(name) for line in board.lines]
    decimals = decimals_of([mean for mean in means if mean is not None])
    measured = [mean for line in board.measured if (mean := line.mean(name)) is not None]
    top = max(measured) if len(measured) > 1 and _kind(name, MORE_IS_BETTER) else None
    cells = []
    for line, mean in zip(board.lines, means, strict=True):
        if mean is None:
            cells.append(EMPTY)
            continue
        deviation = line.figures[name][1]
        spread = number(deviation, decimals) if deviation is not None else ""
        cells.append(Cell(number(mean, decimals), mean, spread=spread, best=line.kind == MEASURED and mean == top))
    return Column(heading, cells)


def _costs(board: Board, name: str, asked: bool) -> Column:
    """A cost. Its deviation over seeds is left out: it tells of the machine, not of the model."""
    cost = BY_NAME[name]
    heading = Heading(cost.heading, cost.help, paper=name == "parameters_total", extra=cost.extra and not asked)
    values = [line.mean(name) for line in board.lines]
    return Column(heading, [EMPTY if value is None else Cell(cost.show(value), value) for value in values])


def _verdicts(board: Board) -> list[Column]:
    """What is known of the metric beyond its mean; nothing where no row was judged."""
    if not any(line.verdict for line in board.lines):
        return []
    ends = [end for line in board.lines if line.verdict for end in (line.verdict.low, line.verdict.high)]
    scale = min(ends), max(ends)

    def column(heading: Heading, cell: Callable[[Line], Cell]) -> Column:
        return Column(heading, [cell(line) if line.verdict else EMPTY for line in board.lines])

    columns = [
        column(Heading("95 %", "interval over users and seeds", paper=True), _interval),
        column(
            Heading("interval", "the same, drawn; all rows on one scale", numeric=False, screen=True),
            lambda line: _bar(line, scale),
        ),
        column(
            Heading("group", "rows that share a letter are not told apart (Holm, 5 %)", numeric=False, paper=True),
            lambda line: Cell(letters(line.verdict.group) if line.verdict else ""),
        ),
    ]
    if board.reference is not None:
        said = f"against {board.reference}"
        columns += [
            column(Heading(said, "relative difference with its 95 % interval", paper=True), _against(board)),
            column(
                Heading("p (Holm)", "of that difference, corrected for all comparisons of the table", extra=True),
                _corrected(board),
            ),
        ]
    return columns


def _interval(line: Line) -> Cell:
    assert line.verdict is not None
    return Cell(f"[{number(line.verdict.low)}, {number(line.verdict.high)}]", line.verdict.low)


def _bar(line: Line, scale: tuple[float, float]) -> Cell:
    assert line.verdict is not None
    width = (scale[1] - scale[0]) or 1.0
    found = line.verdict
    low, mean, high = ((value - scale[0]) / width for value in (found.low, found.mean, found.high))
    return Cell("", found.mean, (low, mean, high))


def _against(board: Board) -> Callable[[Line], Cell]:
    def cell(line: Line) -> Cell:
        found = line.verdict
        if found is None or line.name == board.reference or found.relative is None:
            return EMPTY
        ends = ""
        if found.relative_low is not None and found.relative_high is not None:
            ends = f" [{100 * found.relative_low:+.1f}, {100 * found.relative_high:+.1f}]"
        return Cell(f"{100 * found.relative:+.1f} %{ends}", found.relative)

    return cell


def _corrected(board: Board) -> Callable[[Line], Cell]:
    def cell(line: Line) -> Cell:
        p = line.verdict.p_holm if line.verdict else None
        if p is None or line.name == board.reference:
            return EMPTY
        return Cell("< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0"), p)

    return cell


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
