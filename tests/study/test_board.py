"""The board: rows of several studies in one table where they asked the same, never elsewhere; and what it says is short."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from recbench.cli.main import main
from recbench.core.errors import UserError
from recbench.study.board import boards, entries_of, page_of, studies_in, without_floor, write_board
from recbench.study.lacking import not_run, short_of_seeds
from recbench.study.ranks_file import FILE, Group, KeptRun, StudyRanks, write_ranks

FULL = "leave_one_out-full-mask-v1"


def write(home, name, rows, lines, ranks=None, more=""):
    """A study with results. rows: name -> words; lines: (row, seed, key, ndcg); ranks: key -> [T]."""
    folder = home / "experiments" / name
    folder.mkdir(parents=True)
    listed = "\n".join(f"  {row}: [{', '.join(words)}]" for row, words in rows.items())
    (folder / "study.yaml").write_text(f"question: {name}?\nbase: []\nrows:\n{listed}\ncolumns: [ndcg@10]\n{more}")
    names = [
        "row",
        "phase",
        "seed",
        "chosen",
        "key",
        "data",
        "protocol",
        "ndcg@10",
        "epochs",
        "train_cpu_seconds",
        "dependencies",
        "commit",
    ]
    with (folder / "results.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(names)
        for row, seed, key, ndcg in lines:
            trained = [] if row == "popularity" else [9, 3600]
            out.writerow([row, "final", seed, True, key, "synthetic", FULL, ndcg, *(trained or ["", ""]), "", "c0ffee"])
    if ranks:
        case = np.arange(len(next(iter(ranks.values()))))
        kept = tuple(KeptRun(key, 1, (key,), np.asarray(rank, dtype=float)) for key, rank in ranks.items())
        write_ranks(folder / FILE, StudyRanks((Group(FULL, "data-a", "split-a", case, case, None, kept),)))


@pytest.fixture
def home(tmp_path):
    same = ["data=synthetic"]
    draw = np.random.default_rng(0).integers(1, 12, (2, 300))
    write(
        tmp_path, "first", {"popularity": ["model=popularity", *same], "sasrec": ["model=sasrec", *same]},
        [("popularity", 1, "popularity-1", 0.1), ("sasrec", 1, "sasrec-1", 0.4)], {"popularity-1": draw[0] + 20, "sasrec-1": draw[1]},
        "published:\n  - {label: SASRec, ndcg@10: 0.5, source: a paper, beside: sasrec}\n",
    )  # fmt: skip
    small = ["model=markov", *same, "data.n_users=7"]
    write(
        tmp_path, "second", {"sasrec": ["model=sasrec", "training.lr=9", *same], "again": ["model=sasrec", *same], "other": small},
        [("sasrec", 1, "sasrec-2", 0.3), ("again", 1, "sasrec-1", 0.4), ("other", 1, "markov-1", 0.2)],
    )  # fmt: skip
    return tmp_path


def test_rows_that_asked_the_same_share_a_table_and_a_shared_run_is_one_row(home):
    found = boards(entries_of(studies_in([home / "experiments"])), resamples=50)
    assert [[line.name for line in board.measured] for board in found] == [
        ["sasrec", "sasrec (second)", "popularity"],
        ["other"],
    ]
    first = found[0]
    assert [line.verdict is not None for line in first.measured] == [True, False, True]
    assert first.measured[0].row.told == {"family": "sequential", "study": "first"}
    assert [line.name for line in first.lines if line.kind == "published"] == ["SASRec"]
    assert [line.name for line in found[1].lines if line.kind == "published"] == []


def test_what_is_short_is_said(home):
    found = without_floor(boards(entries_of(studies_in([home / "experiments"])), resamples=50))
    assert ["No popularity row here" in " ".join(board.notes) for board in found] == [False, True]
    told = {row[1].text: (row[3].text, row[4].text, row[5].text) for row in short_of_seeds(found).rows}
    assert told["sasrec"] == ("1", "5", "4.0")  # the reference itself
    assert told["sasrec (second)"] == ("1", "3", "2.0")  # without ranks nothing puts it near the top
    assert "popularity" not in told


def test_rows_without_a_run_are_named_those_of_studies_without_results_too(home):
    write(home, "third", {"sasrec": ["model=sasrec"], "gru4rec": ["model=gru4rec"]}, [])
    (home / "experiments" / "third" / "results.csv").unlink()
    second = home / "experiments" / "second" / "study.yaml"
    second.write_text(
        second.read_text().replace("  again:", "  left: {overrides: [model=markov], seeds: [1, 2]}\n  again:")
    )
    studies = studies_in([home / "experiments"])
    rows = [tuple(cell.text for cell in row) for row in not_run(studies).rows]
    assert rows == [
        ("second", "left", "2", "recbench study second --missing"),
        ("third", "sasrec", "1", "recbench study third --missing"),
        ("third", "gru4rec", "1", "recbench study third --missing"),
    ]
    assert "recbench study third --missing" in write_board(studies, home / "out", resamples=50).read_text()
    with pytest.raises(UserError, match=r"no study with a results\.csv is called third"):
        studies_in([home / "experiments"], ["third"])


def test_the_page_has_the_command_of_each_row(home):
    page = write_board(studies_in([home / "experiments"]), home / "out", resamples=50)
    text = page.read_text()
    assert "python -m recbench model=sasrec training.lr=9 data=synthetic seed=1" in text
    assert {path.name for path in (home / "out").iterdir()} == {
        "report.html",
        "report.md",
        "report.tex",
        "leaderboard.csv",
    }


def test_wrong_names_are_answered(home, capsys, monkeypatch):
    with pytest.raises(UserError, match="nothing-so"):
        studies_in([home / "experiments"], ["nothing-so"])
    monkeypatch.chdir(home)
    assert main(["board", "first", "where=x"]) == 2
    assert "takes names of studies and out=FOLDER" in capsys.readouterr().err
    with pytest.raises(UserError, match="no study"):
        studies_in([home / "nowhere"])


def test_our_own_studies_make_a_board():
    from recbench.config.schemas import conf_dir

    page = page_of(studies_in([conf_dir().parent / "experiments"], ["same_day", "tokenizers"]), resamples=50)
    assert len(page.sections) >= 3
    assert all(part.sentences for part in page.sections if part.board.metric)
