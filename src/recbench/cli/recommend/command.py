"""``recbench recommend RUN_FOLDER --user ID --k 10``: what a finished run recommends, with raw ids and titles.

A user's history is all that the data hold of the user, the events that the run was tested on included; with --as-in-test what stood before the test
target. A typed history is given oldest event first. Items of the history are left out where the run's protocol masks them.

With --all --to FILE the lists of all users go into a Parquet or CSV file: user, rank, item, score. With --candidates FILE each pair of a user and an
item of the file gets the model's score, and ``seen``: whether the item stands in the history. Both work in blocks: memory does not grow with users.
With --all --on ray the tasks of a Ray cluster do it, and --to becomes a folder of Parquet parts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.cli.recommend.unknown import add_unknown, settle
from recbench.core.console import clean_json, console
from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, speak

if TYPE_CHECKING:
    from recbench.cli.recommend.histories import History
    from recbench.cli.recommend.model_of_run import Opened


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench recommend", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/sasrec-3f9c2b71a0d4")
    parser.add_argument("--user", nargs="+", action="extend", default=[], metavar="ID", help="raw ids of known users")
    parser.add_argument(
        "--history",
        action="append",
        default=[],
        metavar="ITEM,ITEM",
        help='raw ids of items, or JSON (\'["a","b"]\'); several times for several',
    )
    parser.add_argument(
        "--times", action="append", default=[], metavar="T,T", help="one an item: dates or Unix seconds"
    )
    parser.add_argument(
        "--behaviours", action="append", default=[], metavar="B,B", help="one an item, such as view,cart"
    )
    parser.add_argument("--all", action="store_true", help="all users, into the file of --to")
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help="score these pairs: CSV, TSV, JSON lines or Parquet with columns user and item",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="of --all and --candidates: a .parquet or .csv file, written whole or not at all",
    )
    parser.add_argument(
        "--on",
        metavar="ray[=HOST:PORT]",
        help="of --all: on a Ray of this machine, or of that address; --to becomes a folder of Parquet parts",
    )
    parser.add_argument("--parts", type=int, metavar="N", help="of --on: at most so many parts")
    add_unknown(parser, "pairs, or events of a --history,")
    parser.add_argument("--k", type=int, default=10, help="items a list (default: 10)")
    parser.add_argument("--as-in-test", action="store_true", help="of a user, only what stood before the test target")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument(
        "--mask-seen", dest="mask_seen", action="store_true", default=None, help="leave items of the history out"
    )
    seen.add_argument("--keep-seen", dest="mask_seen", action="store_false", help="let items of the history come again")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--cache-dir", type=Path, help="where prepared data are, if not where the run found them")
    parser.add_argument("--raw-dir", type=Path, help="where raw data are, if not where the run found them")
    chosen = parser.parse_args(arguments)
    _check_what(chosen)
    if chosen.k < 1:
        raise UserError(f"--k must be at least 1, not {chosen.k}")
    for name in ("times", "behaviours"):
        if getattr(chosen, name) and len(getattr(chosen, name)) != len(chosen.history):
            raise UserError(f"--{name} stands once for each --history, in the same order")
    return chosen


def _check_what(chosen: argparse.Namespace) -> None:
    """Raise UserError unless one kind of thing is asked for, with what it takes."""
    typed = [*chosen.user, *chosen.history]
    kinds = [
        name
        for name, given in (("--all", chosen.all), ("--candidates", chosen.candidates), ("--user or --history", typed))
        if given
    ]
    if not kinds:
        raise UserError(
            "name a user with --user ID, or give a history with --history ITEM,ITEM; --all and --candidates FILE ask for many"
        )
    if len(kinds) > 1:
        raise UserError(f"{' and '.join(kinds)} are questions of their own; ask one of them")
    if chosen.all and chosen.to is None:
        raise UserError("--all writes a file: name it with --to FILE.parquet")
    if chosen.on is not None and not chosen.all:
        raise UserError("--on spreads the lists of all users; ask for them with --all")
    if chosen.parts is not None and (chosen.on is None or chosen.parts < 1):
        raise UserError("--parts N, at least 1, is for --on ray")
    if typed and chosen.to is not None:
        raise UserError(
            "--to is for --all and --candidates; lists of a few users are printed, also as JSON with --json"
        )


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    speak()
    from recbench.cli.recommend.answer import named, recommend
    from recbench.cli.recommend.model_of_run import open_model
    from recbench.experiment.failures import plain_failures

    if chosen.on is not None:
        from recbench.cli.recommend.on_ray import address_of, check_folder

        address_of(chosen.on)
        check_folder(chosen.to)
    elif chosen.to is not None:
        from recbench.cli.recommend.bulk import check_target

        check_target(chosen.to)
    opened = open_model(chosen.run, chosen.cache_dir, chosen.raw_dir, chosen.device)
    if chosen.all or chosen.candidates:
        with plain_failures(opened.key):
            return (_all if chosen.all else _candidates)(opened, chosen)
    with plain_failures(opened.key):
        answers = recommend(opened, _histories(opened, chosen), chosen.k, chosen.mask_seen)
    found = {
        "run": opened.key,
        "model": opened.name,
        "protocol": opened.stage.split.protocol_id,
        "answers": named(opened, answers),
    }
    if chosen.json:
        print(clean_json(json.dumps(found, indent=1, ensure_ascii=False)))
    else:
        show(found, chosen.k)
    return 0


def _all(opened: Opened, chosen: argparse.Namespace) -> int:
    if chosen.on is None:
        from recbench.cli.recommend.bulk import recommend_all

        counts = recommend_all(opened, chosen.to, chosen.k, chosen.mask_seen, chosen.as_in_test)
    else:
        from recbench.cli.recommend.on_ray import Question, Source, address_of, recommend_on_ray

        source = Source(chosen.run.absolute(), chosen.cache_dir, chosen.raw_dir, chosen.device)
        question = Question(chosen.k, chosen.mask_seen, chosen.as_in_test)
        counts = recommend_on_ray(opened, source, question, chosen.to, address_of(chosen.on), chosen.parts)
    parts = f" in {counts['parts']:,} parts" if "parts" in counts else ""
    short = f"; {counts['short']:,} users have fewer than {chosen.k} items" if counts["short"] else ""
    print(
        f"{chosen.to}: {counts['rows']:,} rows{parts}, the best {chosen.k} items of {counts['users']:,} users by {opened.key}{short}"
    )
    return 0


def _candidates(opened: Opened, chosen: argparse.Namespace) -> int:
    from recbench.cli.recommend.bulk import score_pairs, write_tables
    from recbench.cli.recommend.id_file import read_pairs

    pairs = read_pairs(chosen.candidates)
    scored, unknown = score_pairs(opened, pairs, chosen.as_in_test)
    left_out = settle(chosen.unknown, "pairs", pairs.height, unknown)
    if left_out:
        print(left_out, file=sys.stderr)
    if not scored.height:
        raise UserError(f"no pair of {chosen.candidates} is left to score")
    if chosen.to is not None:
        write_tables(chosen.to, [scored], dict(scored.schema))
        print(f"{chosen.to}: scores of {scored.height:,} pairs by {opened.key}")
    elif chosen.json:
        print(
            json.dumps(
                {"run": opened.key, "model": opened.name, "pairs": scored.to_dicts()}, indent=1, ensure_ascii=False
            )
        )
    else:
        sys.stdout.write(scored.write_csv())
    return 0


def _histories(opened: Opened, chosen: argparse.Namespace) -> list[History]:
    from recbench.cli.recommend.histories import histories_of_users, typed_history

    data = opened.stage.data
    found = histories_of_users(data, opened.stage.split, chosen.user, chosen.as_in_test) if chosen.user else []
    for place, text in enumerate(chosen.history):
        times, behaviours = (words(given[place]) if given else None for given in (chosen.times, chosen.behaviours))
        found.append(typed_history(data, words(text), times, behaviours, opened.needs, chosen.unknown))
    return found


def words(text: str) -> list[str]:
    """A list of ids from a line: JSON, or words with commas between them. Raises UserError.

    >>> words("a, b"), words('["x,y", 3]')
    (['a', 'b'], ['x,y', '3'])
    """
    if text.lstrip().startswith("["):
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"cannot read {text[:60]} as JSON: {error}") from error
        return [str(word) for word in given]
    return [word.strip() for word in text.split(",") if word.strip()]


def printable(text: Any) -> str:
    """One line without control characters: a title from a file must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in str("" if text is None else text))


def show(found: dict[str, Any], k: int) -> None:
    """One table a history."""
    from rich import box
    from rich.table import Table

    out = console()
    for answer in found["answers"]:
        title = f"{found['run']}: {printable(answer['history'])[:80]} ({answer['events']} events)"
        table = Table(title=title, title_justify="left", box=box.ASCII2, pad_edge=False)
        for heading in ("", "item", "title", "score"):
            table.add_column(heading, justify="left" if heading in ("item", "title") else "right")
        for row in answer["items"]:
            table.add_row(str(row["rank"]), printable(row["item"]), printable(row["title"]), f"{row['score']:.4g}")
        out.print(table, highlight=False)
        if len(answer["items"]) < k:
            out.print(f"the model lists {len(answer['items'])} items here, not {k}", highlight=False)
