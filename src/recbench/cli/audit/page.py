"""An audit as a page: the same sections in Markdown and in HTML that needs nothing from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: What each share means, in the order of the page. Figures that a protocol or data set lacks are left out.
SHARES = {
    "split": {
        "leaked_targets": "test targets older than the newest training event",
        "later_training": "training later than a test target, mean over targets",
        "tied_targets": "test targets with the timestamp of the event before them",
        "cold_targets": "test targets that never occur in training",
        "repeated_targets": "test targets already in their history",
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
    made = [_data(found), _steps(found), _files(found), _cases(found), *shares, _order(found), _floors(found)]
    return [table for table in made if table.rows]


def _data(found: Mapping[str, Any]) -> Table:
    data = found["data"]
    rows = [(name.removeprefix("n_"), f"{data[name]:,}") for name in ("n_users", "n_items", "n_interactions")]
    if "first_date" in data:
        rows.append(("from, to", f"{data['first_date']}, {data['last_date']}"))
    rows += [
        ("events a user, median and most", f"{data['events_per_user_median']:g}, {data['events_per_user_most']:,}"),
        (
            "has",
            ", ".join(n for n in ("timestamps", "text", "behaviours", "sessions") if data.get(f"has_{n}"))
            or "items only",
        ),
        ("fingerprint", data["fingerprint"]),
        ("split", found["split_hash"]),
    ]
    return Table("The data", ("", ""), rows)


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
    counts = [
        (name.replace("_", " "), f"{value:,}") for name, value in found["split"].items() if isinstance(value, int)
    ]
    cases = found["cases"]
    return Table(
        "Cases",
        ("", ""),
        [
            *counts,
            (
                "history of a test case, median and longest",
                f"{cases['history_median']:g}, {cases['history_longest']:,}",
            ),
            (
                f"test cases with more than the {cases['max_length']} events a model reads",
                f"{cases['beyond_length']:.1%}",
            ),
            ("test targets among the most popular 1 % of items", f"{cases['popular_targets']:.1%}"),
        ],
    )


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


def markdown(found: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    parts = [f"# {found['data']['name']}", f"Protocol `{found['protocol']}`."]
    marks = {"beware": "**Beware.** ", "fine": ""}
    parts.append("\n".join(f"- {marks[finding['level']]}{finding['text']}" for finding in found["findings"]))
    for table in tables(found):
        lines = [table.columns, ("---", *["---:"] * (len(table.columns) - 1)), *table.rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts += [f"## {table.title}", body]
    return "\n\n".join(parts) + "\n"


#: Values are escaped by Jinja2; names of files come from outside.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit: {{ found.data.name }}</title>
<style>
:root { color-scheme: light dark; --line: #8886; --beware: #b45309; }
@media (prefers-color-scheme: dark) { :root { --beware: #fbbf24; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
code { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
li.beware::marker { content: "!  "; color: var(--beware); font-weight: 700; }
li.beware { color: var(--beware); }
</style></head><body>
<h1>{{ found.data.name }}</h1>
<p>Protocol <code>{{ found.protocol }}</code></p>
<ul>{% for finding in found.findings %}<li class="{{ finding.level }}">{{ finding.text }}</li>
{% endfor %}</ul>
{% for table in tables %}<h2>{{ table.title }}</h2>
<div class="wide"><table>{% if table.columns|join %}<thead><tr>{% for head in table.columns %}<th>{{ head }}</th>{% endfor %}</tr></thead>{% endif %}
<tbody>{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}</body></html>
"""


def html(found: Mapping[str, Any]) -> str:
    """The page as one HTML file."""
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(PAGE).render(found=found, tables=tables(found))
