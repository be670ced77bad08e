"""A study trained in a second clone: what comes back, what is kept, and that a clone which trains is left alone."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = "# Words of ours\n\n<!-- results -->\n{}\n<!-- /results -->\n\nVerdict.\n"


@pytest.fixture(scope="module")
def elsewhere():
    spec = importlib.util.spec_from_file_location("elsewhere", ROOT / "experiments" / "elsewhere.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_come_back_and_lines_of_other_runs_are_kept(elsewhere, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    write(there / "results.csv", "row,phase,seed,key,hr@20", "b,final,1,b-new,.3", "c,final,1,c-new,.4")
    write(here / "results.csv", "row,phase,seed,key,ndcg@10", "a,final,1,a-old,.1", "b,final,1,b-old,.2")
    (there / "ranks.npz").write_bytes(b"ranks")
    (there / "README.md").write_text(README.format("new table"))
    (here / "README.md").write_text(README.format("old table"))
    said = "\n".join(elsewhere.bring(there, here))
    lines = rows_of(here / "results.csv")
    assert [(line["key"], line["hr@20"], line["ndcg@10"]) for line in lines] == [
        ("b-new", ".3", ""),
        ("c-new", ".4", ""),
        ("a-old", "", ".1"),
    ]
    assert (here / "ranks.npz").read_bytes() == b"ranks"
    assert "old table" in (here / "README.md").read_text()  # it shows a line that the clone does not have
    assert "1 kept" in said
    assert "left alone" in said
    write(here / "results.csv", "row,phase,seed,key,ndcg@10", "b,final,1,b-old,.2")
    assert "README.md: its table" in elsewhere.bring(there, here)
    assert (here / "README.md").read_text() == README.format("new table")


def test_wrong_use_is_told_in_one_line(elsewhere, tmp_path):
    with pytest.raises(SystemExit, match="inside the checkout"):
        elsewhere.main(["tiny", "--clone", str(ROOT / "clone")])
    with pytest.raises(SystemExit, match="train first"):
        elsewhere.main(["tiny", "--clone", str(tmp_path / "none"), "--collect"])
    with (
        elsewhere.alone(tmp_path / "clone"),
        pytest.raises(SystemExit, match="trains in"),
        elsewhere.alone(tmp_path / "clone"),
    ):
        pass


@pytest.mark.slow
def test_a_study_trains_in_a_clone_and_goes_on_where_it_stopped(elsewhere, tmp_path, capsys):
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    source, clone = tmp_path / "source", tmp_path / "clone"

    def git(*words):
        subprocess.run(["git", "-C", source, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    words = [
        "tiny",
        "--clone",
        str(clone),
        "--python",
        sys.executable,
        "tracking=off",
        f"cache_dir={tmp_path / 'cache'}",
    ]
    with pytest.raises(SystemExit, match="commit it, then give --at HEAD"):
        elsewhere.main(words, source)
    write(
        source / "experiments" / "tiny" / "study.yaml",
        "question: does it come back?",
        "base: [data=synthetic, data.n_users=120, data.n_items=60, data.oracle_users=100]",
        "rows: {popularity: [model=popularity]}",
    )
    git("add", "--all")
    git("commit", "--quiet", "--message", "a tiny study")
    assert elsewhere.main([*words, "--at", "HEAD"], source) == 0
    found = source / "experiments" / "tiny" / "results.csv"
    (line,) = rows_of(found)
    assert line["row"] == "popularity"
    assert line["commit"]
    assert (clone / "runs" / line["key"] / "metrics.json").is_file()
    assert not (source / "runs").exists()
    # Nothing is trained again, and what was lost here is brought again.
    before = (clone / "runs" / line["key"] / "metrics.json").stat().st_mtime_ns
    found.unlink()
    assert elsewhere.main([*words, "--collect"], source) == 0
    assert rows_of(found) == [line]
    assert (clone / "runs" / line["key"] / "metrics.json").stat().st_mtime_ns == before
    shutil.rmtree(clone)
