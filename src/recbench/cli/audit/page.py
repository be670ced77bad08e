"""An audit as a page, in Markdown and in HTML that needs no network: what was found first, then a chart, then every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from recbench.cli.audit.charts import audit_chart
from recbench.report.words import protocol_words

#: What each share means, in the order of the page. Figures that a protocol or data set lacks are left out.
SHARES = {
    "split": {
        "leaked_targets": "test targets older than the newest training event",
        "later_training": "training later than a test target, mean over targets",
        "tied_targets": "test targets with the timestamp of the event before them",
        "cold_targets": "test targets that never occur in training",
        "repeated_targets": "test targets that are already in their history",
    },
    "time": {
        "equal_timestamps": "consecutive events of one user at the same time",
        "users_of_one_moment": "users whose events all carry one timestamp",
        "whole_days": "events at midnight UTC exactly",
    },
    "cold": {
        "cold_items": "items of the catalogue without a training event",
        "cold_users": "users of the test without a training event",
        "blind_cases": "test cases without a known item in their history",
    },
    "repeats": {
        "repeated_events": "events whose item the user had before",
        "immediate_repeats": "consecutive events with the same item",
        "targets_at_once": "test targets that are the last item of their history",
    },
}
TITLES = {"split": "The test", "time": "Time", "cold": "What training does not know", "repeats": "Repeats"}


class Table(NamedTuple):
    """A heading, column titles and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The audit in tables; those without a row are left out."""
    shares = [
        Table(
            TITLES[part],
            ("share of", "%"),
            [(text, f"{100 * found[part][name]:.1f}") for name, text in told.items() if name in found[part]],
        )
        for part, told in SHARES.items()
    ]
    made = [_order(found), _floors(found), *shares, _cases(found), _data(found), _steps(found), _files(found)]
    made.append(_identity(found))
    return [table for table in made if table.rows]


def _data(found: Mapping[str, Any]) -> Table:
    data = found["data"]
    rows = [(NAMES[name], f"{data[name]:,}") for name in NAMES]
    if "first_date" in data:
        rows += [("first event", data["first_date"]), ("last event", data["last_date"])]
    rows += [
        ("events of a user, median", f"{data['events_per_user_median']:g}"),
        ("events of a user, most", f"{data['events_per_user_most']:,}"),
        (
            "has",
            ", ".join(n for n in ("timestamps", "text", "behaviours", "sessions") if data.get(f"has_{n}"))
            or "items only",
        ),
    ]
    return Table("The data", ("", ""), rows)


NAMES = {"n_users": "users", "n_items": "items", "n_interactions": "events"}


def _identity(found: Mapping[str, Any]) -> Table:
    """What a machine calls these data and this split."""
    data = found["data"]
    rows = [("prepared data", data["name"]), ("data fingerprint", data["fingerprint"])]
    return Table(
        "Ids and hashes", ("", ""), [*rows, ("protocol", found["protocol"]), ("split hash", found["split_hash"])]
    )


def _steps(found: Mapping[str, Any]) -> Table:
    steps = found["data"]["filter_steps"]
    rows = [(str(step["step"]), *(f"{step[name]:,}" for name in ("rows", "users", "items"))) for step in steps]
    return Table("Left after each filter step", ("step", "rows", "users", "items"), rows)


def _files(found: Mapping[str, Any]) -> Table:
    files = found["data"]["raw_files"]
    rows = [(name, f"{entry.get('size', 0):,}", str(entry.get("sha256", ""))) for name, entry in files.items()]
    return Table("Raw files", ("file", "bytes", "SHA-256"), rows)


def _cases(found: Mapping[str, Any]) -> Table:
    """Counts of the split, those that belong to one protocol included, and the histories."""
    cases = found["cases"]
    counts = [_count(name, value) for name, value in found["split"].items() if isinstance(value, int)]
    return Table(
        "Cases",
        ("", ""),
        [
            *counts,
            ("history of a test case, median", f"{cases['history_median']:g}"),
            ("history of a test case, longest", f"{cases['history_longest']:,}"),
            (
                f"test cases with more than the {cases['max_length']} events that a model reads",
                f"{cases['beyond_length']:.1%}",
            ),
            ("test targets among the most popular 1 % of items", f"{cases['popular_targets']:.1%}"),
        ],
    )


def _count(name: str, value: int) -> tuple[str, str]:
    """A count with its name; a time, which the split keeps in seconds since 1970, as a date."""
    if name.endswith("_cut"):
        return f"{name.removesuffix('_cut')} starts at", _moment(value)
    return name.replace("_", " "), f"{value:,}"


def _moment(seconds: int) -> str:
    """
    >>> _moment(1583246788), _moment(1583193600)
    ('2020-03-03 14:46:28 UTC', '2020-03-03')
    """
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:,} (outside the calendar)"
    return f"{moment:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _order(found: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{probe['model']}, {probe['metric']}",
            f"{probe['in_order']:.4f}",
            f"{probe['shuffled']:.4f}",
            "-" if probe["relative"] is None else _change(probe),
            f"{probe['unchanged']:.1%}",
        )
        for probe in found["probes"]
    ]
    return Table(
        "Shuffled histories", ("probe", "in order", "shuffled", "change, 95 % interval", "ranks that stayed"), rows
    )


def _change(probe: Mapping[str, Any]) -> str:
    return f"{100 * probe['relative']:+.1f} % [{100 * probe['low']:+.1f}, {100 * probe['high']:+.1f}]"


def _floors(found: Mapping[str, Any]) -> Table:
    """Floors by the figures at the cutoff that decides; one that is absent says why."""
    metric = found["floor_metric"]
    prefix, k = metric.split("ndcg@")
    names = (metric, f"{prefix}hr@{k}", f"{prefix}mrr")
    rows = []
    for floor in found["floors"]:
        figures = floor.get("metrics")
        cells = [f"{figures[name]:.4f}" for name in names] if figures else ["-"] * len(names)
        rows.append((floor["model"], *cells, floor.get("run") or floor["absent"]))
    return Table("Floors", ("model", *names, "run"), rows)


def headline(found: Mapping[str, Any]) -> str:
    """The gravest warning; else that there is none."""
    grave = [finding["text"] for finding in found["findings"] if finding["level"] == "beware"]
    return grave[0] if grave else "Nothing was found to beware of."


def markdown(found: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    parts = [f"# Audit: {title(found)}", f"Protocol: {protocol_words(found['protocol'])}."]
    marks = {"beware": "**Beware.** ", "fine": ""}
    parts.append("\n".join(f"- {marks[finding['level']]}{finding['text']}" for finding in found["findings"]))
    for table in tables(found):
        lines = [table.columns, ("---", *["---:"] * (len(table.columns) - 1)), *table.rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts += [f"## {table.title}", body]
    return "\n\n".join(parts) + "\n"


def title(found: Mapping[str, Any]) -> str:
    """The data in words; in audits of before these were kept, by the folder of the prepared data."""
    return str(found.get("title") or found["data"]["name"])


#: The page as a Jinja2 template. Values are escaped; names of files come from outside.
TEMPLATE = Path(__file__).with_name("audit.html")


def html(found: Mapping[str, Any]) -> str:
    """The page as one HTML file."""
    from markupsafe import Markup

    from recbench.report.page import environment, own_text

    return (
        environment()
        .from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            found=found,
            title=title(found),
            protocol=protocol_words(found["protocol"]),
            headline=headline(found),
            chart=audit_chart(found),
            tables=tables(found),
            style=own_text("style.css"),
            drawn=Markup,
        )
    )
