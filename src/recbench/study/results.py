"""The table of a study's results in Markdown, made of the lines of its ``results.csv``, and its place in a README."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.config.tuned import tuned_file
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, replacing
from recbench.core.terminal import short_number
from recbench.evaluation.clicks import BY_USER
from recbench.evaluation.statistics.answers import user_answers
from recbench.evaluation.statistics.bootstrap import Difference, bootstrap
from recbench.evaluation.statistics.per_user import MEASURES, mean_per_user, same_users, stores
from recbench.report.notes import Entry, doubts, tuned_notes, unequal
from recbench.study.definition import OWN_NAMES
from recbench.study.overlaps import OVERLAPS, Overlaps
from recbench.study.ranks_file import StudyRanks, user_totals
from recbench.study.records import DOUBTS, TOLD, VALUES_FROM, Record
from recbench.study.told import Cells, as_before
from recbench.study.values import key_of
from recbench.training.convergence import cut_off_note

if TYPE_CHECKING:
    from recbench.study.definition import Study

#: Ranks of a study that keeps none.
NOTHING_KEPT = StudyRanks()
#: A table that was not there before.
NO_CELLS: Cells = {}
#: What the tuning of a row took and found (``recbench.study.tuning``).
TUNING = ("tuned", "budget", "best_validation")
#: Where the table goes in a README.
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def markdown(
    study: Study, records: Sequence[Record], runs_dir: Path, kept: StudyRanks = NOTHING_KEPT, earlier: Cells = NO_CELLS
) -> str:
    """The table of the final runs: mean and standard deviation over seeds, the difference to the reference row, published rows below.

    One table a data set and protocol, for two never share one; each is compared with the first reference row that is in it. A published row stands
    in that of the row that it names with ``beside``, and nowhere before that row is measured; one that names none stands in that of the first
    reference row, or in the first. earlier: cells of the table that this one takes the place of, for rows of runs that are not here.
    """
    final = [record for record in records if record["phase"] == "final"]
    asked = dict.fromkeys(map(_asked, final))
    homes = {record["row"]: _asked(record) for record in final}
    home = homes.get(next(iter(study.references), ""), next(iter(asked), None))
    several = len({data for data, _ in asked}) > 1
    parts = []
    for data, protocol in asked:
        rows: dict[str, list[Record]] = {}
        for record in final:
            if _asked(record) == (data, protocol):
                rows.setdefault(record["row"], []).append(record)
        published = [
            row
            for row in study.published
            if (homes.get(row["beside"]) if row.get("beside") else home) == (data, protocol)
        ]
        heading = f"Data `{data}`, protocol" if several else "Protocol"
        parts.append(f"{heading} `{protocol}`.\n\n" + _table(study, rows, published, runs_dir, kept, earlier))
    return "\n\n".join(parts) or "No final run is finished yet."


def _asked(record: Record) -> tuple[str, str]:
    """What a run was asked: data and protocol."""
    return record.get("data", ""), record["protocol"]


def _table(
    study: Study,
    rows: Mapping[str, Sequence[Record]],
    published: Sequence[Mapping[str, Any]],
    runs_dir: Path,
    kept: StudyRanks,
    earlier: Cells,
) -> str:
    searched = list(dict.fromkeys(key for name in rows for key in study.rows[name].search))
    tuning = [name for name in TUNING if any(group[0].get(name) is not None for group in rows.values())]
    compared = study.columns[0]
    against = next((name for name in study.references if name in rows), "")
    reference = rows.get(against)
    heading = [
        "row",
        *study.columns,
        *([f"{compared} against {against}"] if reference else []),
        *searched,
        *tuning,
        "n",
    ]
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    overlaps = Overlaps([runs_dir / record["key"] for group in rows.values() for record in group])
    for name, group in rows.items():
        cells = [
            marked(name, group),
            *(_figure(column, group, runs_dir, overlaps) for column in study.columns),
        ]
        if reference:
            cells.append("" if group is reference else difference(group, reference, compared, runs_dir, kept))
        cells += [_text(group[0].get(key)) for key in [*searched, *tuning]]
        if all(record.get(TOLD) for record in [*group, *(reference or ())]):
            cells = [as_before(cell, earlier.get(name), column) for cell, column in zip(cells, heading, strict=False)]
        lines.append([*cells, str(len(group))])
    for row in published:
        cells = [f"{row['label']} ({row['source']})", *(_mean(column, [row.get(column)]) for column in study.columns)]
        lines.append([*cells, *[""] * (len(heading) - len(cells))])
    note = "\n\n± is the standard deviation over seeds, n their number."
    if reference and any("[" in line[1 + len(study.columns)] for line in lines[2:]):
        note += f" In brackets: 95 % interval of the relative difference in {compared}, paired bootstrap over users, seeds averaged."
    stopped = [name for name, group in rows.items() if any(record.get("cut_off") for record in group)]
    told = [cut_off_note(stopped)] if stopped else []
    told += [line.replace("*", r"\*", 1) for line in table_notes(study, rows)]
    note += "".join(f"\n\n{line}" for line in told)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + note


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def marked(name: str, group: Sequence[Record]) -> str:
    """The name of a row, with a mark where its values come from a tuned file."""
    return name + (r" \*" if any(record.get(VALUES_FROM) for record in group) else "")


def table_notes(study: Study, rows: Mapping[str, Sequence[Record]]) -> list[str]:
    """Whose values come from tuned files, and which rows learned nothing; of rows whose values were searched nobody asks for a file."""
    entries = [_entry(study, name, group) for name, group in rows.items()]
    searched = {name for name in rows if study.rows[name].search or study.rows[name].tuned}
    plain = [e.name for e in entries if e.is_trained and e.name not in searched and not tuned_file(e.config)]
    notes = tuned_notes(entries)
    return [*notes, *([unequal(plain)] if notes and plain else []), *doubts(entries)]


def _entry(study: Study, name: str, group: Sequence[Record]) -> Entry:
    """A row of the table as its records tell it."""
    first, column = group[0], study.columns[0]
    model = [word.split("=", 1)[1] for word in study.rows[name].overrides if key_of(word) == "model"]
    values = [record[column] for record in group if record.get(column) is not None]
    doubt = next(({k: record[k] for k in DOUBTS} for record in group if record.get(DOUBTS[1])), None)
    metrics = {"cost/epochs": first.get("epochs"), "doubts": doubt}
    if len(values) == len(group):
        metrics[f"test/{column}"] = statistics.mean(values)
    files = [record[VALUES_FROM] for record in group if record.get(VALUES_FROM)]
    config = {"model": {"name": model[-1] if model else ""}, **({"tuned": {"name": files[0]}} if files else {})}
    return Entry(name, config, metrics)


def difference(
    group: Sequence[Record], reference: Sequence[Record], column: str, runs_dir: Path, kept: StudyRanks = NOTHING_KEPT
) -> str:
    """Relative difference of two rows, with its interval where the same seeds were run and the column is known user by user.

    kept: ranks of runs whose folders are not here.
    """
    if {r["seed"] for r in group} == {r["seed"] for r in reference}:
        ours, theirs = (_user_totals(part, column, runs_dir, kept) for part in (group, reference))
        if ours is not None and theirs is not None:
            if not np.array_equal(ours[0], theirs[0]):
                raise UserError(
                    f"{group[0]['key']} ranks other users than {reference[0]['key']}; compare runs of one data set and protocol"
                )
            return _percent(bootstrap(ours[1], theirs[1]))
    means = [[r[column] for r in part if r.get(column) is not None] for part in (group, reference)]
    if not all(means) or not statistics.mean(means[1]):
        return ""
    return f"{100 * (statistics.mean(means[0]) / statistics.mean(means[1]) - 1):+.1f} %"


def _user_totals(
    part: Sequence[Record], column: str, runs_dir: Path, kept: StudyRanks
) -> tuple[np.ndarray, np.ndarray] | None:
    """(users [U], sums of the metric over their cases [U]), from run folders or else from ranks.npz; None where both lack a run."""
    ours = column.split("@")[0] in MEASURES
    # Of a run that is told, the folder here may be another run of its key.
    if not any(record.get(TOLD) for record in part):
        answers = [RunFolder(runs_dir / record["key"]).predictions for record in part]
        if column in BY_USER and all(path.is_file() for path in answers):
            found = [user_answers(path, column) for path in answers]
            same_users(found, answers)
            return found[0].users, np.mean([values.totals for values in found], axis=0)
        paths = [runs_dir / record["key"] / "ranks.parquet" for record in part]
        if all(path.is_file() for path in paths) and (ours or all(stores(path, column) for path in paths)):
            return mean_per_user(paths, column)
    return user_totals(kept, [record["key"] for record in part], column) if ours else None


def _percent(found: Difference) -> str:
    return f"{100 * found.relative:+.1f} % [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _figure(column: str, group: Sequence[Record], runs_dir: Path, overlaps: Overlaps) -> str:
    """The cell of a row; stability is no figure of one run, but of lists that the runs have kept."""
    if column.partition("@")[0] not in OVERLAPS:
        return _mean(column, [record.get(column) for record in group])
    found = overlaps.of(column, [runs_dir / record["key"] for record in group])
    return "" if found is None else _short(found)


def _mean(column: str, values: Sequence[Any]) -> str:
    """Mean, and standard deviation over seeds where there are several; as many digits as the kind of figure deserves."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return ""
    mean = statistics.mean(known)
    if column.startswith(("parameters", "bytes", "flops")):
        return short_number(mean)
    if column in ("epochs", "best_epoch") or "second" in column or column.endswith("_ms"):
        return f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"
    show = _counted if column.startswith(OWN_NAMES) and mean >= 2 else _short
    spread = f" ± {show(statistics.stdev(known))}" if len(known) > 1 else ""
    return show(mean) + spread


def _counted(value: float) -> str:
    """Items, codes and groups of them."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _short(value: float) -> str:
    """Four decimals without the zero before the point."""
    return f"{value:.4f}".removeprefix("0")


def table_in(path: Path) -> str:
    """What stands between the markers of a README; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.partition(BEGIN)[2].partition(END)[0]


def write_readme(path: Path, table: str) -> bool:
    """Put the table between the markers of a README; False where there is no README or no markers. Raises UserError for a half pair."""
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text and END not in text:
        return False
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path} has one of the markers {BEGIN} and {END} only; give both, in this order, or neither")
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return True
