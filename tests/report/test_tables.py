"""Markdown, LaTeX and CSV of a board."""

from __future__ import annotations

from recbench.report.boards import boards_of
from recbench.report.collect import read_folder
from recbench.report.printed import with_published
from recbench.report.tables import leaderboard
from recbench.report.verdicts import judged
from recbench.report.writers import latex, latex_table, markdown_table, records


def board(folders):
    folders.add("good-1", 0.9, config={"model": {"name": "good_one"}})
    folders.add("poor-1", 0.0, config={"model": {"name": "poor|50%"}})
    (made,) = boards_of(read_folder(folders.path), reference="good_one")
    (made,) = with_published(
        [judged(made, 200)], [{"label": "A & B", "source": "its_paper", "ndcg@10": 0.0605}], "good_one"
    )
    return made


def test_markdown_has_a_cell_for_every_heading(folders):
    lines = markdown_table(leaderboard(board(folders))).splitlines()
    bare = [line.replace("\\|", "") for line in lines]
    assert len({line.count("|") for line in bare}) == 1
    assert lines[2].startswith("| good\\_one | ")
    assert lines[3].startswith("| poor\\|50% | ")
    assert lines[4].startswith("| A &amp; B (published: its\\_paper) | .0605 | ")
    assert "| **." in lines[2]
    assert "**" not in lines[3]
    assert "interval" not in lines[0]


def test_latex_escapes_everything_that_it_would_read():
    assert latex("50 % of a_b & $x^2$ #1 {y} ~ \\input{z}") == (
        r"50 \% of a\_b \& \$x\textasciicircum{}2\$ \#1 \{y\} \textasciitilde{} \textbackslash{}input\{z\}"
    )


def test_latex_rows_are_closed_and_the_best_is_bold(folders):
    text = latex_table(leaderboard(board(folders)), "one")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if "&" in line]
    assert all(line.endswith(r"\\") for line in rows)
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1
    assert [r"\textbf" in line for line in rows] == [False, True, False, False]
    assert r"A \& B (published: its\_paper)" in rows[-1]
    assert text.count(r"\midrule") == 2  # below the heading, and above what is published


def test_a_row_that_begins_like_an_option_is_no_option(folders):
    folders.add("a-1", config={"model": {"name": "[x]"}})
    (made,) = boards_of(read_folder(folders.path))
    assert "\n{}[x] &" in latex_table(leaderboard(made), "one")


def test_records_hold_figures_and_verdicts(folders):
    good, poor, printed = records(board(folders))
    assert good["kind"] == "measured"
    assert good["low"] < good["ndcg@10"] < good["high"]
    assert poor["relative"] < 0
    assert (printed["kind"], printed["source"], printed["ndcg@10"]) == ("published", "its_paper", 0.0605)
    assert good["protocol"] == "leave_one_out-full-mask-v1"


def test_columns_of_a_study_stand_in_the_table(folders):
    folders.add("a-1", **{"cost/epochs": 12})
    (made,) = boards_of(read_folder(folders.path))
    table = leaderboard(made, ("hr@1", "epochs", "sampled999_hr@1"))
    texts = [heading.text for heading in table.headings]
    assert "hr@1" in texts
    assert "sampled999_hr@1" not in texts
    assert table.rows[0][texts.index("epochs")].text == "12"


def test_decimal_points_of_a_column_lie_below_each_other_and_deviations_apart(folders):
    for seed in (1, 2):
        folders.add(f"a-{seed}", 0.9, seed, config={"model": {"name": "a"}}, **{"test/novelty@10": 11.5 + seed})
    folders.add("b-1", 0.1, config={"model": {"name": "b"}}, **{"test/novelty@10": 9.25})
    (made,) = boards_of(read_folder(folders.path))
    table = leaderboard(made)
    texts = [heading.text for heading in table.headings]
    cells = {name: [row[texts.index(name)] for row in table.rows] for name in ("ndcg@10", "novelty@10")}
    assert {len(cell.text.partition(".")[2]) for cell in cells["ndcg@10"]} == {4}
    assert [(cell.text, cell.spread) for cell in cells["novelty@10"]] == [("13.00", ".71"), ("9.25", "")]
    assert [cell.best for cell in cells["ndcg@10"]] == [True, False]
    assert not any(cell.best for cell in cells["novelty@10"])  # more of it is not better
    assert table.headings[texts.index("novelty@10")].extra


def test_the_only_row_is_not_called_the_best(folders):
    folders.add("a-1")
    (made,) = boards_of(read_folder(folders.path))
    assert not any(cell.best for row in leaderboard(made).rows for cell in row)
