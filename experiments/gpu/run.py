"""What a GPU is to show, on a bare machine that is lent for minutes: one set of files to bring, pieces that end in time and go on, in order of worth.

    python -m experiments.gpu.run pack --to SET [--data WORDS]... [--runs RUN]... [--model FOLDER] [--wheels]   # here
    python -m experiments.gpu.run go --set SET --out OUT --minutes 9 [--pieces agree,speed,...]                  # there, from a copy of this tree

There, Python needs torch, pytorch-lightning, transformers, safetensors and torch-geometric, and nothing else: ``--wheels`` brings the small packages
that recbench starts with (Hydra, OmegaConf, ANTLR's runtime, filelock, orjson), and Polars with ``--wheels all``, without which no text can be read.
``go`` ends by itself before its time is over, with status 3, and the same command goes on: figures stand in OUT/figures.jsonl, one line each as soon
as it is known, and studies go on from their last finished epoch in OUT/runs. Status 1: a piece failed; 0: all is there.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.slmrec_pretrained.on_gpu import GRACE

ROOT = Path(__file__).resolve().parents[2]
#: name -> (study, its rows), in the order of their worth.
STUDIES: dict[str, tuple[str, str]] = {
    "generators": ("semantic_ids_gpu", "tiger_paper,rpg_tfidf"),
    "slmrec": ("slmrec_pretrained", ""),
    "sasrec_ml1m": ("sequential_ml1m", "sasrec"),
}
PIECES = ("agree", "speed", *STUDIES)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.gpu.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    pack = parts.add_parser("pack", help="make a set of files to bring along")
    pack.add_argument("--to", type=Path, required=True, help="folder of the set; what is there stays")
    pack.add_argument(
        "--data", action="append", default=[], metavar="WORDS", help='a data set, as in "data=amazon data.version=2014"'
    )
    pack.add_argument(
        "--runs",
        action="append",
        default=[],
        type=Path,
        metavar="RUN",
        help="a finished run that others need, such as a tokenizer",
    )
    pack.add_argument("--model", type=Path, help="a language model's folder, packed by slmrec_pretrained/on_gpu.py")
    pack.add_argument(
        "--wheels", nargs="?", const="small", choices=("small", "all"), help="packages for the other machine"
    )
    pack.add_argument("--python", default="3.12", help="its Python (default: 3.12)")
    pack.add_argument("--most", type=float, default=60.0, metavar="MB", help="refuse a larger set (default: 60)")
    go = parts.add_parser("go", help="do what is missing, for some minutes")
    go.add_argument("--set", type=Path, help="the folder that was packed")
    go.add_argument("--out", type=Path, required=True, help="where figures and runs are written")
    go.add_argument("--minutes", type=float, default=9.0, help="end after so long (default: 9)")
    go.add_argument("--pieces", default=",".join(PIECES), help=f"of {', '.join(PIECES)} (default: all)")
    go.add_argument("--device", default="cuda", help="cuda, or cpu to try this out (default: cuda)")
    go.add_argument("--models", default="", help="of the piece agree: these models alone")
    chosen = parser.parse_args(given)
    if chosen.part == "go":
        chosen.pieces = chosen.pieces.split(",")
        if unknown := [piece for piece in chosen.pieces if piece not in PIECES]:
            parser.error(f"unknown piece '{unknown[0]}'; known: {', '.join(PIECES)}")
    return chosen


class Figures:
    """Lines of OUT/figures.jsonl: what is known already is not asked again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.known = {(line["piece"], line["name"]) for line in map(json.loads, lines) if "error" not in line}

    def add(self, piece: str, name: str, made: Callable[[], dict[str, Any]]) -> bool:
        """Make a figure and write it; False where it failed, which is written as well."""
        began = time.perf_counter()
        line: dict[str, Any] = {"piece": piece, "name": name}
        try:
            line |= made()
        except Exception as error:  # the next figure is worth as much
            line["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        line["seconds"] = round(time.perf_counter() - began, 2)
        print(json.dumps(line), flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return "error" not in line


def figures_of(chosen: argparse.Namespace, device: Any) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """(piece, name, how it is made) of every figure that is asked for."""
    if "agree" in chosen.pieces:
        from experiments.gpu import agree
        from tests.fixtures.model_sizes import SIZES

        wanted = [name for name in chosen.models.split(",") if name]
        for name, keys in agree.models(SIZES):
            if not wanted or name in wanted:
                yield "agree", name, partial(agree.compare, name, keys, device)
    if "speed" in chosen.pieces:
        from experiments.gpu import speed

        for name in speed.ROWS:
            yield "speed", name, partial(speed.measure, name, device, chosen.out / "speed")


def go(chosen: argparse.Namespace) -> int:
    """Everything that is missing until the time is over. Returns the exit status."""
    end = time.monotonic() + 60 * chosen.minutes - GRACE
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.set is not None:
        from experiments.gpu.bring import use

        use(chosen.set, chosen.out)
    import torch

    from experiments.gpu.agree import exact_products

    device = torch.device(chosen.device)
    exact_products()
    known = Figures(chosen.out / "figures.jsonl")
    known.add("machine", "machine", lambda: machine(device))
    failed = False
    for piece, name, made in figures_of(chosen, device):
        if (piece, name) in known.known:
            continue
        if time.monotonic() > end:
            return over(chosen.minutes)
        failed |= not known.add(piece, name, made)
    from experiments.gpu.study import train

    for piece in chosen.pieces:
        if piece in STUDIES:
            status = train(*STUDIES[piece], chosen, end - time.monotonic())
            if status == 3:
                return over(chosen.minutes)
            failed |= status != 0
    return int(failed)


def over(minutes: float) -> int:
    """Say that the time is over. Returns the exit status for that."""
    print(f"{minutes:g} minutes are over; the same command goes on")
    return 3


def machine(device: Any) -> dict[str, Any]:
    """What computes here."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "tf32": False}


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    chosen = arguments(given)
    if chosen.part == "go":
        return go(chosen)
    from experiments.gpu.bring import pack

    return pack(chosen)


if __name__ == "__main__":
    sys.exit(main())
