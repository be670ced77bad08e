"""Runs that differ in ``training.resample_day`` alone: compared on one table, and their lists with each other."""

from __future__ import annotations

import pytest

from recbench.cli.compare import day_lines, run_compare
from recbench.cli.recommend.model_of_run import open_model
from recbench.core.errors import UserError
from recbench.evaluation.lists.stability import overlap, read_lists
from recbench.experiment.run import run
from recbench.report.entrants import day_pairs, entrants_of
from recbench.study.overlaps import Overlaps


def test_how_much_of_a_list_stays(run_config, tmp_path, capsys):
    words = ("model=markov", "evaluation.metrics=[stability]")
    base, one, two = (
        run(run_config(tmp_path, *words, *more))
        for more in ((), ("training.resample_day=1",), ("training.resample_day=2",))
    )
    folders = [found.folder.path for found in (base, one, two)]
    assert len({path.name for path in folders}) == 3
    assert next(entrant.name for entrant in entrants_of(folders[:2])) == "markov"
    assert {entrant.name for entrant in entrants_of(folders[:0:-1])} == {
        "markov training.resample_day=1",
        "markov training.resample_day=2",
    }
    assert len({entrant.name for entrant in entrants_of(folders[1::-1])}) == 2  # the other order
    assert [len(runs) for runs in day_pairs(folders)["markov"]] == [3]
    assert day_pairs(folders[:1]) == {}
    (line,) = day_lines(folders[:2], 10)
    (_, ours), (_, theirs) = (read_lists(path / "lists.parquet") for path in folders[:2])
    expected = overlap(ours, theirs, 10).mean()
    assert 0.5 < expected < 1
    assert (
        line
        == f"day_stability@10 of markov: {expected:.4f} of a list stays when the last day of training is drawn anew (1 of a seed)"
    )
    # As a column of a study, where the runs stand in different rows.
    assert Overlaps(folders[:2]).of("day_stability@10", folders[:1]) == expected
    assert Overlaps(folders[:1]).of("day_stability@10", folders[:1]) is None
    assert run_compare([str(path) for path in folders]) == 0
    assert "day_stability@10 of markov" in capsys.readouterr().out
    assert open_model(folders[1]).key == folders[1].name


def test_what_it_cannot_be_asked_with(run_config, tmp_path):
    for words, message in (
        (("training.resample_day=-1",), "is a seed"),
        (("training.resample_day=1", "attack=random"), "attack=random does not"),
    ):
        with pytest.raises(UserError, match=message):
            run_config(tmp_path, "model=markov", *words)
