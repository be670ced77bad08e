"""What a study's results.csv and README tell of runs whose folders are not here: on another machine their lines and cells stay.

A line stays as long as its row, trained with the values that it names, still has its key. Intervals and overlaps need what only the folders or
ranks.npz hold. Where both are gone, a cell of a row that stays is left as it was measured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.core.errors import MissingData, UserError
from recbench.core.typed import typed
from recbench.data.download import offline
from recbench.study.definition import Study
from recbench.study.jobs import FINAL, Planner
from recbench.study.recorded import OTHERS, lines_of
from recbench.study.records import DOUBTS, TOLD, Record

logger = logging.getLogger(__name__)

#: A column that is a key of the command line.
KEY = re.compile(r"(model|training|data|distillation|protocol|evaluation|attack|compression|hardware)\.[\w.]+")
#: Row -> column -> cell of a table.
Cells = Mapping[str, Mapping[str, str]]


def told_records(path: Path, study: Study) -> list[Record]:
    """The lines of a results.csv that are of rows of the study, with their figures as numbers; none where there is no file."""
    return [
        {name: _value(name, text) for name, text in line.items()}
        for line in lines_of(path, study)
        if line.get("protocol")
    ]


def _value(name: str, text: str | None) -> Any:
    if not text:
        return None
    is_word = KEY.fullmatch(name) or (name in OTHERS and name not in ("seed", "chosen", "cut_off", *DOUBTS))
    return text if is_word else typed(text)


def values_of(study: Study, records: Sequence[Record]) -> dict[str, dict[str, str]]:
    """Row -> what its search or tuning chose, as its final records tell; {} for a row that looked for nothing."""
    found: dict[str, dict[str, str]] = {name: {} for name, row in study.rows.items() if not (row.search or row.tuned)}
    for record in records:
        if record["phase"] == FINAL and record["row"] not in found:
            found[record["row"]] = _choice(study, record)
    return found


def _choice(study: Study, record: Record) -> dict[str, str]:
    row = study.rows[record["row"]]
    named = row.search if row.search else [name for name in record if row.tuned and KEY.fullmatch(name)]
    return {name: str(record[name]) for name in named if record.get(name) is not None}


def standing(study: Study, planner: Planner, records: Sequence[Record]) -> Iterator[Record]:
    """Those whose row has their key today, or whose data are not here to ask for it."""
    chosen = values_of(study, records)
    for record in records:
        row = study.rows[record["row"]]
        try:
            job = planner.job(row, record["phase"], record["seed"], _choice(study, record), chosen)
        except MissingData:
            yield record
            continue
        except (UserError, KeyError):
            continue
        if job.key == record["key"]:
            yield record


def kept_lines(study: Study, planner: Planner, made: Sequence[Record]) -> list[Record]:
    """What results.csv tells beyond the records that were made of runs here. It is read now, for another process may have added to it."""
    here = {(record["row"], record["phase"], record["seed"], record["key"]) for record in made}
    told = told_records(study.folder / "results.csv", study)
    asked = [r for r in told if (r["row"], r["phase"], r["seed"], r["key"]) not in here]
    with offline():
        stay = [{**record, TOLD: True} for record in standing(study, planner, asked)]
    if stay:
        logger.info("%d of %d lines of results.csv are of runs that are not here; they stay", len(stay), len(told))
    if len(stay) < len(asked):
        gone = sorted({r["row"] for r in asked} - {r["row"] for r in stay})
        logger.warning(
            "%d lines of results.csv are of runs that the study no longer asks for; they are left out%s",
            len(asked) - len(stay), f": {', '.join(gone)}" if gone else "",
        )  # fmt: skip
    return stay


def ranks_told(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(key, row) of final runs that are told."""
    return [(record["key"], record["row"]) for record in records if record["phase"] == FINAL and record.get(TOLD)]


def cells_of(table: str) -> dict[str, dict[str, str]]:
    """Row -> column -> cell of the Markdown tables in a text."""
    found: dict[str, dict[str, str]] = {}
    heading: list[str] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" |")]
        if not line.startswith("|"):
            heading = []
        elif not heading:
            heading = cells
        elif not line.startswith("| ---"):
            found[cells[0].removesuffix(r" \*")] = dict(zip(heading, cells, strict=False))
    return found


def as_before(cell: str, earlier: Mapping[str, str] | None, column: str) -> str:
    """A cell of a row that is told, as the table had it where it says more: a figure where there is none now, an interval beside a figure."""
    before = (earlier or {}).get(column, "")
    return before if before and (not cell or ("[" in before and "[" not in cell)) else cell
