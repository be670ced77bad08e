"""A study on another machine: what results.csv tells stays, and need not be made again."""

from __future__ import annotations

import csv
import shutil

import pytest

from recbench.study.told import as_before, cells_of

SEARCH = {"training.lr": ["1e-3", 0.01]}
README = "# Mini\n\n<!-- results -->\n<!-- /results -->\n"


def rows_of(study):
    with (study.path / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def moved(study):
    """A finished study with a search, whose run folders are gone; with a row that was never trained."""
    study.write(rows={"wide": [], "narrow": ["model.hidden_size=8"]}, search=SEARCH, seeds=[1], reference="wide")
    (study.path / "README.md").write_text(README)
    status, _, err, _ = study.run()
    assert status == 0, err
    shutil.rmtree(study.runs)
    return study


def test_lines_and_cells_of_runs_that_are_elsewhere_stay_as_they_are(moved):
    before = {name: (moved.path / name).read_bytes() for name in ("results.csv", "README.md", "ranks.npz")}
    assert "[" in before["README.md"].decode().split("| narrow ")[1].splitlines()[0]
    status, _, err, started = moved.run("--table")
    assert (status, started) == (0, [])
    assert "6 of 6 lines of results.csv are of runs that are not here; they stay" in err
    assert {name: (moved.path / name).read_bytes() for name in before} == before
    # Without the ranks nothing could be computed: the interval stays as it was measured.
    (moved.path / "ranks.npz").unlink()
    assert moved.run("--table")[0] == 0
    assert (moved.path / "README.md").read_bytes() == before["README.md"]


@pytest.mark.parametrize("words", [[], ["--rows", "new"]], ids=str)
def test_only_what_is_told_nowhere_is_trained(moved, words):
    chosen = next(r["training.lr"] for r in rows_of(moved) if r["phase"] == "final" and r["row"] == "wide")
    rows = {
        "wide": [],
        "narrow": ["model.hidden_size=8"],
        "new": {"overrides": ["model.dropout=0.1", "training.lr=<wide:training.lr>"], "search": {}},
    }
    moved.write(rows=rows, search=SEARCH, seeds=[1], reference="wide")
    before = rows_of(moved)
    status, _, err, started = moved.run("--missing", *words)
    assert status == 0, err
    (asked,) = started
    assert "model.dropout=0.1" in asked
    assert f"training.lr={chosen}" in asked
    assert ("1 of 7 runs finished, 6 told by results.csv" in err) == (not words)
    after = rows_of(moved)
    assert [{k: line[k] for k in before[0]} for line in after if line["row"] != "new"] == before
    assert [line["row"] for line in after][-1] == "new"
    # The new row is compared with ranks that ranks.npz has kept.
    assert "[" in (moved.path / "README.md").read_text().split("| new ")[1].splitlines()[0]


def test_a_line_stays_though_its_run_was_made_again_for_another_row(moved):
    before = (moved.path / "results.csv").read_text()
    status, _, err, _ = moved.run("--rows", "wide")
    assert status == 0, err
    again = rows_of(moved)
    for words in ([], ["--rows", "narrow"]):
        (moved.path / "results.csv").write_text(before)
        status, _, err, started = moved.run("--missing", *words)
        assert (status, started) == (0, []), err
        assert (moved.path / "results.csv").read_text() == before
    assert again != rows_of(moved)  # its seconds are others


def test_a_line_whose_row_now_asks_for_another_run_is_left_out_and_it_is_said(moved):
    moved.write(rows={"wide": [], "narrow": ["model.hidden_size=4"]}, search=SEARCH, seeds=[1], reference="wide")
    status, _, err, _ = moved.run("--table")
    assert status == 0
    assert "3 lines of results.csv are of runs that the study no longer asks for" in err
    assert {line["row"] for line in rows_of(moved)} == {"wide"}


def test_without_the_word_all_of_it_is_made_again(moved):
    status, _, err, started = moved.run()
    assert status == 0, err
    assert len(started) == 4
    assert len(rows_of(moved)) == 6


def test_missing_goes_with_training(moved):
    status, _, err, _ = moved.run("--missing", "--table")
    assert status == 2
    assert "--missing goes with training and with --dry, not with --table" in err


def test_a_dry_run_counts_what_is_told_and_asks_about_the_rows_that_are_named(moved):
    moved.write(
        rows={"wide": [], "narrow": ["model.hidden_size=8"], "new": {"overrides": ["model.dropout=0.1"], "search": {}}},
        search=SEARCH, seeds=[1], reference="wide",
    )  # fmt: skip
    status, out, err, started = moved.run("--dry", "--hours", "--missing", "--rows", "narrow,new")
    assert (status, started) == (0, []), err
    assert "told     final  narrow seed 1" in out
    assert "missing  final  new seed 1" in out
    assert "wide" not in out
    assert "0 of 4 known runs finished, 3 told by results.csv" in out
    lines = {line.split(":")[0].split()[-1]: line for line in out.splitlines() if line.startswith("hours ")}
    assert lines["narrow"].endswith("nothing is missing")
    assert "1 run," in lines["new"]


def test_cells_are_found_by_row_and_column():
    table = (
        "Data `a`.\n\n| row | ndcg@10 | against x | n |\n| --- | ---: | ---: | ---: |\n"
        "| one \\* | .1 | +1 % [0, 2] | 1 |\n| x | .2 |  | 1 |\n\nnote"
    )
    found = cells_of(table)
    assert found["one"]["against x"] == "+1 % [0, 2]"
    assert found["x"] == {"row": "x", "ndcg@10": ".2", "against x": "", "n": "1"}


@pytest.mark.parametrize(
    ("cell", "before", "expected"),
    [
        ("", ".5", ".5"),
        ("+1.0 %", "+1.0 % [0.1, 1.9]", "+1.0 % [0.1, 1.9]"),
        ("+2.0 % [1, 3]", "+1.0 % [0.1, 1.9]", "+2.0 % [1, 3]"),
        (".4", ".5", ".4"),
        ("", "", ""),
    ],
)
def test_a_cell_is_taken_from_before_where_that_says_more(cell, before, expected):
    assert as_before(cell, {"c": before}, "c") == expected
    assert as_before(cell, None, "c") == cell
