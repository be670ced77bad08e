"""What ``recbench probe leakage`` found, as a sentence and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.cli.probe.table_page import Page, Table

NAMES = {
    "state": "the state that is ranked from",
    "list": "the list of recommendations",
    "history": "the history itself",
}
COLUMNS = {
    "seen": "told",
    "logistic regression": "logistic",
    "+-": "logistic_half_width",
    "network": "network",
    "+- of it": "network_half_width",
    "logistic, dealt anew": "logistic_dealt",
    "network, dealt anew": "network_dealt",
}
NOTE = (
    "Balanced accuracy on users kept back, with half the width of its 95 % interval over the folds; dealt anew: the attribute of another user, which "
    "nobody can tell. A model that is blind to the "
    "attribute may still list what its users like: judge the lists too, and NDCG beside them."
)


def verdict(figures: Mapping[str, float]) -> str:
    """One sentence."""
    told = {
        name: max(figures[f"logistic_{name}"], figures[f"network_{name}"])
        for name in NAMES
        if f"logistic_{name}" in figures
    }
    parts = ", ".join(f"{NAMES[name]} {value:.3f}" for name, value in told.items())
    return f"Balanced accuracy of the better classifier over {figures['users']:,} users: {parts}; chance is {figures['chance']:.3f}."


def page(found: Mapping[str, Any]) -> Page:
    """The result as sentences and tables."""
    rows = [{**row, "told": NAMES[row["name"]]} for row in found["rows"]]
    attribute = found["settings"]["attribute"]
    share = (
        f"The commonest of {found['figures']['values']} values: {found['figures']['commonest_share']:.1%} of the users."
    )
    said = [verdict(found["figures"]), share]
    return Page(f"What {found['run']} tells of the users' {attribute}", said, [Table("Told from", COLUMNS, rows)], NOTE)
