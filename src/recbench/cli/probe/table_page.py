"""A probe's result as a page of tables: what to take from it in a sentence, then the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from recbench.cli.probe.page import STYLE


@dataclass(frozen=True)
class Table:
    """heading of the table; columns: heading -> key of a row; rows: plain values."""

    heading: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Page:
    """title; sentences below it; the tables; note under them."""

    title: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    note: str

    def markdown(self) -> str:
        """The page as Markdown."""
        lines = [f"# {self.title}", "", *(line for said in self.sentences for line in (said, ""))]
        for table in self.tables:
            lines += [
                f"## {table.heading}",
                "",
                f"| {' | '.join(table.columns)} |",
                f"|{' --- |' * len(table.columns)}",
            ]
            lines += [f"| {' | '.join(told(row.get(key)) for key in table.columns.values())} |" for row in table.rows]
            lines.append("")
        return "\n".join([*lines, self.note, ""])

    def html(self) -> str:
        """The page as HTML that needs no network."""
        title = escape(self.title)
        parts = [
            f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
            f"<style>{STYLE}</style><h1>{title}</h1>",
            *(f"<p>{escape(said)}</p>" for said in self.sentences),
        ]
        for table in self.tables:
            head = "".join(f"<th>{escape(name)}" for name in table.columns)
            rows = "".join(
                f"<tr>{''.join(f'<td class=n>{escape(told(row.get(key)))}' for key in table.columns.values())}</tr>"
                for row in table.rows
            )
            parts.append(f"<h2>{escape(table.heading)}</h2><table><tr>{head}</tr>{rows}</table>")
        return "".join([*parts, f"<p class=soft>{escape(self.note)}</p></html>\n"])


def told(value: Any) -> str:
    """A cell: words as they are, whole numbers with commas, others to four digits, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value.replace("|", "/")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
