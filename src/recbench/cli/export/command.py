"""``recbench export RUN_FOLDER --to FOLDER``: the model of a finished run as a program that plain torch loads, with its items' names.

With --format onnx it is an ONNX graph, which onnxruntime and others load without torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recbench.core.terminal import Parser, exit_status


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/sasrec-3f9c2b71a0d4")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--format",
        choices=["torch", "onnx"],
        default="torch",
        help="torch.export (the default), or ONNX (extra 'onnx')",
    )
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--raw-dir", type=Path, help="where raw data are, if not where the run found them")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use and models that cannot be exported."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    from recbench.cli.export.folder import export_run
    from recbench.cli.recommend.model_of_run import open_model

    described = export_run(open_model(chosen.run, chosen.cache_dir, chosen.raw_dir), chosen.to, chosen.format)
    print(
        f"{chosen.to}: {described['model']}, {described['n_items']:,} items; over {described['checked_histories']} histories its scores lie within "
        f"{described['largest_difference']:.2g} of the model's"
    )
    return 0
