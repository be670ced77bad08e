"""The runs of a folder: list them, show one, remove some, and clear what nobody needs.

    recbench runs list [key=value ...] [--failed] [--sort COLUMN]    one row a run; key=value leaves those that fit, as in model=sasrec
    recbench runs show RUN [--all]             what was chosen, the figures, and what it needs and is needed by
    recbench runs rm RUN ... [--with-needed]   remove runs; --with-needed: also what only they needed
    recbench runs gc [unfinished dependencies data]    what can go; --yes removes it

RUN is a key, its beginning, or a folder. runs_dir=FOLDER says where the runs are (default: runs), cache_dir=FOLDER where prepared data are.
Nothing is removed before you agree: rm asks, and gc only lists, unless --yes is given. A run that a process works on is left alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.errors import UserError, nearest
from recbench.core.terminal import Parser, exit_status, show, speak

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from recbench.cli.stored.inventory import Inventory
    from recbench.cli.stored.leftovers import Leftover
    from recbench.report.collect import StoredRun

#: Words that say where to look; other words are filters of ``list``.
PLACES = ("runs_dir", "cache_dir")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where something had to be left, 2 for wrong use."""
    given = sys.argv[1:] if arguments is None else arguments
    speak()
    if not given or given[0] in ("--help", "-h"):
        print(__doc__)
        return 0 if given else 2
    return exit_status(lambda: _command(given[0])(given[1:]), stopped="stopped; what was removed by then is gone")


def _command(word: str) -> Callable[[list[str]], int]:
    known = {"list": list_runs, "show": show_run, "rm": remove, "gc": collect}
    if word not in known:
        raise UserError(f"unknown word '{word}'; {nearest(word, known)}; see recbench runs --help")
    return known[word]


def _places(words: Sequence[str]) -> tuple[list[str], Path, Path]:
    """(the other words, runs_dir, cache_dir). Raises UserError for a place without a name."""
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if key in PLACES:
            if not value:
                raise UserError(f"{key} lacks a folder; write {key}=FOLDER")
            found[key] = Path(value).expanduser()
    rest = [word for word in words if word.partition("=")[0] not in PLACES]
    cache = found.get("cache_dir") or Path(os.environ.get("RECBENCH_CACHE", "~/.cache/recbench")).expanduser()
    return rest, found.get("runs_dir", Path("runs")), cache


def list_runs(arguments: list[str]) -> int:
    """``recbench runs list``."""
    from recbench.cli.stored.tables import COLUMNS, list_table
    from recbench.report.notes import Entry, tuned_notes

    parser = Parser(prog="recbench runs list", description="one row a run")
    parser.add_argument("words", nargs="*", metavar="key=value", help="only runs that fit, as in model=sasrec,markov")
    parser.add_argument("--failed", action="store_true", help="only runs without a result, with the reason")
    parser.add_argument("--sort", default="updated", choices=COLUMNS, help="column to sort by (default: updated)")
    chosen = parser.parse_intermixed_args(arguments)
    words, runs_dir, _ = _places(chosen.words)
    inventory, runs = _fitting(runs_dir, words)
    shown = [run for run in runs if not chosen.failed or not run.finished]
    if not shown:
        show(f"all {len(runs)} runs are finished")
        return 0
    marks = tuned_notes([Entry(run.model, run.config, run.metrics) for run in shown])
    show(list_table(inventory, shown, chosen.sort, chosen.failed), *marks)
    return 0


def _fitting(runs_dir: Path, words: Sequence[str]) -> tuple[Inventory, list[StoredRun]]:
    from recbench.cli.stored.inventory import Inventory
    from recbench.report.collect import chosen, say_damaged

    for word in words:
        if "=" not in word:
            raise UserError(f"cannot read '{word}'; write key=value, as in model=sasrec")
    inventory = Inventory.of(runs_dir)
    say_damaged(inventory.runs.values())
    filters = dict(word.split("=", 1) for word in words)
    return inventory, chosen(list(inventory.runs.values()), filters)


