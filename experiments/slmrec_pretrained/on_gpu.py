"""The study on another machine, such as one with a GPU that is lent for minutes: pack the backbone small, and train in pieces that end in time.

    python experiments/slmrec_pretrained/on_gpu.py pack --model FOLDER --layers 8 --to PACKED       # here
    RECBENCH_LANGUAGE_MODEL=PACKED python experiments/slmrec_pretrained/on_gpu.py run --minutes 9 data.raw_dir=FOLDER   # there

``pack`` writes the first layers alone, in files of at most 60 MB, without the vectors of tokens unless ``--tokens`` asks for them (the row
prompt_text needs them): 4 and 8 layers of SmolLM2-135M are 28 and 57 MB. Runs on it have the keys of runs on the whole folder. ``run`` ends by
itself before its time is over, with status 3; started again, the study goes on from the last finished epoch. Runs of both machines may lie in
one folder.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

STUDY = Path(__file__).resolve().parent
#: Bytes of a file at most.
PIECE = 60_000_000
#: Seconds that a process gets to end after it was asked to.
GRACE = 20
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
TOKENS = ("embed_tokens", "lm_head")
#: What else of the folder goes along, where it is there.
BESIDE = (
    "source.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    packing = parts.add_parser("pack", help="the first layers of a backbone, in small files")
    packing.add_argument("--model", type=Path, required=True, help="a folder with config.json and safetensors")
    packing.add_argument("--layers", type=int, default=8, help="layers to take (default: 8)")
    packing.add_argument("--tokens", action="store_true", help="with the vectors of tokens, which prompt_text reads")
    packing.add_argument("--to", type=Path, required=True, help="a new folder")
    running = parts.add_parser("run", help="train what is missing of the study, for some minutes")
    running.add_argument("--minutes", type=float, default=9.0, help="end after so long (default: 9)")
    running.add_argument("--hardware", default="gpu", help="hardware=... of every run (default: gpu)")
    running.add_argument("words", nargs="*", metavar="key=value", help="keys for every run, as in data.raw_dir=FOLDER")
    return parser.parse_args(given)


def wanted(name: str, layers: int, tokens: bool) -> bool:
    """Whether a tensor of that name belongs to the first layers."""
    if any(part in name for part in TOKENS):
        return tokens and "embed_tokens" in name
    match = LAYER.search(name)
    return match is None or int(match[1]) < layers


def pack(model: Path, layers: int, tokens: bool, to: Path) -> list[Path]:
    """Write the first layers to a new folder, as transformers reads them; returns the files of weights.

    Raises SystemExit for a folder that is there already, is no model, or has fewer layers.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    if to.exists():
        raise SystemExit(f"{to} is there already; name a new folder")
    files = sorted(model.glob("*.safetensors"))
    if not files or not (model / "config.json").is_file():
        raise SystemExit(f"{model} holds no config.json with safetensors")
    shape = json.loads((model / "config.json").read_text())
    if shape["num_hidden_layers"] < layers:
        raise SystemExit(f"{model} has {shape['num_hidden_layers']} layers, fewer than {layers}")
    pieces: list[dict] = [{}]
    size = total = 0
    for path in files:
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if not wanted(name, layers, tokens):
                    continue
                tensor = weights.get_tensor(name)
                if size + tensor.nbytes > PIECE and pieces[-1]:
                    pieces.append({})
                    size = 0
                pieces[-1][name] = tensor
                size, total = size + tensor.nbytes, total + tensor.nbytes
    to.mkdir(parents=True)
    names = [f"model-{i:05}-of-{len(pieces):05}.safetensors" for i in range(1, len(pieces) + 1)]
    for name, piece in zip(names, pieces, strict=True):
        save_file(piece, to / name, metadata={"format": "pt"})
    places = {tensor: name for name, piece in zip(names, pieces, strict=True) for tensor in piece}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (to / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    # A row that asks for more layers than were packed is refused, not filled up at random.
    (to / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": layers}, indent=1) + "\n")
    for name in BESIDE:
        if (model / name).is_file():
            shutil.copy(model / name, to)
    return [to / name for name in names]


def run(minutes: float, hardware: str, words: Sequence[str]) -> int:
    """One piece of the study: the exit status of the study, or 3 where the time ended first."""
    status = in_time([str(STUDY), f"hardware={hardware}", *words], max(1.0, 60 * minutes - GRACE))
    if status is None:
        print(f"{minutes:g} minutes are over; the same command goes on from the last finished epoch")
        return 3
    return status


def in_time(words: Sequence[str], seconds: float, folder: Path | None = None) -> int | None:
    """``recbench study`` with these words, in a folder: its exit status, or None where the time ended first and it was stopped."""
    command = [sys.executable, "-m", "recbench", "study", "--jobs", "1", *words]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # as Ctrl+C: the study ends its run, whose last checkpoint stays
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    chosen = arguments(given)
    if chosen.part == "run":
        return run(chosen.minutes, chosen.hardware, chosen.words)
    for path in pack(chosen.model, chosen.layers, chosen.tokens, chosen.to):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"RECBENCH_LANGUAGE_MODEL={chosen.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
