"""Leaderboards: what shares a table, what never does."""

from __future__ import annotations

import json
import statistics

import pytest

from recbench.core.errors import UserError
from recbench.report.board import PUBLISHED
from recbench.report.boards import boards_of
from recbench.report.collect import read_folder, read_run
from recbench.report.printed import with_published
from recbench.report.rows import Row
from recbench.report.verdicts import judged


def made(folders, **choices):
    return boards_of(read_folder(folders.path), **choices)


def test_protocols_data_and_splits_never_share_a_board(folders):
    folders.add("a-1")
    folders.add("b-1", protocol="leave_one_out-full-keep-v1", split="6" * 32)
    folders.add("c-1", data="e" * 32)
    folders.add("d-1", split="7" * 32)
    boards = made(folders)
    assert [[run.key for line in board.measured for run in line.row.runs] for board in boards] == [
        ["a-1"],
        ["b-1"],
        ["c-1"],
        ["d-1"],
    ]
    assert len({board.title for board in boards}) == 4


def test_weights_asked_under_another_protocol_stand_on_a_board_of_it(folders):
    path = folders.add("a-1")
    other = {"test/sampled999_ndcg@10": 0.7, "sampled_protocol": "leave_one_out-uniform999.s0-mask-v1"}
    (path / "metrics-sampled999.json").write_text(json.dumps(other))
    full, sampled = made(folders)
    assert sampled.place.protocol == "leave_one_out-uniform999.s0-mask-v1"
    assert (sampled.metric, sampled.main) == ("sampled999_ndcg@10", False)
    assert not any(name.startswith("sampled") for line in full.lines for name in line.figures)
    assert not any(name.startswith("ndcg") for line in sampled.lines for name in line.figures)
    assert "No intervals" in judged(sampled, 200).notes[0]


def test_a_line_is_mean_and_deviation_over_seeds_best_first(folders):
    values = {
        seed: read_run(folders.add(f"good-{seed}", 0.5, seed, config={"model": {"name": "good"}})).metrics["test/hr@10"]
        for seed in (1, 2)
    }
    folders.add("poor-1", 0.1, config={"model": {"name": "poor"}})
    (board,) = made(folders, metric="hr@10")
    assert [line.name for line in board.lines] == ["good", "poor"]
    assert board.lines[0].figures["hr@10"] == pytest.approx(
        (statistics.fmean(values.values()), statistics.stdev(values.values()))
    )
    assert board.lines[1].figures["hr@10"][1] is None


def test_where_less_is_better_a_row_without_the_figure_is_still_the_last(folders):
    for name, more in (("worse", {"test/logloss": 0.6}), ("silent", {}), ("better", {"test/logloss": 0.3})):
        folders.add(f"{name}-1", config={"model": {"name": name}}, **more)
    (board,) = made(folders, metric="logloss")
    assert [line.name for line in board.lines] == ["better", "worse", "silent"]


def test_a_board_names_the_rows_that_were_cut_off(folders):
    for name, best in (("late", 3), ("early", 0)):
        training = {"max_epochs": 4, "patience": 2, "schedule": "constant"}
        config = {"model": {"name": name}, "training": training}
        folders.add(f"{name}-1", config=config, **{"cost/epochs": 4, "cost/best_epoch": best})
    (board,) = made(folders)
    assert [note.partition(": ")[2] for note in board.notes] == ["late."]


def test_metric_and_reference_that_are_not_there_are_one_line(folders):
    folders.add("a-1")
    with pytest.raises(UserError, match="no run has the metric 'hr@9'; did you mean 'hr@"):
        made(folders, metric="hr@9")
    with pytest.raises(UserError, match="there is no row 'b'; known: sasrec"):
        made(folders, reference="b")


def test_of_several_references_each_board_takes_its_own(folders):
    for name, protocol in (("a", "leave_one_out-full-v1"), ("b", "temporal-x")):
        folders.add(f"{name}-1", config={"model": {"name": name}}, protocol=protocol)
    assert [board.reference for board in made(folders, reference=("b", "a"))] == ["a", "b"]
    with pytest.raises(UserError, match="there is no row 'c'"):
        made(folders, reference=("a", "c"))


