"""Put the tour's table at the front of the README: what every model answers on the embedded data, and what that costs.

    python experiments/tour/front.py

Reads ``results.csv`` beside it and replaces what stands between the two markers in the README; ``make tour`` calls it at its end.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- tour -->", "<!-- /tour -->"
#: The protocol whose best achievable score is known.
PROTOCOL = "leave_one_out-full-mask-v1"


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of the tour that have a share of the best achievable score, best first."""
    with path.open(newline="", encoding="utf-8") as file:
        found = [line for line in csv.DictReader(file) if line["protocol"] == PROTOCOL and line.get("share_of_best")]
    return sorted(found, key=lambda line: -float(line["share_of_best"]))


def table(found: list[dict[str, str]]) -> str:
    """Markdown: two models a line, the better half on the left, so that it fits a screen."""
    half = -(-len(found) // 2)
    head = "| model | of the best | NDCG@10 | CPU s "
    lines = [f"{head}{head}|", "|---|---:|---:|---:|---|---:|---:|---:|"]
    for i in range(half):
        pair = [cells(line) for line in (found[i], *found[i + half : i + half + 1])]
        lines.append("| " + " | ".join(pair + [" |  |  | "] * (2 - len(pair))) + " |")
    return "\n".join(lines)


def cells(line: dict[str, str]) -> str:
    """A model, its share in percent, its NDCG@10, and the CPU seconds of its training."""
    seconds = float(line.get("train_cpu_seconds") or 0.0)
    cost = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}" if seconds >= 0.05 else "0"
    ndcg = f"{float(line['ndcg@10']):.3f}".removeprefix("0")
    return f"`{line['row']}` | {100 * float(line['share_of_best']):.0f} % | {ndcg} | {cost}"


def main() -> int:
    """Returns the exit status."""
    text = README.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        print(f"{README.name} has no place for the table: {BEGIN} ... {END}", file=sys.stderr)
        return 2
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    README.write_text(f"{before}{BEGIN}\n{table(rows(HERE / 'results.csv'))}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
