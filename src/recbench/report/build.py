"""One report from start to end: read the runs, group them, judge them, write page, tables and CSV into one folder."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError
from recbench.core.run_folder import replacing
from recbench.core.terminal import open_out
from recbench.report.boards import boards_of
from recbench.report.cells import Table
from recbench.report.collect import StoredRun, chosen, flat, read_folder, say_damaged, unfinished
from recbench.report.headline import headings, shared_words
from recbench.report.origins import configs_of, failures_table, provenance_table
from recbench.report.page import Page, render, section
from recbench.report.printed import with_published
from recbench.report.rows import Row
from recbench.report.verdicts import judged
from recbench.report.views import views
from recbench.report.writers import latex_table, markdown_table, markdown_text, records

logger = logging.getLogger(__name__)

#: Resamples of a judgement.
RESAMPLES = 10_000


@dataclass(frozen=True)
class Material:
    """What a report is about. rows: of a study; None: runs that differ by their seed only are one row. absent: (row, why) of runs that
    a study wants and that have no folder; columns, published: of a study."""

    name: str
    about: tuple[str, ...]
    runs: tuple[StoredRun, ...]
    rows: tuple[Row, ...] | None = None
    absent: tuple[tuple[str, str], ...] = ()
    names: Mapping[str, str] | None = None
    columns: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()
    references: tuple[str, ...] = ()
    metric: str | None = None
    cache_dir: Path | None = None


def folder_material(
    runs_dir: Path, filters: Mapping[str, str], metric: str | None, reference: str | None, cache_dir: Path | None
) -> Material:
    """A report on the runs of a folder. Raises UserError for a folder without runs, and for filters that fit none."""
    everything = read_folder(runs_dir)
    runs = chosen(everything, filters) if filters else everything
    said = "".join(f", {key}={value}" for key, value in filters.items())
    about = (
        f"{len(runs)} of the {len(everything)} runs in the folder {runs_dir.name}{said}. {len(runs) - len(unfinished(runs))} are finished.",
        "A row is a configuration. Its runs differ by their seed only.",
    )
    name = "-".join([runs_dir.name, *(f"{key}_{value}" for key, value in filters.items())])
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return Material(
        safe, about, tuple(runs), metric=metric, references=(reference,) if reference else (), cache_dir=cache_dir
    )


def write_report(material: Material, out: Path, resamples: int = RESAMPLES) -> Path:
    """Write report.html, report.md, report.tex, leaderboard.csv and runs.csv into a folder; returns the page.

    Raises UserError if there is not one finished run, for an unknown metric or reference, and where the folder cannot be written.
    """
    page = page_of(material, resamples)
    written = write_page(out, page)
    write_csv(out / "runs.csv", [_run_record(run) for run in material.runs])
    return written


def page_of(material: Material, resamples: int = RESAMPLES) -> Page:
    """Everything that the report says. Raises UserError as ``write_report`` does."""
    say_damaged(material.runs)
    finished = [run for run in material.runs if run.finished]
    if not finished:
        states = sorted({run.state for run in material.runs}) or ["not there"]
        raise UserError(
            f"{material.name}: no run is finished (they are {', '.join(states)}); a report needs at least one finished run"
        )
    boards = boards_of(finished, material.rows, material.metric, material.references)
    boards = [judged(board, resamples) for board in boards]
    boards = with_published(boards, material.published, next(iter(material.references), None))
    boards.sort(key=lambda board: not board.main)
    for note in (f"{board.title}: {note}" for board in boards if board.main for note in board.notes):
        logger.warning("%s", note)
    caches, names = cache_dirs(material), headings(boards)
    sections = [section(board, f"board{i + 1}", names[i], material.columns, caches) for i, board in enumerate(boards)]
    configs = configs_of(boards)
    others = (
        ("failures", "Runs without a result", _failures(material)),
        ("provenance", "Where each run comes from", provenance_table(boards, configs)),
    )
    texts = tuple((config.anchor, config.name, config.text) for config in configs)
    return Page(
        f"recbench: {material.name}", material.about, tuple(sections), others, texts, FILES, shared_words(boards)
    )


#: Files beside the page, and what they hold.
FILES = (
    ("leaderboard.csv", "tables as CSV"),
    ("runs.csv", "all figures of each run as CSV"),
    ("report.tex", "tables as LaTeX"),
    ("report.md", "this report as Markdown"),
)


def cache_dirs(material: Material) -> list[Path]:
    """Where prepared data may lie: where it is said, else where the runs had them and where recbench keeps them now."""
    if material.cache_dir is not None:
        return [material.cache_dir]
    stored = [str(run.config["cache_dir"]) for run in material.runs if run.config.get("cache_dir")]
    here = os.environ.get("RECBENCH_CACHE", "~/.cache/recbench")
    return [path for path in dict.fromkeys(Path(text).expanduser() for text in [*stored, here]) if path.is_dir()]


def _failures(material: Material) -> Table:
    names = material.names or {}
    broken = [(names.get(run.key, run.model), run) for run in unfinished(material.runs)]
    return failures_table(broken, material.absent)


def write_page(out: Path, page: Page) -> Path:
    """Write report.html, report.md, report.tex and leaderboard.csv into a folder, each whole or not at all; returns the page. Raises UserError
    where the folder cannot be written."""
    open_out(out)
    boards = [part.board for part in page.sections]
    _text(out / "report.html", render(page))
    _text(out / "report.md", markdown_report(page))
    _text(out / "report.tex", latex_report(page))
    write_csv(out / "leaderboard.csv", [record for board in boards for record in records(board)])
    return out / "report.html"


def _text(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def markdown_report(page: Page) -> str:
    """All tables of the page as Markdown."""
    parts = [f"# {markdown_text(page.title)}", *map(markdown_text, page.about)]
    for part in page.sections:
        parts += [f"## {markdown_text(part.heading)}", *map(markdown_text, part.sentences)]
        parts += [*(f"Split: {markdown_text(line)}" for line in part.audits), markdown_table(part.table)]
        parts += map(markdown_text, (*part.board.notes, *part.skipped))
        parts.append(", ".join(f"{name} {markdown_text(value)}" for name, value in part.identity) + ".")
        for _, values in part.slices:
            parts += [f"### {markdown_text(values.caption)}", markdown_table(values)]
    for _, heading, values in page.others:
        parts += [f"## {heading}", markdown_table(values) if values.rows else "None."]
    return "\n\n".join(parts) + "\n"


def latex_report(page: Page) -> str:
    r"""The leaderboards as LaTeX tables, to be read in with ``\input``; they need the package booktabs."""
    head = f"% {' '.join(page.title.split())}; needs \\usepackage{{booktabs}}"
    return "\n\n".join([head, *(latex_table(part.table, part.anchor) for part in page.sections)]) + "\n"


def _run_record(run: StoredRun) -> dict[str, Any]:
    """Everything that one run says, for runs.csv: state, what it was, and its figures under every protocol that it was asked."""
    config = flat(run.config)
    record: dict[str, Any] = {
        "key": run.key,
        "state": run.state,
        "reason": " ".join(run.reason.split()),
        "model": config.get("model"),
        "seed": run.seed,
        "commit": run.provenance.get("commit"),
        "dirty": run.provenance.get("dirty"),
    }
    if run.finished:
        own, *asked = views(run)
        record |= {"data": own.place.data, "protocol": own.place.protocol, "split_hash": own.place.split, **own.figures}
        for view in asked:
            record |= {name: value for name, value in view.figures.items() if name not in record}
    return record


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under the union of their columns, in order of first appearance. Text that a spreadsheet would take for a formula is quoted."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value
