"""Early exit of a finished run, after every layer, with and without the final norm: one pass over the test for all of them.

    python experiments/slmrec_pretrained/early_exit.py runs/slmrec-KEY --out experiments/slmrec_pretrained     # the row layers_30

The state after layer j passes the head that was trained behind the last layer, as ``compression=early_exit`` does for one j. Writes early_exit.csv, a
line a layer, and the table between the markers of README.md in the folder ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbench.cli.recommend.model_of_run import open_model
from recbench.core.run_folder import replacing
from recbench.data.batches import Batch
from recbench.evaluation.evaluate import evaluate

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- early exit -->", "<!-- /early exit -->"
METRICS = ("ndcg@10", "hr@10", "mrr")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run of slmrec")
    parser.add_argument("--raw-dir", type=Path, help="where raw data are, if not where the run found them")
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of early_exit.csv and README.md")
    return parser.parse_args(given)


class Depths:
    """Queries after every layer, computed once a block of users. Only they are kept, since states of all layers would be too large."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = model.config.n_layers
        self.kept: dict[int, dict[tuple[int, bool], Tensor]] = {}

    def queries(self, batch: Batch) -> dict[tuple[int, bool], Tensor]:
        """(layer, whether its state passed the final norm) -> [B, E]."""
        address = int(batch.user[0])
        if address not in self.kept:
            found = {}
            for layer, state in enumerate(self.model.last_states(batch)):
                # The last state is after the final norm anyway.
                forms = {True: state} if layer == self.layers else {True: self.model.normed(state), False: state}
                found |= {(layer, normed): self.model.queries(form) for normed, form in forms.items()}
            self.kept[address] = found
        return self.kept[address]

    def score(self, layer: int, normed: bool, batch: Batch) -> Tensor:
        return self.queries(batch)[layer, normed] @ self.model.item_vectors().T


@torch.no_grad()
def measure(opened: Any) -> list[dict[str, Any]]:
    """A line a layer and form: layer, normed, and the metrics of the test."""
    depths, lines = Depths(opened.model.eval()), []
    for layer in range(1, depths.layers + 1):
        for normed in (True, False) if layer < depths.layers else (True,):
            found = evaluate(
                lambda batch, layer=layer, normed=normed: depths.score(layer, normed, batch),
                opened.stage.data,
                opened.stage.split.test,
                opened.stage.split,
                opened.config.training.max_length,
            ).metrics(opened.config.evaluation.cutoffs)
            lines.append({"layer": layer, "normed": normed, **{name: found[name] for name in METRICS}})
            logging.info("layer %d, %s: %s %.4f", layer, "normed" if normed else "raw", METRICS[0], found[METRICS[0]])
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a layer, each metric with the final norm and without it."""
    by = {(line["layer"], line["normed"]): line for line in lines}
    shown = ["| read after layer | " + " | ".join(f"{m} | {m}, no norm" for m in METRICS) + " |"]
    shown.append("| ---: |" + " ---: |" * (2 * len(METRICS)))
    for layer in sorted({line["layer"] for line in lines}):
        cells = []
        for metric in METRICS:
            for normed in (True, False):
                line = by.get((layer, normed))
                cells.append("" if line is None else f"{line[metric]:.4f}".lstrip("0"))
        shown.append(f"| {layer} | " + " | ".join(cells) + " |")
    return "\n".join(shown)


def write(lines: list[dict[str, Any]], out: Path) -> None:
    """early_exit.csv, and the table where README.md has its place."""
    with replacing(out / "early_exit.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    page = out / "README.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN in text and END in text:
        head, rest = text.split(BEGIN)
        with replacing(page) as temporary:
            temporary.write_text(f"{head}{BEGIN}\n{table(lines)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = arguments(given)
    lines = measure(open_model(chosen.run, chosen.cache_dir, chosen.raw_dir))
    write(lines, chosen.out)
    print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
