"""What ``recbench probe extraction`` found, as a sentence and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.cli.probe.table_page import Page, Table

NAMES = {
    "popularity": "popularity (floor)",
    "few": "the few histories, nothing asked (floor)",
    "asked": "asked about the few histories",
    "random": "asked about them and about random histories",
    "markov": "asked about them and about histories made from them",
    "walk": "asked about them and along the run's own lists",
    "other_seed": "the same configuration, another seed (ceiling)",
}
COLUMNS = {
    "what the copy had": "told",
    "questions": "queries",
    "Agr": "agr",
    "+-": "agr_half_width",
    "rank-biased overlap": "rbo",
    "NDCG@10": "ndcg",
}
NOTE = (
    "Agr: shared part of the lists for test users, with half the width of its 95 % interval over users. NDCG@10 on the true targets: high there with "
    "little agreement is a good model, no copy. No target of a test user was asked about or seen. The rows of made histories ask half of their "
    "questions about the few real ones."
)


def verdict(figures: Mapping[str, float]) -> str:
    """One sentence on the best copy and whether made histories added anything at an equal number of questions."""
    made = max(("random", "markov", "walk"), key=lambda kind: figures[f"agr_{kind}"])
    asked, best = figures["agr_asked"], figures[f"agr_{made}"]
    ceiling = f"; two seeds of it share {figures['agr_other_seed']:.3f}" if "agr_other_seed" in figures else ""
    adds = f"add {best - asked:+.3f}" if best > asked else f"add nothing ({best:.3f})"
    return (
        f"With {figures['queries_asked']:,} lists and the histories of {figures['users_had']:,} users a copy shares {asked:.3f} of the run's lists "
        f"(without asking {figures['agr_few']:.3f}, popularity {figures['agr_popularity']:.3f}{ceiling}). Made histories {adds} at "
        f"{figures[f'queries_{made}']:,} lists."
    )


def page(found: Mapping[str, Any]) -> Page:
    """The result as sentences and tables."""
    rows = [{**row, "told": NAMES[row["name"]]} for row in found["rows"]]
    settings = ", ".join(f"{key}={value}" for key, value in found["settings"].items())
    said = [verdict(found["figures"]), f"NDCG@10 of the run: {found['figures']['ndcg@10']:.4f}. {settings}"]
    heading = f"Lists of {found['settings']['k']} items"
    return Page(f"How much of {found['run']} can be copied", said, [Table(heading, COLUMNS, rows)], NOTE)
