"""What a board comes to, for a reader of one sentence: who is best, by how much, against what floor; and the bars that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbench.report.board import BOUND, Board, Lead, Line
from recbench.report.cells import number
from recbench.report.verdicts import FLOORS, floor_of

#: Bars of the chart; of more rows the best ones are shown, and the floor.
MOST_BARS = 12


@dataclass(frozen=True)
class Bar:
    """A row of the chart. share, low, high: mean and interval in shares of the scale, which starts at 0; low and high None without interval.

    kind: best, floor, bound or "".
    """

    name: str
    text: str
    share: float
    low: float | None
    high: float | None
    kind: str


@dataclass(frozen=True)
class Bars:
    """The chart. floor: where the floor is, in shares of the scale, or None; caption: what is drawn; left_out: rows that are not."""

    caption: str
    bars: tuple[Bar, ...]
    floor: float | None
    left_out: int


def sentences(board: Board) -> tuple[str, ...]:
    """Two or three plain sentences on a board; the first one is the headline. None for runs that rank nothing."""
    lead, metric = board.lead, board.metric
    if lead is None or metric is None:
        return ()
    means = {line.name: value for line in board.measured if (value := line.mean(metric)) is not None}
    best = f"{lead.best} is best: its {metric} is {number(means[lead.best])}"
    if lead.floor is not None and lead.relative is not None:
        kind = "the floor" if lead.is_floor else "the reference"
        return f"{best}, {_by(lead)} {kind} {lead.floor} ({number(means[lead.floor])}).", *_runner_up(board)
    if lead.is_floor and len(means) > 1:
        return f"No row beats the floor: {best}.", *_runner_up(board)
    if len(means) == 1:
        return f"There is one row: the {metric} of {lead.best} is {number(means[lead.best])}.", NO_FLOOR
    return (f"{best}.", *_runner_up(board), *(() if lead.is_floor or lead.floor else (NO_FLOOR,)))


#: What is said of a board that nothing can be measured against.
NO_FLOOR = f"No floor is among the rows. Add a run of model={FLOORS[0]}: a model below it has learned nothing personal."


def _by(lead: Lead) -> str:
    """How much the best row is above the floor, with the interval where there is one.

    >>> _by(Lead("a", "b", True, 0.314, 0.2, 0.42))
    '31 % (95 % interval 20 to 42 %) above'
    >>> _by(Lead("a", "b", True, 6.77, 5.49, 8.41)), _by(Lead("a", "b", True, 6.77))
    ('7.8 times (95 % interval 6.5 to 9.4 times)', '7.8 times')
    """
    assert lead.relative is not None
    times = lead.relative >= 1
    value, low, high = (None if part is None else _much(part, times) for part in (lead.relative, lead.low, lead.high))
    unit = "times" if times else "%"
    interval = "" if low is None else f" (95 % interval {low} to {high} {unit})"
    return f"{value} {unit}{interval}" + ("" if times else " above")


def _much(share: float, times: bool) -> str:
    if times:
        return f"{1 + share:,.1f}" if share < 99 else f"{1 + share:,.0f}"
    return f"{100 * share:.0f}" if abs(share) >= 0.1 else f"{100 * share:.1f}"


def _runner_up(board: Board) -> tuple[str, ...]:
    """Which rows the best one is not told apart from."""
    first, *others = board.measured
    if first.verdict is None or not others:
        return ()
    letters = set(first.verdict.group)
    alike = [line.name for line in others if line.verdict is not None and letters & set(line.verdict.group)]
    unknown = sum(line.verdict is None for line in others)
    more = f" {unknown} more could not be judged." if unknown else ""
    if not alike:
        return (f"The data tell it apart from every other row that was judged (Holm, 5 %).{more}",)
    named = alike[:3] + ([f"{len(alike) - 3} more"] if len(alike) > 3 else [])
    said = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return (f"The data do not tell it apart from {said} (Holm, 5 %).{more}",)


def bars_of(board: Board) -> Bars | None:
    """The chart of a board; None for runs that rank nothing."""
    if board.metric is None or not board.measured:
        return None
    floor, is_floor = floor_of(board)
    shown: list[Line] = board.measured[:MOST_BARS]
    if floor is not None and floor.name not in [line.name for line in shown]:
        shown[-1] = floor
    shown += [line for line in board.lines if line.kind == BOUND and line.mean(board.metric) is not None]
    top = max(max(line.mean(board.metric) or 0.0, line.verdict.high if line.verdict else 0.0) for line in shown) or 1.0
    bars = [_bar(line, board, top, floor if is_floor else None) for line in shown]
    below = (floor.mean(board.metric) or 0.0) / top if floor is not None else None
    left_out = len(board.measured) - sum(line.kind != BOUND for line in shown)
    return Bars(_caption(board, floor, is_floor), tuple(bars), below, left_out)


def _caption(board: Board, floor: Line | None, is_floor: bool) -> str:
    parts = [f"{board.metric} on the test"]
    if any(line.verdict for line in board.lines):
        parts.append("thin lines are 95 % intervals")
    if floor is not None:
        parts.append(f"the dashed line is {'the floor' if is_floor else 'the reference'}, {floor.name}")
    return "; ".join(parts)


def _bar(line: Line, board: Board, top: float, floor: Line | None) -> Bar:
    assert board.metric is not None
    value = line.mean(board.metric) or 0.0
    kind = "bound" if line.kind == BOUND else ""
    if line is board.measured[0]:
        kind = "best"
    elif floor is not None and line.name == floor.name:
        kind = "floor"
    low, high = (line.verdict.low / top, line.verdict.high / top) if line.verdict else (None, None)
    return Bar(line.name, number(value), value / top, None if low is None else max(low, 0.0), high, kind)


def shared_words(boards: Sequence[Board]) -> tuple[str, ...]:
    """What all boards of a page have in common, in words: the data, and parts of the protocol. Nothing for one board."""
    if len(boards) < 2:
        return ()
    parts = [_parts(board) for board in boards]
    return tuple(part for part in parts[0] if all(part in other for other in parts))


def headings(boards: Sequence[Board]) -> list[str]:
    """Headings of boards on one page: what differs between them. Two headings are never the same."""
    shared = shared_words(boards)
    said = []
    for board in boards:
        data, *protocol = _parts(board)
        # How the data are split is said always: without it a heading tells little.
        own = [part for i, part in enumerate(protocol) if i == 0 or part not in shared]
        text = ", ".join(own)
        said.append(text[:1].upper() + text[1:] if data in shared else f"{data}: {text}")
    return [text if said.count(text) == 1 else board.title for text, board in zip(said, boards, strict=True)]


def _parts(board: Board) -> list[str]:
    """Data, then the parts of the protocol."""
    data, found, protocol = board.title.partition(": ")
    return [data, *protocol.split(", ")] if found else [data]
