"""results.csv and the table of a study, from records made by hand."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.study.records import measured, share_of_best, write_csv
from recbench.study.results import markdown, write_readme

FULL = "leave_one_out-full-mask-v1"


def record(row, seed, ndcg, protocol=FULL, **more):
    return {
        "row": row,
        "phase": "final",
        "seed": seed,
        "key": f"{row}-{seed}",
        "protocol": protocol,
        "ndcg@10": ndcg,
        **more,
    }


def study(rows, **more):
    given = {"columns": ("ndcg@10",), "references": (), "published": (), **more}
    return SimpleNamespace(rows={name: SimpleNamespace(search={}, overrides=(), tuned=False) for name in rows}, **given)


def cells(table, label):
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    (found,) = [line for line in lines if line[0] == label]
    return found


def store(runs, key, ranks):
    (runs / key).mkdir()
    pl.DataFrame(
        {"case": range(len(ranks)), "user": range(len(ranks)), "rank": [float(r) for r in ranks]}
    ).write_parquet(runs / key / "ranks.parquet")


def test_a_row_is_mean_and_deviation_over_its_seeds(tmp_path):
    records = [
        record("a", 1, 0.05),
        record("a", 2, 0.06),
        record("b", 1, 0.07),
        {**record("a", 1, 0.9), "phase": "search"},
    ]
    table = markdown(study("ab"), records, tmp_path)
    assert cells(table, "a") == ["a", ".0550 ± .0071", "2"]  # sd of .05 and .06: .01 / sqrt(2)
    assert cells(table, "b") == ["b", ".0700", "1"]


def test_costs_and_searched_values_stand_in_the_table_in_their_own_way(tmp_path):
    made = study("a", columns=("ndcg@10", "parameters_total", "train_seconds", "alone_latency_p50_ms"))
    made.rows["a"].search = {"training.lr": ("1e-3",)}
    given = record(
        "a",
        1,
        0.05,
        parameters_total=1_234_567,
        train_seconds=1234.5,
        alone_latency_p50_ms=1.234,
        **{"training.lr": "1e-3"},
    )
    assert cells(markdown(made, [given], tmp_path), "a") == ["a", ".0500", "1.2M", "1,234", "1.23", "1e-3", "1"]


def test_the_difference_to_the_reference_has_an_interval_where_seeds_are_the_same(tmp_path):
    for seed in (1, 2):
        store(tmp_path, f"a-{seed}", [1, 1, 1, 1])
        store(tmp_path, f"b-{seed}", [3, 3, 3, 3])
    store(tmp_path, "c-1", [1, 1, 1, 1])
    records = [record(row, seed, value) for row, value in (("a", 1.0), ("b", 0.5)) for seed in (1, 2)] + [
        record("c", 1, 1.0)
    ]
    table = markdown(study("abc", references=("b",)), records, tmp_path)
    assert cells(table, "row")[2] == "ndcg@10 against b"
    assert cells(table, "a")[2] == "+100.0 % [+100.0, +100.0]"
    assert cells(table, "b")[2] == ""
    assert cells(table, "c")[2] == "+100.0 %"  # one seed against two: no interval
    assert "paired bootstrap" in table


def test_two_protocols_never_share_a_table_nor_a_comparison(tmp_path):
    table = markdown(
        study("ab", references=("a",)), [record("a", 1, 0.1), record("b", 1, 0.2, protocol="temporal-x")], tmp_path
    )
    first, second = table.split("Protocol `temporal-x`")
    assert cells(first, "a")
    assert "| b |" not in first
    assert cells(second, "b") == ["b", ".2000", "1"]
    assert "against" not in second


def test_each_data_set_has_the_reference_that_stands_in_it(tmp_path):
    given = study("abcd", references=("a", "c"))
    records = [record(name, 1, 0.1 * (i + 1), data="one" if name in "ab" else "two") for i, name in enumerate("abcd")]
    first, second = markdown(given, records, tmp_path).split("Data `two`")
    assert "| ndcg@10 against a |" in first
    assert "+100.0 %" in first
    assert "| ndcg@10 against c |" in second
    assert "+33.3 %" in second
    assert "In brackets" not in first + second  # without ranks there is no interval


def test_two_data_sets_never_share_a_table(tmp_path):
    table = markdown(study("ab"), [record("a", 1, 0.1, data="one"), record("b", 1, 0.2, data="two")], tmp_path)
    first, second = table.split("Data `two`, protocol")
    assert "Data `one`, protocol `leave_one_out" in first
    assert cells(first, "a")
    assert "| b |" not in first
    assert cells(second, "b")


@pytest.mark.parametrize(("references", "home"), [(("b",), 1), ((), 0)])
def test_published_rows_stand_in_one_protocol_only(tmp_path, references, home):
    given = study("ab", references=references, published=({"label": "theirs", "ndcg@10": 0.3, "source": "a paper"},))
    records = [record("a", 1, 0.1), record("b", 1, 0.2, protocol="temporal-x")]
    parts = markdown(given, records, tmp_path).split("Protocol ")[1:]
    assert ["theirs" in part for part in parts] == [index == home for index in (0, 1)]


def test_a_published_row_stands_beside_the_row_that_it_names(tmp_path):
    published = ({"label": "theirs", "ndcg@10": 0.3, "source": "a paper", "beside": "b"},)
    records = [record("a", 1, 0.1, data="one"), record("b", 1, 0.2, data="two")]
    first, second = markdown(study("ab", references=("a",), published=published), records, tmp_path).split("Data `two`")
    assert "theirs" not in first
    assert "theirs" in second


def test_a_published_row_waits_for_the_row_that_it_names(tmp_path):
    """In the table of another data set it would be read as a figure on that."""
    published = ({"label": "theirs", "ndcg@10": 0.3, "source": "a paper", "beside": "b"},)
    assert "theirs" not in markdown(study("ab", published=published), [record("a", 1, 0.1, data="one")], tmp_path)


def test_published_rows_stand_below_with_their_source(tmp_path):
    made = study(
        "a", columns=("ndcg@10", "hr@10"), published=({"label": "SASRec", "hr@10": 0.0605, "source": "their table 2"},)
    )
    table = markdown(made, [record("a", 1, 0.1)], tmp_path)
    assert cells(table, "SASRec (their table 2)") == ["SASRec (their table 2)", "", ".0605", ""]


def test_rows_that_were_cut_off_are_named_below_their_table(tmp_path):
    records = [record("a", 1, 0.05, cut_off=False), record("b", 1, 0.04), record("b", 2, 0.04, cut_off=True)]
    before, _, after = markdown(study("ab"), records, tmp_path).partition("training.max_epochs")
    assert before
    assert after.endswith("trained to their end: b.")
    assert "max_epochs" not in markdown(study("ab"), records[:1], tmp_path)


def test_nothing_finished_is_said(tmp_path):
    assert "No final run" in markdown(study("a"), [], tmp_path)


def test_columns_of_all_records_stand_in_the_file(tmp_path):
    write_csv(
        tmp_path / "r.csv",
        [{"row": "a", "x": 1, "dependencies": "t=k", "commit": "c"}, {"row": "b", "y": 0.1, "commit": "d"}],
    )
    with (tmp_path / "r.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["row", "x", "y", "dependencies", "commit"]
    assert found[1] == {"row": "b", "x": "", "y": "0.1", "dependencies": "", "commit": "d"}


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path):
    path = tmp_path / "README.md"
    assert not write_readme(path, "table")
    path.write_text("no markers")
    assert not write_readme(path, "table")
    assert path.read_text() == "no markers"
    path.write_text("a\n<!-- results -->\nold\n<!-- /results -->\nb\n")
    assert write_readme(path, "new")
    assert write_readme(path, "newer")
    assert path.read_text() == "a\n<!-- results -->\nnewer\n<!-- /results -->\nb\n"
    path.write_text("a <!-- results --> b")
    with pytest.raises(UserError, match="only"):
        write_readme(path, "table")
    assert path.read_text() == "a <!-- results --> b"


@pytest.mark.parametrize(
    ("protocol", "column", "oracle", "expected"),
    [
        ("leave_one_out-full-mask-v1", "ndcg@10", {"test/ndcg@10": 0.6}, 0.5),
        ("leave_one_out-full-mask-v1", "hr@20", {"test/ndcg@10": 0.6}, None),
        ("leave_one_out-full-mask-v1", "ndcg@10", {}, None),
        ("temporal-q0.8-q0.9-last-full-mask-v1", "ndcg@10", {"test/ndcg@10": 0.6}, None),
    ],
)
def test_the_share_of_the_best_score_is_said_where_that_is_known(protocol, column, oracle, expected):
    metrics = {"protocol": protocol, "test/ndcg@10": 0.3, "test/hr@20": 0.4, "oracle": oracle}
    assert share_of_best(metrics, column) == expected


def test_recall_is_the_hit_rate_where_it_was_not_measured_for_itself():
    assert measured({"test/hr@20": 0.2}, "test/", "recall@20") == 0.2
    assert measured({"test/hr@20": 0.2, "test/recall@20": 0.1}, "test/", "recall@20") == 0.1
    assert measured({"test/hr@10": 0.2}, "test/", "recall@20") is None
