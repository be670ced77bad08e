"""Train a study in a second clone, so that the code here can move while evidence grows there.

    make study-elsewhere NAME=recipes ARGS="data.raw_dir=FOLDER"              # or python experiments/elsewhere.py recipes data.raw_dir=FOLDER
    make study-elsewhere NAME=recipes ARGS="data.raw_dir=FOLDER --collect"    # bring what is finished by now; another shell, at any time

The clone lies outside the tree, in --clone FOLDER, $STUDY_DIR or ../recbench-study, at the commit that it was made with and with an environment of
its own. It trains one run at a time on one thread, at the lowest priority; the same command again goes on where it was stopped. ``--at HEAD`` moves
the clone to another commit first. Only results.csv, ranks.npz and the table of the README come back; lines of results.csv here whose runs the
clone does not have are kept.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Between these lines of a README stands the table of its study.
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line: ours, and words for the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a folder of experiments/, committed")
    parser.add_argument("words", nargs="*", metavar="key=value", help="keys for every run, as in data.raw_dir=FOLDER")
    parser.add_argument(
        "--clone", type=Path, help="folder of the second clone (default: $STUDY_DIR or ../recbench-study)"
    )
    parser.add_argument("--at", metavar="COMMIT", help="move the clone to this commit of the checkout first")
    parser.add_argument("--collect", action="store_true", help="train nothing; bring what is finished by now")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--python", metavar="PATH", help="a ready interpreter in place of an environment in the clone")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Returns the exit status of the study. Raises SystemExit with one line for wrong use."""
    given = read_arguments(arguments)
    clone = (given.clone or Path(os.environ.get("STUDY_DIR") or root.parent / "recbench-study")).expanduser().absolute()
    if clone.is_relative_to(root):
        raise SystemExit(f"the clone {clone} would lie inside the checkout; name a folder outside of it with --clone")
    if given.collect:
        if not (clone / ".git").is_dir():
            raise SystemExit(f"there is no clone in {clone}; train first, without --collect")
        status = study(clone, given, "--table")
    else:
        with alone(clone):
            prepare(root, clone, given)
            status = study(clone, given, "--jobs", str(given.jobs))
    for line in bring(clone / "experiments" / given.study, root / "experiments" / given.study):
        print(line)
    return status


@contextmanager
def alone(clone: Path) -> Iterator[None]:
    """One training at a time in a clone: it must not move under a run."""
    clone.parent.mkdir(parents=True, exist_ok=True)
    with clone.with_name(clone.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(
                f"a study trains in {clone} already; add --collect to bring what is finished by now"
            ) from None
        yield


def prepare(root: Path, clone: Path, given: argparse.Namespace) -> None:
    """The clone at its commit, with its environment. A study that this commit does not have is refused."""
    if not (clone / ".git").is_dir():
        git(root, "clone", "--quiet", "--no-checkout", str(root), str(clone))
        given.at = given.at or "HEAD"
    if given.at:
        commit = git(root, "rev-parse", "--verify", f"{given.at}^{{commit}}")
        git(clone, "fetch", "--quiet", str(root), commit)
        git(clone, "checkout", "--quiet", "--force", "--detach", commit)  # its tables are made again from its runs
    print(f"clone: {clone} at {git(clone, 'log', '-1', '--format=%h %s')}")
    if not (clone / "experiments" / given.study / "study.yaml").is_file():
        raise SystemExit(f"this commit has no study '{given.study}'; commit it, then give --at HEAD")
    if not given.python:
        subprocess.run(["make", "--silent", "-C", str(clone), ".venv/.ready"], check=True)


def study(clone: Path, given: argparse.Namespace, *more: str) -> int:
    """``recbench study`` in the clone, with the clone's code."""
    python = given.python or str(clone / ".venv" / "bin" / "python")
    command = ["nice", "-n", "19", python, "-m", "recbench", "study", given.study, *given.words, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(clone / "src")}
    return subprocess.run(command, cwd=clone, env=environment, check=False).returncode


def git(folder: Path, *words: str) -> str:
    """What git says. Raises SystemExit with its own message."""
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def bring(there: Path, here: Path) -> list[str]:
    """Bring results.csv, ranks.npz and the README's table from one study folder to another. Returns what was done, a line each."""
    if not (there / "results.csv").is_file():
        return [f"{there} has no results.csv yet"]
    here.mkdir(parents=True, exist_ok=True)
    new, kept = merge(there / "results.csv", here / "results.csv")
    said = [f"results.csv: {new} lines from the clone, {kept} kept"]
    if (there / "ranks.npz").is_file():
        shutil.copyfile(there / "ranks.npz", here / "ranks.npz")
        said.append("ranks.npz")
    table = table_of(there / "README.md")
    if table is not None and kept:
        said.append(f"README.md: its table is left alone, for it shows {kept} lines whose runs the clone does not have")
    elif table is not None and (old := table_of(here / "README.md")) is not None:
        text = (here / "README.md").read_text(encoding="utf-8")
        (here / "README.md").write_text(text.replace(old, table, 1), encoding="utf-8")
        said.append("README.md: its table")
    return said


def merge(there: Path, here: Path) -> tuple[int, int]:
    """Write the lines of both files to ``here``: those of ``there``, then those that only ``here`` has, unless their row was run anew with
    the same phase and seed. Returns how many of each."""
    names, lines = read_csv(there)
    old_names, old_lines = read_csv(here)
    rerun = {(line["row"], line["phase"], line["seed"]) for line in lines}
    kept = [line for line in old_lines if (line["row"], line["phase"], line["seed"]) not in rerun]
    names = [*names, *(name for name in old_names if name not in names and any(line.get(name) for line in kept))]
    temporary = here.with_name(here.name + ".new")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*lines, *kept])
    temporary.replace(here)
    return len(lines), len(kept)


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """(names of the columns, lines); nothing of a file that is not there."""
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        return list(reader.fieldnames or []), lines


def table_of(readme: Path) -> str | None:
    """What stands between the markers, markers included; None without them."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    _, begin, rest = text.partition(BEGIN)
    table, end, _ = rest.partition(END)
    return begin + table + end if begin and end else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
