"""What must stand below a table: whose values come from a tuned file, and which rows learned nothing. The same words for every table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recbench.config.tuned import tuned_file
from recbench.report.collect import StoredRun
from recbench.tracking.describe import headline

#: Behind the name of a row whose values come from a tuned file.
MARK = " *"
#: What everything personal must beat.
FLOOR = "popularity"


class Entry(NamedTuple):
    """A row, or a run of it: its name, its stored config, its metrics as in metrics.json."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def marked(self) -> str:
        """The name with its mark."""
        return self.name + (MARK if tuned_file(self.config) else "")

    @property
    def is_trained(self) -> bool:
        """Whether it has epochs, so that tuned values could matter to it."""
        return bool(self.metrics.get("cost/epochs"))


def entry_of(name: str, runs: Sequence[StoredRun]) -> Entry:
    """A row with the means of its runs' figures; what is no figure is that of its first run, doubts of whichever run has some."""
    figures = {
        key: statistics.fmean(run.metrics[key] for run in runs)
        for key, value in runs[0].metrics.items()
        if _is_number(value) and all(_is_number(run.metrics.get(key)) for run in runs)
    }
    doubtful = next((run.metrics["doubts"] for run in runs if run.metrics.get("doubts")), None)
    return Entry(name, runs[0].config, {**runs[0].metrics, **figures, "doubts": doubtful})


def tuned_notes(entries: Sequence[Entry], warn: bool = False) -> list[str]:
    """Which rows are marked, and from which files their values come. warn: also where other trained rows of the table have no such values."""
    files: dict[str, list[str]] = {}
    for entry in entries:
        if file := tuned_file(entry.config):
            files.setdefault(file, []).append(entry.name)
    if not files:
        return []
    told = "; ".join(f"{file}: {_listed(names)}" for file, names in files.items())
    found = [f"{MARK.strip()} values from a tuned file (tuned=off: none): {told}"]
    plain = [entry.name for entry in entries if entry.is_trained and not tuned_file(entry.config)]
    if warn and plain:
        found.append(unequal(plain))
    return found


def unequal(names: Sequence[str]) -> str:
    """The warning where some rows are tuned and these are not."""
    have = "has" if len(set(names)) == 1 else "have"
    return (
        f"warning: the rows are not tuned alike: {_listed(names)} {have} no values from a tuned file, others have; "
        "tuned=off leaves them out for all, recbench tune finds some for the rest"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def doubts(entries: Sequence[Entry]) -> list[str]:
    """What makes a row worthless as it stands: it is below popularity, if that is among the rows, or its loss is above that of guessing."""
    floor = next((e for e in entries if _model(e) == FLOOR and headline(e.metrics)), None)
    found = []
    for entry in entries:
        if floor is not None and _model(entry) != FLOOR:
            found += below(entry, floor)
        loss = entry.metrics.get("doubts")
        if isinstance(loss, Mapping):
            found.append(
                f"warning: {entry.name}: its training loss ended at {loss['loss']:.4g}, above {loss['uniform_loss']:.4g}, that of guessing all items "
                "alike: train it for longer, or change training.lr"
            )
    return list(dict.fromkeys(found))


def below(entry: Entry, floor: Entry) -> list[str]:
    """The line on a row that popularity beats; none where it does not, or where they have no figure in common."""
    name = headline(entry.metrics)
    values = [float(part.metrics[name]) for part in (entry, floor) if name and _is_number(part.metrics.get(name))]
    if name is None or len(values) < 2 or values[0] >= values[1]:
        return []
    value, least = values
    return [
        f"warning: {entry.name} is below popularity: {name.removeprefix('test/')} {value:.4f} against {least:.4f}; it learned nothing personal; "
        "train it to its end, or look at its learning rate and the data"
    ]


def _model(entry: Entry) -> str:
    model = entry.config.get("model")
    return str(model.get("name")) if isinstance(model, Mapping) else str(model)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
