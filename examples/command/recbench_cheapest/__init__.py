"""the finished runs of a folder by the seconds that they took to train: recbench cheapest [FOLDER]"""

import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Answer ``recbench cheapest [FOLDER]``; returns the exit status."""
    if {"-h", "--help"} & set(arguments) or len(arguments) > 1:
        print(__doc__)
        return 0 if len(arguments) < 2 else 2
    folder = Path(arguments[0] if arguments else "runs")
    figures = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    if not figures:
        print(f"error: {folder} holds no finished run; name a folder of runs", file=sys.stderr)
        return 2
    for key, found in sorted(figures.items(), key=lambda run: run[1].get("cost/train_seconds", 0.0)):
        print(f"{found.get('cost/train_seconds', 0.0):10.2f} s  {key}")
    return 0
