"""What ``recbench probe loop`` found, as a sentence and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.cli.probe.table_page import Page, Table

COLUMNS = {
    "round": "round",
    "Gini of what is shown": "gini",
    "share of the popular tenth": "popular_share",
    "coverage": "coverage",
    "what users would take": "liked",
    "Gini of training": "gini_training",
    "NDCG@10": "ndcg",
}
OF_COPIES = {
    "share of copies": "copies",
    "if dealt anew": "copies_dealt",
    "NDCG@10 of copies": "ndcg_copies",
    "difference": "difference",
}
HEADINGS = {
    "clicks": "Retrained on clicks on its own lists",
    "chosen": "Retrained on as many events that users chose from the whole catalogue",
}
NOTE = (
    "Gini: 0 if every item is shown equally often, near 1 if a few are. The popular tenth is that of the run's training. What users would take: how "
    "likely a user's next event is in its list, by the generator. What moves in both tables is not feedback. NDCG@10 is of the run's own test, whose "
    "targets nobody clicked."
)
NOTE_OF_COPIES = (
    " Copies: share of the shown places, one of two equal scores counted half; dealt anew: which of two versions is called the copy, by a coin (must "
    "be near 0.5). Difference: 2 (o - c) / (o + c) of NDCG among originals and among copies; below 0 the model prefers copies. The rewrites stand in "
    "for those of a language model: this says whether a loop widens a gap, not whether machine texts have one."
)


def verdict(figures: Mapping[str, float]) -> str:
    """One sentence on concentration, and one on copies where there are any."""
    start, clicks, chosen = (figures[f"gini_{end}"] for end in (0, "clicks", "chosen"))
    said = (
        f"After {figures['rounds']} rounds on its own clicks the Gini index of what is shown goes from {start:.3f} to {clicks:.3f}; where users "
        f"choose from the whole catalogue, to {chosen:.3f}."
    )
    if "copies_0" in figures:
        said += f" Copies have {figures['copies_0']:.3f} of the places at first and {figures['copies_clicks']:.3f} in the end."
    return said


def page(found: Mapping[str, Any]) -> Page:
    """The result as sentences and tables."""
    has_copies = found["settings"]["copies"] != "none"
    columns = {**COLUMNS, **(OF_COPIES if has_copies else {})}
    start = found["rows"][0]
    tables = [
        Table(heading, columns, [start, *(row for row in found["rows"] if row["loop"] == loop)])
        for loop, heading in HEADINGS.items()
    ]
    settings = ", ".join(f"{key}={value}" for key, value in found["settings"].items())
    said = [verdict(found["figures"]), settings]
    return Page(f"{found['run']} on its own clicks", said, tables, NOTE + (NOTE_OF_COPIES if has_copies else ""))
