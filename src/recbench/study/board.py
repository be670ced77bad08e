"""The board: the rows of all studies on one page, one table a data set and protocol, from what the studies commit.

Nothing is trained and no run folder is read. Figures come from each study's ``results.csv``; intervals and groups are computed again from its
``ranks.npz``, over rows of different studies alike. A run that several studies share is one row. Of runs without ranks only the words of the
command tell which data they saw, so they stand with other runs of the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recbench.config.schemas import conf_dir
from recbench.core.errors import UserError
from recbench.report.board import Board
from recbench.report.boards import boards_of
from recbench.report.build import FILES, write_page
from recbench.report.cells import Cell, Heading, Table
from recbench.report.collect import StoredRun
from recbench.report.headline import headings
from recbench.report.origins import configs_of, provenance_table
from recbench.report.page import Page, section
from recbench.report.printed import with_published
from recbench.report.rows import Row
from recbench.report.verdicts import FLOORS, judged
from recbench.study.definition import Study, load_study
from recbench.study.lacking import not_run, short_of_seeds
from recbench.study.ranks_file import FILE, read_ranks_file
from recbench.study.recorded import final_lines, recorded_runs
from recbench.study.values import key_of, read_yaml

#: Resamples of a judgement: a table of sixty rows is judged in seconds.
RESAMPLES = 2000
#: The row that others are compared with, where a table has it.
REFERENCE = "sasrec"


@dataclass
class Entry:
    """A row of a study. name: on the board; runs: by seed; data: the words that choose the data."""

    study: Study
    row: str
    name: str
    runs: list[StoredRun] = field(default_factory=list)
    data: frozenset[str] = frozenset()


def studies_in(homes: Iterable[Path], names: Sequence[str] = ()) -> list[Study]:
    """The studies under folders such as ``experiments``, by name, or those of these names. Raises UserError for a name that none has, and where
    none of them has results."""
    found: dict[str, Study] = {}
    for path in (path for home in homes for path in sorted(home.glob("*/study.yaml"))):
        if path.parent.name not in found and (not names or path.parent.name in names):
            found[path.parent.name] = load_study(path)
    lacking = [name for name in names if name not in found]
    if lacking or not any((study.folder / "results.csv").is_file() for study in found.values()):
        raise UserError(
            f"no study with a results.csv is called {', '.join(lacking or names) or 'anything here'}; give folders of experiments/"
        )
    return [found[name] for name in (names or found)]


def entries_of(studies: Sequence[Study]) -> list[Entry]:
    """The rows of studies with their runs, each run once; the first study that has a run keeps it."""
    seen: set[str] = set()
    found: list[Entry] = []
    known: dict[tuple[frozenset[str], str], StoredRun] = {}
    for study in sorted(
        studies, key=lambda one: not (one.folder / FILE).is_file()
    ):  # those with ranks tell the data of the others
        entries = _entries(study, known)
        for entry in entries:
            entry.runs = [run for run in entry.runs if run.key not in seen]
            seen |= {run.key for run in entry.runs}
        found += [entry for entry in entries if entry.runs]
    order = {study.name: place for place, study in enumerate(studies)}
    found.sort(key=lambda entry: order[entry.study.name])
    return _named(found)


def _entries(study: Study, known: dict[tuple[frozenset[str], str], StoredRun]) -> list[Entry]:
    lines = final_lines(study.folder / "results.csv", study)
    kept = read_ranks_file(study.folder / FILE)
    runs = recorded_runs(study, lines, kept, Path("runs"), [])
    found: dict[str, Entry] = {}
    for line in lines:
        run = runs.get(line["key"])
        if run is None:
            continue
        entry = found.setdefault(line["row"], Entry(study, line["row"], line["row"], data=_data_words(run)))
        place = entry.data, str(run.metrics["protocol"])
        if run.held is not None:
            known.setdefault(place, run)
        elif place in known:
            shared = {name: known[place].provenance[name] for name in ("data_fingerprint", "split_hash")}
            run = replace(run, provenance={**run.provenance, **shared})
        if run.key not in {one.key for one in entry.runs}:
            entry.runs.append(_with_command(run, study))
    return list(found.values())


def _data_words(run: StoredRun) -> frozenset[str]:
    """The words of a run's command that choose its data and parts; places on a disk are none of them."""
    words = [str(word) for word in run.config.get("overrides", ())]
    return frozenset(
        word for word in words if key_of(word).split(".")[0] in ("data", "protocol") and key_of(word) != "data.raw_dir"
    )


def _with_command(run: StoredRun, study: Study) -> StoredRun:
    """With the command that makes it again in place of single words."""
    words = [str(word) for word in run.config.get("overrides", ())]
    command = " ".join(
        ["python -m recbench", *(f"'{w}'" if " " in w or "[" in w else w for w in words), f"seed={run.seed}"]
    )
    log = f"experiments/{study.name}/README.md"
    kept = {name: value for name, value in run.config.items() if name != "overrides"}
    return replace(run, config={**kept, "command": command, "study": study.name, "log": log})