def test_a_judged_board_has_intervals_groups_and_differences(folders):
    for seed in (1, 2):
        folders.add(f"good-{seed}", 0.9, seed, config={"model": {"name": "good"}})
        folders.add(f"poor-{seed}", 0.0, seed, config={"model": {"name": "poor"}})
    (board,) = made(folders, reference="poor")
    good, poor = judged(board, 500).lines
    assert good.verdict.low < good.mean("ndcg@10") < good.verdict.high
    assert good.verdict.mean == pytest.approx(good.mean("ndcg@10"))
    assert set(good.verdict.group).isdisjoint(poor.verdict.group)
    assert good.verdict.relative > 0
    assert poor.verdict.relative is None


def test_a_row_without_ranks_keeps_its_figures_and_the_others_their_intervals(folders):
    folders.add("a-1", config={"model": {"name": "a"}})
    folders.add("b-1", config={"model": {"name": "b"}}, ranks=False)
    (folders.add("c-1", config={"model": {"name": "c"}}) / "ranks.parquet").write_bytes(b"PAR1")
    (board,) = [judged(board, 200) for board in made(folders)]
    by_name = {line.name: line for line in board.lines}
    assert by_name["a"].verdict
    assert not by_name["b"].verdict
    assert set(board.notes) == {
        "No interval for b: ranks.parquet is missing in b-1.",
        "No interval for c: ranks.parquet cannot be read in c-1.",
    }


def test_two_rows_on_one_run_share_its_verdict(folders):
    a, b = (read_run(folders.add(f"{name}-1", config={"model": {"name": name}})) for name in "ab")
    rows = [Row("one", (a,)), Row("two", (a,)), Row("three", (b,)), Row("four", (a, b))]
    (board,) = [judged(board, 200) for board in made(folders, rows=rows, reference="two")]
    found = {line.name: line.verdict for line in board.lines}
    assert found["one"] is found["two"]
    assert found["three"].relative is not None
    assert found["four"] is None


def test_other_users_are_refused_with_a_note(folders):
    folders.add("a-1", config={"model": {"name": "a"}})
    folders.add("b-1", config={"model": {"name": "b"}}, n_users=150)
    (board,) = [judged(board, 200) for board in made(folders)]
    assert not any(line.verdict for line in board.lines)
    assert board.notes[0].startswith("No intervals: ")


def test_published_figures_go_to_the_board_of_their_protocol(folders):
    path = folders.add("a-1")
    (path / "metrics-keep.json").write_text(
        json.dumps({"test/keep_ndcg@10": 0.2, "keep_protocol": "leave_one_out-full-keep-v1"})
    )
    folders.add("b-1", data="e" * 32)
    rows = [Row("a", (read_run(path),)), Row("b", (read_run(folders.path / "b-1"),))]
    printed = [
        {"label": "P", "source": "paper", "ndcg@10": 0.3, "keep_ndcg@10": 0.4},
        {"label": "Q", "source": "paper", "ndcg@10": 0.5, "beside": "b"},
        {"label": "R", "source": "paper", "ndcg@10": 0.6, "beside": "a row that is not measured yet"},
    ]
    boards = with_published(made(folders, rows=rows), printed, "a")
    shown = {
        (board.place.data, board.place.fingerprint[0], board.prefix): [
            (line.name, dict(line.figures)) for line in board.lines if line.kind == PUBLISHED
        ]
        for board in boards
    }
    assert shown == {
        ("synthetic", "f", ""): [("P", {"ndcg@10": (0.3, None)})],
        ("synthetic", "f", "keep_"): [("P", {"keep_ndcg@10": (0.4, None)})],
        ("synthetic", "e", ""): [("Q", {"ndcg@10": (0.5, None)})],
    }


def test_runs_that_rank_nothing_have_a_board_of_their_own_figures(folders):
    path = folders.add("codes-1")
    metrics = {"tokenizer/items": 10, "tokenizer/distinct": 0.9, "protocol": "leave_one_out-full-mask-v1", "audit": {}}
    (path / "metrics.json").write_text(json.dumps(metrics))
    (board,) = made(folders)
    assert board.metric is None
    assert board.lines[0].figures["tokenizer/distinct"] == (0.9, None)
