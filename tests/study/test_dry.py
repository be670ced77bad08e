"""A dry run of a study downloads nothing, says which rows lack their data, and estimates hours when asked."""

from __future__ import annotations

import csv
import re
import urllib.request

import pytest

from tests.fixtures.study import SIZES


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*parts, **names):
        raise AssertionError("somebody asked the network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def write(study, tiny):
    """Writes a study of rows on the tiny data: ``net`` is a small SASRec."""
    net = [*tiny, *SIZES, "training.max_epochs=2"]

    def make(rows, **content):
        every = {
            name: [*(net if words is NET else tiny), *words] if isinstance(words, list) else words
            for name, words in rows.items()
        }
        return study.write(base=["hardware=cpu", "tracking=off"], columns=["ndcg@10"], rows=every, **content)

    return make


FLOOR, NET = ["model=popularity"], []


def test_rows_without_data_are_said_with_address_and_size_and_nothing_is_fetched(write, no_network):
    away = {"overrides": ["model=popularity", "data=movielens", "data.version=100k"]}
    shop = {"overrides": ["model=popularity", "data=retailrocket", "protocol=sessions"]}
    study = write({"floor": FLOOR, "net": NET, "away": away, "shop": shop}, seeds=[1, 2])
    status, out, err, started = study.run("--dry")
    assert status == 0, err
    assert started == []
    (away,) = [line for line in out.splitlines() if line.startswith("no data  away: ")]
    assert "https://files.grouplens.org/datasets/movielens/ml-100k.zip (about 4.9 MB)" in away
    (shop,) = [line for line in out.splitlines() if line.startswith("no data  shop: ")]
    assert "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset (about 94 MB)" in shop
    assert "missing  final  net seed 2" in out
    assert "0 of 4 known runs finished" in out
    assert not list(study.runs.glob("*/metrics.json"))


def test_hours_are_those_of_timed_steps(write, tiny, no_network):
    net = [*tiny, *SIZES, "training.max_epochs=2"]
    found = {"overrides": net, "search": {"training.lr": [1e-3, 1e-2]}}
    study = write({"floor": FLOOR, "net": NET, "found": found}, seeds=[1, 2, 3])
    status, out, err, _ = study.run("--dry", "--hours", "training.max_epochs=50")
    assert status == 0, err
    lines = {line.split(":")[0].split()[-1]: line for line in out.splitlines() if line.startswith("hours ")}
    assert list(lines) == ["floor", "net", "found", "total"]
    assert "1 run" in lines["floor"]
    assert "computed, not trained" in lines["floor"]
    steps, ms = re.search(r"50 epochs of ([\d,]+) steps of ([\d.,]+) ms", lines["net"]).groups()
    hours = float(re.search(r"3 runs, at most ([\d.]+) h", lines["net"])[1])
    assert hours >= 0.9 * 3 * 50 * int(steps) * float(ms.replace(",", "")) / 1000 / 3600
    assert "4 runs with those that its search still asks for" in lines["found"]
    total = float(re.search(r"at most ([\d.]+) h", lines["total"])[1])
    assert total > hours
    assert not list(study.runs.glob("*/metrics.json"))


def test_a_row_that_takes_what_another_will_choose_is_counted_and_waits(write, tiny, no_network):
    found = {"overrides": [*tiny, *SIZES, "training.max_epochs=2"], "search": {"training.lr": [1e-3, 1e-2]}}
    heir = {"overrides": [*tiny, *SIZES, "training.max_epochs=2", "training.lr=<found:training.lr>"], "search": {}}
    study = write({"found": found, "heir": heir}, seeds=[1, 2])
    status, out, err, _ = study.run("--dry", "--hours")
    assert status == 0, err
    assert "waits    heir: for the values that found will choose" in out
    assert re.search(r"hours +heir: 2 runs once found has chosen, at most [\d.e-]+ h \(2 epochs", out)


def test_hours_go_with_dry(write):
    study = write({"floor": FLOOR})
    status, _, err, _ = study.run("--hours")
    assert status == 2
    assert "--hours goes with --dry" in err


def test_a_study_marks_rows_with_values_from_files_and_warns_of_those_without(write, tiny):
    bare = {"overrides": [*tiny, *SIZES, "training.max_epochs=1", "tuned=off"]}
    study = write({"floor": FLOOR, "net": NET, "bare": bare}, seeds=[1])
    status, out, err, _ = study.run()
    assert status == 0, err
    assert "values from tuned/sasrec-synthetic for the rows net" in err
    assert err.count("warning: the rows are not tuned alike: bare has no values from a tuned file") == 1
    assert "| net \\* | " in out
    assert "| bare | " in out
    assert "\\* values from a tuned file (tuned=off: none): tuned/sasrec-synthetic: net" in out
    with (study.path / "results.csv").open(newline="") as file:
        told = {line["row"]: line["values_from"] for line in csv.DictReader(file)}
    assert told == {"floor": "", "net": "tuned/sasrec-synthetic", "bare": ""}


def test_a_folder_of_raw_files_is_not_asked_of_rows_on_generated_data(write, tmp_path):
    made = {"overrides": ["model=popularity", "data=synthetic", "data.n_users=50"]}
    shop = {"overrides": ["model=popularity", "data=amazon", "data.category=Beauty"]}
    study = write({"made": made, "shop": shop})
    status, out, err, _ = study.run("--dry", f"data.raw_dir={tmp_path}")
    assert status == 0, err
    assert "missing  final  made seed 1" in out
    assert f"in {tmp_path}" in next(line for line in out.splitlines() if line.startswith("no data  shop: "))


def test_the_table_of_finished_rows_is_written_though_the_data_of_another_row_are_not_here(write, no_network):
    study = write({"floor": FLOOR, "shop": {"overrides": ["model=popularity", "data=amazon", "data.category=Beauty"]}})
    for words in (["--rows", "floor"], ["--table"]):
        status, out, err, _ = study.run(*words)
        assert status == 0, err
        assert "| floor | " in out
        assert "the data of these rows are not here, so nothing is known of their runs: shop" in err
    assert [line["row"] for line in csv.DictReader((study.path / "results.csv").open())] == ["floor"]
