"""The headline: one sentence that is true of the figures, and the bars beside it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from recbench.report.boards import boards_of
from recbench.report.collect import read_folder
from recbench.report.headline import NO_FLOOR, bars_of, headings, sentences, shared_words
from recbench.report.verdicts import judged


@pytest.fixture(scope="module")
def boards(make_folders, tmp_path_factory):
    """Three models of two seeds, one of them popularity; and the same protocol with seen items kept, with one model."""
    folders = make_folders(tmp_path_factory.mktemp("headline") / "runs")
    for name, skill in (("good", 0.9), ("equal", 0.9), ("popularity", 0.0)):
        for seed in (1, 2):
            folders.add(f"{name}-{seed}", skill, seed, config={"model": {"name": name}})
    folders.add("kept-1", protocol="leave_one_out-full-keep-v1", split="6" * 32, config={"model": {"name": "only"}})
    return [judged(board, 500) for board in boards_of(read_folder(folders.path))]


def test_the_headline_says_who_is_best_by_how_much_and_against_what(boards):
    board = boards[0]
    first, second = sentences(board)
    best, floor = board.measured[0], next(line for line in board.measured if line.name == "popularity")
    interval = r"([\d.]+) times \(95 % interval ([\d.]+) to ([\d.]+) times\)"
    pattern = rf"(good|equal) is best: its ndcg@10 is (\.\d+), {interval} the floor popularity \((\.\d+)\)\."
    found = re.fullmatch(pattern, first)
    assert found, first
    assert found[1] == best.name
    assert float(found[2]) == pytest.approx(best.mean("ndcg@10"), abs=5e-5)
    assert float(found[6]) == pytest.approx(floor.mean("ndcg@10"), abs=5e-5)
    times, low, high = (float(found[i]) for i in (3, 4, 5))
    assert times == pytest.approx(best.mean("ndcg@10") / floor.mean("ndcg@10"), abs=0.05)
    assert low < times < high
    assert second.startswith("The data do not tell it apart from ")


def test_a_lead_below_twice_is_told_in_percent_and_without_ranks_without_interval(boards):
    board = boards[0]
    lead = replace(board.lead, relative=0.062, low=None, high=None)
    assert ", 6.2 % above the floor popularity (" in sentences(replace(board, lead=lead))[0]


def test_one_row_has_no_rival_and_no_floor(boards):
    said = sentences(boards[1])
    assert said[0].startswith("There is one row: the ndcg@10 of only is .")
    assert said[1] == NO_FLOOR


def test_a_floor_that_nothing_beats_is_said(folders):
    folders.add("popularity-1", 0.9, config={"model": {"name": "popularity"}})
    folders.add("a-1", 0.0, config={"model": {"name": "a"}})
    (board,) = [judged(board, 200) for board in boards_of(read_folder(folders.path))]
    assert sentences(board)[0].startswith("No row beats the floor: popularity is best")


def test_bars_are_in_scale_and_the_floor_is_among_them(folders):
    for i in range(15):
        folders.add(f"m{i}-1", 0.05 * i + 0.1, config={"model": {"name": f"m{i}"}})
    folders.add("popularity-1", 0.0, config={"model": {"name": "popularity"}}, oracle={"test/ndcg@10": 0.9})
    (board,) = [judged(board, 200) for board in boards_of(read_folder(folders.path))]
    found = bars_of(board)
    assert len(found.bars) == 12
    assert found.left_out == 4
    assert [bar.kind for bar in found.bars].count("best") == 1
    assert found.bars[-1].kind == "floor"
    assert found.bars[-1].share == pytest.approx(found.floor)
    top = max(line.verdict.high for line in board.measured)
    for bar in found.bars:
        line = next(line for line in board.measured if line.name == bar.name)
        assert bar.share == pytest.approx(line.mean("ndcg@10") / top)
        assert 0 <= bar.low <= bar.share <= bar.high <= 1


def test_headings_say_what_differs_and_the_page_once_what_is_shared(boards):
    assert headings(boards) == ["Leave-one-out, seen items left out", "Leave-one-out, seen items ranked too"]
    assert shared_words(boards) == ("synthetic", "leave-one-out", "all items ranked")
    assert headings(boards[:1]) == ["synthetic: leave-one-out, all items ranked, seen items left out"]
    assert shared_words(boards[:1]) == ()
