"""What stands below tables: marks of tuned values, rows that are not tuned alike, rows that learned nothing."""

from __future__ import annotations

import pytest
import yaml

from recbench.cli.compare import run_compare
from recbench.report.build import folder_material, markdown_report, page_of
from recbench.report.notes import Entry, doubts, tuned_notes


def tuned(path, name="sasrec-synthetic", **values):
    """A stored run as one of a tuned file."""
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["tuned"] = {"name": name, "automatic": name, "values": values or {"training.lr": config["training"]["lr"]}}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture
def runs(folders):
    epochs = {"cost/epochs": 4}
    made = [
        tuned(folders.add("sasrec-1", skill=0.6, **epochs)),
        folders.add("gru4rec-1", skill=0.5, config={"model": {"name": "gru4rec"}}, **epochs),
        folders.add("popularity-1", skill=0.3, config={"model": {"name": "popularity"}}),
        folders.add(
            "bad-1", skill=0.1, config={"model": {"name": "bad"}}, doubts={"loss": 9.0, "uniform_loss": 4.6}, **epochs
        ),
    ]
    return folders, made


def test_a_report_marks_rows_and_says_what_is_wrong_with_them(runs):
    folders, _ = runs
    text = markdown_report(page_of(folder_material(folders.path, {}, None, None, None), resamples=100))
    assert "| sasrec \\* |" in text
    assert "| gru4rec |" in text
    assert "tuned/sasrec-synthetic: sasrec" in text
    assert "warning: the rows are not tuned alike: bad, gru4rec have no values from a tuned file" in text
    assert "warning: bad is below popularity" in text.replace("\\_", "_")
    assert "bad: its training loss ended at 9, above 4.6" in text


def test_so_does_compare(runs, capsys, monkeypatch):
    _, made = runs
    monkeypatch.setattr(
        "recbench.report.entrants._configuration",
        lambda path: ({"model.name": path.name.split("-")[0]}, 1),
    )
    assert run_compare([*map(str, made), "--resamples", "100"]) == 0
    out = capsys.readouterr().out
    assert "sasrec *" in out
    assert "gru4rec *" not in out
    assert "warning: the rows are not tuned alike: gru4rec, bad have" in out
    assert "warning: bad is below popularity" in out


def test_a_file_whose_values_were_all_overruled_is_no_mark():
    entry = Entry(
        "a",
        {"model": {"name": "a"}, "training": {"lr": 0.1}, "tuned": {"name": "x", "values": {"training.lr": 0.2}}},
        {},
    )
    assert entry.marked == "a"
    assert tuned_notes([entry], warn=True) == []


def test_nobody_is_below_popularity_where_it_is_not_known_or_equal():
    floor = Entry("popularity", {"model": {"name": "popularity"}}, {"test/ndcg@10": 0.2})
    same = Entry("a", {"model": {"name": "a"}}, {"test/ndcg@10": 0.2})
    worse = Entry("b", {"model": {"name": "b"}}, {"test/ndcg@10": 0.1})
    other = Entry("c", {"model": {"name": "c"}}, {"test/sampled999_ndcg@10": 0.1})
    assert doubts([worse]) == []
    assert doubts([floor, same, other]) == []
    (line,) = doubts([floor, same, worse])
    assert line.startswith("warning: b is below popularity: ndcg@10 0.1000 against 0.2000")