def show_run(arguments: list[str]) -> int:
    """``recbench runs show``."""
    from recbench.cli.stored.inventory import Inventory
    from recbench.cli.stored.tables import show_parts

    parser = Parser(prog="recbench runs show", description="one run")
    parser.add_argument("words", nargs="+", metavar="RUN", help="a key, its beginning, or a folder; runs_dir=FOLDER")
    parser.add_argument("--all", action="store_true", help="every figure")
    chosen = parser.parse_intermixed_args(arguments)
    (word,), runs_dir, _ = _only_places(chosen.words, 1)
    inventory = Inventory.of(runs_dir)
    show(*show_parts(inventory, inventory.find(word), chosen.all))
    return 0


def _only_places(words: Sequence[str], n: int | None) -> tuple[list[str], Path, Path]:
    """The places, and ``n`` other words (None: at least one)."""
    rest, runs_dir, cache_dir = _places(words)
    if not rest or (n is not None and len(rest) != n):
        raise UserError(f"give {'one run' if n else 'runs'}, by key or folder, and runs_dir=FOLDER if it is not runs")
    return rest, runs_dir, cache_dir


def remove(arguments: list[str]) -> int:
    """``recbench runs rm``."""
    from recbench.cli.stored.inventory import Inventory
    from recbench.cli.stored.removal import plan_removal, refuse_broken, remove_runs
    from recbench.cli.stored.tables import removal_table

    parser = Parser(prog="recbench runs rm", description="remove runs; copies in MLflow stay")
    parser.add_argument("words", nargs="+", metavar="RUN", help="keys, their beginnings, or folders; runs_dir=FOLDER")
    parser.add_argument(
        "--with-needed", action="store_true", help="also what only these runs needed, such as a teacher"
    )
    parser.add_argument("--force", action="store_true", help="even if runs that stay were made with one of these")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    chosen = parser.parse_intermixed_args(arguments)
    words, runs_dir, _ = _only_places(chosen.words, None)
    inventory = Inventory.of(runs_dir)
    removal = plan_removal(inventory, words, chosen.with_needed)
    if not chosen.force:
        refuse_broken(removal)
    busy = [key for key in removal.asked if inventory.is_busy(key)]
    if busy:
        raise UserError(f"a process works on {busy[0]} at this moment; stop it first")
    show(removal_table(inventory, removal))
    if not chosen.yes and not agreed(f"remove {len(removal.keys)} runs from {inventory.runs_dir}?"):
        show("nothing was removed")
        return 0
    left = remove_runs(inventory, removal.keys)
    show(f"removed {len(removal.keys) - len(left)} runs", *(f"left: a process works on {key}" for key in left))
    return 1 if left else 0


def agreed(question: str) -> bool:
    """Ask, if there is somebody to ask. Raises UserError if not."""
    if not sys.stdin.isatty():
        raise UserError(f"{question} nobody is here to answer; say --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def collect(arguments: list[str]) -> int:
    """``recbench runs gc``."""
    from recbench.cli.stored.inventory import Inventory
    from recbench.cli.stored.leftovers import DATA, KINDS, find_leftovers
    from recbench.cli.stored.tables import leftovers_table

    parser = Parser(prog="recbench runs gc", description="what nobody needs")
    parser.add_argument(
        "words", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all); runs_dir=FOLDER"
    )
    parser.add_argument("--yes", action="store_true", help="remove it; without this it is only listed")
    chosen = parser.parse_intermixed_args(arguments)
    kinds, runs_dir, cache_dir = _places(chosen.words)
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"unknown kind '{kind}'; {nearest(kind, KINDS)}")
    inventory = Inventory.of(runs_dir)
    found = find_leftovers(inventory, cache_dir, kinds or KINDS)
    if not found:
        show("there is nothing to clear")
        return 0
    show(leftovers_table(found))
    if any(left.kind == DATA for left in found):
        show(f"prepared data are shared: runs outside of {inventory.runs_dir} that need them would prepare them again")
    if not chosen.yes:
        show(
            "nothing was removed; say --yes to remove all of this, or name a kind, as in: recbench runs gc unfinished --yes"
        )
        return 0
    return _clear(inventory, found)


def _clear(inventory: Inventory, found: Sequence[Leftover]) -> int:
    from recbench.cli.stored.removal import remove_folder, remove_runs

    busy = remove_runs(inventory, [left.key for left in found if left.key])
    for left in found:
        if left.key is None:
            remove_folder(left.path)
    show(f"removed {len(found) - len(busy)} of {len(found)}", *(f"left: a process works on {key}" for key in busy))
    return 1 if busy else 0
