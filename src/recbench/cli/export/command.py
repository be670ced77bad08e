"""``recbench export RUN_FOLDER --to FOLDER``: the model of a finished run as a program that plain torch loads, with its items' names.

With --format onnx it is an ONNX graph, which onnxruntime and others load without torch. With --mlflow NAME the program
becomes a registered model of the run's MLflow store, for ``mlflow models serve``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.secrets import redact
from recbench.core.terminal import Parser, exit_status


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/sasrec-3f9c2b71a0d4")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER", help="a new folder")
    where.add_argument("--mlflow", metavar="NAME", help="a registered model, new or with versions before this one")
    parser.add_argument("--tracking-uri", help="of --mlflow: the store, if not that of the run")
    parser.add_argument(
        "--format",
        choices=["torch", "onnx"],
        default="torch",
        help="torch.export (the default), or ONNX (extra 'onnx')",
    )
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--raw-dir", type=Path, help="where raw data are, if not where the run found them")
    chosen = parser.parse_args(arguments)
    if chosen.mlflow is not None and chosen.format != "torch":
        raise UserError("--mlflow registers the torch program; leave out --format onnx")
    return chosen


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use and models that cannot be exported."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    from recbench.cli.export.folder import export_run
    from recbench.cli.recommend.model_of_run import open_model

    opened = open_model(chosen.run, chosen.cache_dir, chosen.raw_dir)
    if chosen.mlflow is not None:
        from recbench.cli.export.registered import register_run

        uri = chosen.tracking_uri or opened.config.tracking.uri
        made = register_run(opened, chosen.mlflow, uri)
        print(f"{made.uri}: {made.described['model']}, {made.described['n_items']:,} items, of {opened.key}")
        print(
            f"serve it with: MLFLOW_TRACKING_URI={redact(uri)} mlflow models serve --model-uri {made.uri} --env-manager local --port 5001"
        )
        return 0
    described = export_run(opened, chosen.to, chosen.format)
    print(
        f"{chosen.to}: {described['model']}, {described['n_items']:,} items; over {described['checked_histories']} histories its scores lie within "
        f"{described['largest_difference']:.2g} of the model's"
    )
    return 0
