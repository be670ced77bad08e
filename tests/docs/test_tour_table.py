"""The table at the front of the README is that of the tour's results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("front", ROOT / "experiments" / "tour" / "front.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_what_the_tour_found():
    front = load()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(front.BEGIN)[1].split(front.END)[0].strip()
    assert shown == front.table(front.rows(ROOT / "experiments" / "tour" / "results.csv")), (
        "python experiments/tour/front.py"
    )


def test_rows_are_sorted_by_their_share_and_an_odd_one_leaves_its_place_empty():
    lines = [
        {"row": name, "share_of_best": share, "ndcg@10": "0.5", "train_cpu_seconds": "12.3"}
        for name, share in (("a", "0.9"), ("b", "0.8"), ("c", "0.1"))
    ]
    said = load().table(lines).splitlines()
    assert said[2] == "| `a` | 90 % | .500 | 12 | `c` | 10 % | .500 | 12 |"
    assert said[3] == "| `b` | 80 % | .500 | 12 |  |  |  |  |"
