"""``recbench report``: what finished runs say, as one page with its tables. Trains nothing, and changes no run.

    recbench report NAME [key=value ...]                      a study: NAME is a folder of experiments/
    recbench report runs_dir=FOLDER [model=sasrec,slmrec]     the runs of a folder, and of these only those that fit

writes report.html (one self-contained page), report.md, report.tex, leaderboard.csv and runs.csv into reports/NAME. For a study it also
rewrites the study's results.csv and the table of its README, unless out= is given; other words are keys of its runs, as in data.raw_dir=FOLDER.

    out=FOLDER        where to write
    metric=hr@10      what rows are sorted and judged by (a study: its first column; else ndcg@10)
    reference=ROW     the row that the others are compared with
    cache_dir=FOLDER  where the prepared data lie, for the metric by item popularity
    tracking=off      do not send the report to MLflow, where the runs are
"""

from __future__ import annotations

import sys
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import help_or_status

#: Words that are about the report, not about runs.
OWN = ("out", "metric", "reference", "cache_dir", "tracking", "runs_dir")


def read_words(arguments: list[str]) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    """(name of a study or None, our own words, the other words). Raises UserError for what is neither a name nor key=value."""
    names = [word for word in arguments if "=" not in word]
    flags = [word for word in names if word.startswith("-")]
    if flags:
        raise UserError(f"unknown option {flags[0]}; see recbench report --help")
    if len(names) > 1:
        raise UserError(f"one study at a time, not {' and '.join(names)}; other words are key=value, as in out=FOLDER")
    pairs = [word.partition("=") for word in arguments if "=" in word]
    for key, _, value in pairs:
        if not key or not value:
            raise UserError(f"cannot read '{key}={value}'; write key=value, as in runs_dir=runs")
    own = {key: value for key, _, value in pairs if key in OWN}
    return next(iter(names), None), own, tuple(f"{k}={v}" for k, _, v in pairs if k not in OWN)


def report(arguments: list[str]) -> Path:
    """Write the report that the words ask for; returns its page. Raises UserError."""
    from recbench.report.build import folder_material, write_report
    from recbench.report.publish import publish

    name, own, words = read_words(arguments)
    cache_dir = Path(own["cache_dir"]).expanduser() if "cache_dir" in own else None
    choices = own.get("metric"), own.get("reference"), cache_dir
    if name is not None:
        from recbench.study.report import study_material

        kept = tuple(f"{key}={own[key]}" for key in ("runs_dir", "cache_dir") if key in own)
        material = study_material(name, (*words, *kept), "out" not in own, *choices)
    elif "runs_dir" in own:
        filters = dict(word.split("=", 1) for word in words)
        material = folder_material(Path(own["runs_dir"]).expanduser().absolute(), filters, *choices)
    else:
        raise UserError("say what to report on: the name of a study, or runs_dir=FOLDER; see recbench report --help")
    out = Path(own.get("out", f"reports/{material.name}")).expanduser().absolute()
    page = write_report(material, out)
    if own.get("tracking") != "off":
        publish(material.name, out, material.runs)
    return page


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""

    def write() -> int:
        print(f"report: {report(arguments)}", file=sys.stderr)
        return 0

    return help_or_status(arguments, __doc__, write, "stopped; nothing but the report's own folder was written")
