"""Lists of all users, made in pieces by the tasks of a Ray cluster: a folder of Parquet parts that together are the file of one machine.

A piece is a run of whole blocks, so every block is computed as on one machine. Each worker process opens the run once. A piece whose worker or
machine is lost is made again. All machines see the run's folder, ``cache_dir`` and the folder of ``--to`` in the same place.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recbench.core.disk import disk_errors, whole_folder
from recbench.core.errors import UserError, first_line
from recbench.core.terminal import speak

if TYPE_CHECKING:
    from recbench.cli.recommend.model_of_run import Opened

#: Pieces for each CPU of the cluster, unless there are fewer blocks: so that no machine waits long for the slowest.
PIECES_A_CPU = 4
#: How often a piece is given to another worker.
RETRIES = 3


class Source(NamedTuple):
    """What a worker opens: the arguments of ``open_model``."""

    run: Path
    cache_dir: Path | None
    raw_dir: Path | None
    device: str


class Question(NamedTuple):
    """What is asked of every user: the arguments of ``recommend_all``."""

    k: int
    mask_seen: bool | None
    as_in_test: bool


def address_of(on: str) -> str | None:
    """The address in ``ray=ADDRESS``; None of ``ray`` alone. Raises UserError.

    >>> address_of("ray"), address_of("ray=10.0.0.1:6379")
    (None, '10.0.0.1:6379')
    """
    engine, given, address = on.partition("=")
    if engine != "ray" or (given and not address):
        raise UserError(
            f"--on {on} is not known; write --on ray, or --on ray=HOST:6379 for a cluster that runs already"
        )
    return address or None


def check_folder(to: Path) -> None:
    """Raise UserError for a folder that cannot be made, before anything is computed."""
    if to.suffix != ".parquet":
        raise UserError(f"--to {to}: with --on the name must end in .parquet; it becomes a folder of parts")
    if to.exists():
        raise UserError(f"--to {to} is there already; name a new folder")
    if not to.absolute().parent.is_dir():
        raise UserError(f"--to {to}: there is no folder {to.absolute().parent}")


def pieces(n: int, rows: int, wanted: int) -> list[slice]:
    """At most so many runs of whole blocks of ``rows`` users that hold the users 0..n.

    >>> pieces(95, 10, 3)
    [slice(0, 40, None), slice(40, 80, None), slice(80, 95, None)]
    >>> pieces(5, 10, 3)
    [slice(0, 5, None)]
    """
    blocks = -(-n // rows)
    step = -(-blocks // max(1, min(wanted, blocks))) * rows
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


def recommend_on_ray(
    opened: Opened, source: Source, question: Question, to: Path, address: str | None, wanted: int | None = None
) -> dict[str, int]:
    """As ``bulk.recommend_all``, into a folder of parts that is there whole or not at all; counts as there, and "parts".

    wanted: at most so many parts. Raises UserError without Ray, where no cluster answers, and for a piece that cannot be made.
    """
    from recbench.cli.recommend.bulk import all_histories, rows_of_a_block
    from recbench.experiment.launchers.on_ray import cluster

    try:
        import ray
    except ImportError as error:
        raise UserError("--on ray needs the extra 'ray'; install it with: pip install 'recbench[ray]'") from error
    check_folder(to)
    n = len(all_histories(opened, question.as_in_test)[0])
    if not n:
        raise UserError("no user has a history to recommend from")
    place = to.absolute()
    with cluster(ray, {"address": address}, "--on ray=ADDRESS"), disk_errors(place.parent, "--to"):
        cpus = int(ray.cluster_resources().get("CPU", 1))
        made = pieces(n, rows_of_a_block(opened), wanted or PIECES_A_CPU * max(cpus, 1))
        options = {"num_cpus": 1, "num_gpus": 1 if source.device == "cuda" else 0, "max_retries": RETRIES}
        send = ray.remote(**options)(_piece)
        with whole_folder(place) as working:
            working.mkdir()
            sent = [
                send.remote(str(Path.cwd()), source, question, working / f"part-{number:05d}.parquet", rows)
                for number, rows in enumerate(made)
            ]
            counts = _collect(ray, sent, opened.key)
    return {**counts, "parts": len(made)}


@lru_cache(maxsize=1)
def _opened(source: Source) -> Opened:
    from recbench.cli.recommend.model_of_run import open_model

    return open_model(*source)


def _piece(cwd: str, source: Source, question: Question, to: Path, rows: slice) -> dict[str, int]:
    """In a worker: paths mean what they meant where the command was given."""
    from recbench.cli.recommend.bulk import write_lists

    os.chdir(cwd)
    speak()
    return write_lists(_opened(source), to, *question, rows=rows)


def _collect(ray: Any, sent: list[Any], key: str) -> dict[str, int]:
    """The sum of the counts of all pieces; the first that fails ends the others. Raises UserError."""
    from rich.progress import track

    from recbench.core.console import console

    total: dict[str, int] = {}
    try:
        for ref in track(sent, key, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()):
            for name, count in ray.get(ref).items():
                total[name] = total.get(name, 0) + count
    except BaseException as error:
        for ref in sent:
            ray.cancel(ref, force=True)
        if isinstance(error, ray.exceptions.RayTaskError):
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise error.cause from error
        if isinstance(error, ray.exceptions.RayError):
            said = first_line(error)[:200]
            raise UserError(f"Ray gave a piece up ({type(error).__name__}: {said}); give the command again") from error
        raise
    return total