def _named(entries: list[Entry]) -> list[Entry]:
    """Rows of one place have names of their own: a name that is taken gets its study behind it."""
    taken: set[tuple[str, frozenset[str]]] = set()
    for entry in sorted(
        entries, key=lambda one: all(run.held is None for run in one.runs)
    ):  # the plain name is of those with ranks
        if (entry.row, entry.data) in taken:
            entry.name = f"{entry.row} ({entry.study.name})"
        taken.add((entry.name, entry.data))
    return entries


def _family(run: StoredRun) -> str:
    """The family of a run's model, which is the folder that it lies in; empty for a model that is not known here."""
    from recbench.models.registry import lookup

    path = (
        conf_dir() / "model" / f"{run.model}.yaml"
    )  # a file of values for a model may have another name than the model
    name = str(read_yaml(path).get("name", run.model)) if path.is_file() else run.model
    try:
        parts = lookup(name).model.__module__.split(".")
    except UserError:
        return ""
    return parts[2] if parts[:2] == ["recbench", "models"] and len(parts) > 3 else "plug-in"


def boards(entries: Sequence[Entry], resamples: int = RESAMPLES) -> list[Board]:
    """One judged board a data set and protocol, printed rows below; the largest first."""
    rows = [
        Row(entry.name, tuple(entry.runs), {"family": _family(entry.runs[0]), "study": entry.study.name})
        for entry in entries
    ]
    runs = [run for entry in entries for run in entry.runs]
    named = REFERENCE if any(row.name == REFERENCE for row in rows) else None
    found = [judged(board, resamples) for board in boards_of(runs, rows, None, named) if board.main]
    for study in dict.fromkeys(entry.study.name for entry in entries):
        found = _with_printed(found, [entry for entry in entries if entry.study.name == study])
    return sorted(found, key=lambda board: -len(board.measured))


def _with_printed(found: list[Board], entries: Sequence[Entry]) -> list[Board]:
    """With what is printed in papers about the rows of one study, on the boards where that study has rows."""
    study, names = entries[0].study, {entry.row: entry.name for entry in entries}
    keys = {run.key for entry in entries for run in entry.runs}
    printed = [
        {**one, "beside": names.get(str(one["beside"]), "")} if one.get("beside") else one for one in study.published
    ]
    made = []
    for board in found:
        own = any(run.key in keys for line in board.measured if line.row for run in line.row.runs)
        made.append(
            with_published([board], printed, names.get(next(iter(study.references), "")))[0]
            if own and printed
            else board
        )
    return made


def without_floor(found: Sequence[Board]) -> list[Board]:
    """Boards that rank and have no row that counts alone, each with a note that says so."""
    made = []
    for board in found:
        models = {run.model for line in board.measured if line.row for run in line.row.runs}
        if board.metric is not None and not models & set(FLOORS):
            board = replace(
                board, notes=(*board.notes, "No popularity row here: nothing says what counting alone reaches.")
            )
        made.append(board)
    return made


def page_of(studies: Sequence[Study], resamples: int = RESAMPLES) -> Page:
    """The page. Raises UserError where no study has a line."""
    entries = entries_of(studies)
    if not entries:
        raise UserError("the results.csv of these studies hold no final run")
    found = without_floor(boards(entries, resamples))
    names, configs = headings(found), configs_of(found)
    parts = [section(board, f"board{i + 1}", names[i], (), []) for i, board in enumerate(found)]
    runs = [run for entry in entries for run in entry.runs]
    ranked = sum(run.held is not None for run in runs)
    about = (
        f"{len(runs)} runs of {len({entry.study.name for entry in entries})} studies in {len(found)} tables.",
        "Tables never mix data sets or protocols.",
        f"Intervals and groups are of the {ranked} runs whose ranks the studies keep. Behind each run stand its command, commit and study.",
        "Rows marked as published are printed in papers; their protocol may differ from ours in ways that the paper does not say.",
    )
    others = (
        ("seeds", "Rows short of seeds", short_of_seeds(found)),
        ("open", "Rows not run yet", not_run(studies)),
        ("studies", "Studies", _studies_table(entries)),
        ("provenance", "Where each run comes from", provenance_table(found, configs)),
    )
    texts = tuple((config.anchor, config.name, config.text) for config in configs)
    return Page("recbench: the board", about, tuple(parts), others, texts, FILES[:1] + FILES[2:])


def _studies_table(entries: Sequence[Entry]) -> Table:
    counts: dict[str, list[Entry]] = {}
    for entry in entries:
        counts.setdefault(entry.study.name, []).append(entry)
    headings_ = (
        Heading("study", numeric=False),
        Heading("question", numeric=False),
        Heading("rows"),
        Heading("rows defined"),
    )
    rows = [
        (
            Cell(name),
            Cell(own[0].study.question),
            Cell(str(len(own)), len(own)),
            Cell(str(len(own[0].study.rows)), len(own[0].study.rows)),
        )
        for name, own in counts.items()
    ]
    return Table("Studies", headings_, tuple(rows), ("measured",) * len(rows))


def write_board(studies: Sequence[Study], out: Path, resamples: int = RESAMPLES) -> Path:
    """Write report.html, report.md, report.tex and leaderboard.csv into a folder; returns the page. Raises UserError."""
    return write_page(out, page_of(studies, resamples))
