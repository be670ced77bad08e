"""What the board lacks: rows with fewer seeds than it asks for, and rows that no run tells of."""

from __future__ import annotations

from collections.abc import Sequence

from recbench.report.board import Board, Line
from recbench.report.cells import Cell, Heading, Table
from recbench.study.definition import Study
from recbench.study.recorded import final_lines

#: Seeds that a row is to have, by whether it stands above the reference or is not told apart from it.
SEEDS_NEAR_THE_TOP, SEEDS = 5, 3


def short_of_seeds(found: Sequence[Board]) -> Table:
    """Rows that have fewer seeds than a board asks for, with the hours of training that they lack."""
    headings_ = tuple(
        Heading(text, numeric=i > 2)
        for i, text in enumerate(("table", "row", "study", "seeds", "wanted", "hours to go"))
    )
    rows = []
    for board in found:
        for line in board.measured:
            if line.row is None or (wanted := seeds_wanted(board, line)) <= len(line.row.runs):
                continue
            spent = line.mean("train_cpu_seconds") or line.mean("train_seconds") or 0.0
            had = len(line.row.runs)
            hours = spent * (wanted - had) / 3600
            told = (board.title, line.name, line.row.told.get("study", ""))
            numbers = (Cell(str(had), had), Cell(str(wanted), wanted), Cell(f"{hours:.1f}", hours))
            rows.append((*map(Cell, told), *numbers))
    return Table("Rows short of seeds", headings_, tuple(rows), ("measured",) * len(rows))


def seeds_wanted(board: Board, line: Line) -> int:
    """Five for a row that may be above the reference, three for the others; one where a seed changes nothing, as of counting."""
    if "epochs" not in line.figures or board.metric is None:
        return 1
    reference = next((one for one in board.measured if one.name == board.reference), None)
    if reference is None or line.verdict is None or reference.verdict is None:
        return SEEDS
    return SEEDS_NEAR_THE_TOP if line.verdict.high >= reference.verdict.low else SEEDS


def not_run(studies: Sequence[Study]) -> Table:
    """The rows of studies that have no line in results.csv, with the command that runs all of a study's."""
    texts = "study", "row", "seeds", "command"
    rows = []
    for study in studies:
        told = {line["row"] for line in final_lines(study.folder / "results.csv", study)}
        command = Cell(f"recbench study {study.name} --missing")
        for row in study.rows.values():
            if row.name not in told:
                rows.append((Cell(study.name), Cell(row.name), Cell(str(len(row.seeds)), len(row.seeds)), command))
    headings = tuple(Heading(text, numeric=text == "seeds") for text in texts)
    return Table("Rows not run yet", headings, tuple(rows), ("measured",) * len(rows))
