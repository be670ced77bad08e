"""``recbench.run_study``: a study's missing runs are made and its rows returned."""

from __future__ import annotations

import pytest

import recbench


@pytest.fixture
def floors(study, tiny):
    """A study of models that are computed."""
    content = {"base": list(tiny), "seeds": [1], "columns": ["ndcg@10"]}
    return study.write(**content, rows={"floor": ["model=popularity"], "chain": ["model=markov"]})


def test_a_study_is_run_and_read(floors):
    found = recbench.run_study("mini", jobs=1)
    assert found.complete
    assert (found.name, found.folder) == ("mini", floors.path)
    frame = found.frame()
    assert frame["row"].to_list() == ["floor", "chain"]
    for key, value in frame.select("key", "ndcg@10").iter_rows():
        assert value == recbench.load(floors.runs / key).metrics["test/ndcg@10"]
    assert recbench.run_study(floors.path / "study.yaml", train=False).frame().equals(frame)


def test_a_failed_run_makes_it_incomplete(floors, monkeypatch):
    from recbench.models.counting.markov import Markov

    def broken(self, train):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Markov, "fit_to", broken)
    found = recbench.run_study("mini", jobs=1)
    assert not found.complete
    assert found.frame()["row"].to_list() == ["floor"]


@pytest.mark.parametrize(
    ("name", "words", "jobs"), [("minni", [], 1), ("mini", ["seed=3"], 1), ("mini", ["nonsense"], 1), ("mini", [], 0)]
)
def test_a_mistake_is_a_user_error(floors, name, words, jobs):
    with pytest.raises(recbench.UserError):
        recbench.run_study(name, words, jobs=jobs)
