"""A table of the report as Markdown and LaTeX, and a board as records for CSV."""

from __future__ import annotations

import re
from typing import Any

from recbench.report.board import MEASURED, Board
from recbench.report.cells import Cell, Table


def markdown_table(table: Table) -> str:
    """GitHub's form; what is drawn on a page only is left out."""
    shown = [i for i, heading in enumerate(table.headings) if not heading.screen]
    lines = [
        [markdown_text(table.headings[i].text) for i in shown],
        ["---:" if table.headings[i].numeric else "---" for i in shown],
        *([_markdown_cell(row[i]) for i in shown] for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _markdown_cell(cell: Cell) -> str:
    """The best of a column is bold."""
    text = markdown_text(cell.text)
    spread = f" ± {markdown_text(cell.spread)}" if cell.spread else ""
    return f"**{text}**{spread}" if cell.best else text + spread


def markdown_text(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", " ".join(text.split()))


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "–": "--",
    "·": r"$\cdot$", "|": r"\textbar{}", '"': "''",
}  # fmt: skip


def latex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(latex(r"a_b & 50 % \input{x}"))
    a\_b \& 50 \% \textbackslash{}input\{x\}
    """
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _latex_cell(cell: Cell) -> str:
    """The best of a column is bold."""
    text = rf"\textbf{{{latex(cell.text)}}}" if cell.best else latex(cell.text)
    return f"{text} {latex(f'± {cell.spread}')}" if cell.spread else text


def latex_table(table: Table, label: str) -> str:
    """A ``table`` with booktabs; published rows are below a rule, and the best measured value of a column is bold."""
    shown = [i for i, heading in enumerate(table.headings) if heading.paper]
    form = "".join("r" if table.headings[i].numeric else "l" for i in shown)
    lines = [" & ".join(latex(table.headings[i].text) for i in shown) + r" \\", r"\midrule"]
    before = MEASURED
    for row, kind in zip(table.rows, table.kinds, strict=True):
        if kind != before:
            lines.append(r"\midrule")
        before = kind
        cells = [_latex_cell(row[i]) for i in shown]
        if cells[0].startswith(("[", "*")):  # after a line break LaTeX would take it for an option of that
            cells[0] = "{}" + cells[0]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(table.caption)}}}",
            rf"\label{{tab:{label}}}",
            r"\begin{tabular}{" + form + "}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def records(board: Board) -> list[dict[str, Any]]:
    """One record a line of a board: every figure with its deviation, and the verdict in full."""
    found = []
    for line in board.lines:
        record: dict[str, Any] = {
            "data": board.place.data,
            "protocol": board.place.protocol,
            "data_fingerprint": board.place.fingerprint,
            "split_hash": board.place.split,
            "row": line.name,
            "kind": line.kind,
            "source": line.source,
            "keys": " ".join(run.key for run in line.row.runs) if line.row else "",
            "metric": board.metric or "",
        }
        if line.verdict is not None:
            record |= {name: value for name, value in vars(line.verdict).items() if name != "name"}
        for name, (mean, deviation) in line.figures.items():
            record[name] = mean
            if deviation is not None:
                record[f"{name} sd"] = deviation
        found.append(record)
    return found
