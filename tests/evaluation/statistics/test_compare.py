"""Stored runs judged: what is put together, what is refused, and the command."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from recbench.cli import compare
from recbench.core.errors import UserError
from recbench.evaluation.statistics.compare import Entrant, judge
from recbench.experiment.run import run
from recbench.report.entrants import entrants_of, find_reference


def store(folder, rank, users=None, protocol="p", data="d", split="s", state="finished"):
    folder.mkdir()
    users = np.arange(len(rank)) if users is None else users
    pl.DataFrame({"case": np.arange(len(rank)), "user": users, "rank": np.array(rank, float)}).write_parquet(
        folder / "ranks.parquet"
    )
    (folder / "metrics.json").write_text(json.dumps({"protocol": protocol}))
    (folder / "provenance.json").write_text(json.dumps({"data_fingerprint": data, "split_hash": split}))
    (folder / "status.json").write_text(json.dumps({"state": state}))
    return folder


def entrants(*folders):
    return [Entrant(folder.name, (folder,)) for folder in folders]


def test_verdicts_come_best_first_with_all_they_say(tmp_path):
    good = [store(tmp_path / f"good{i}", [1] * 30 + [3] * 10) for i in range(2)]
    bad = store(tmp_path / "bad", [3] * 40)
    better, worse = judge([Entrant("bad", (bad,)), Entrant("good", tuple(good))], "ndcg@10", "bad")
    assert (better.name, better.n_seeds, better.n_users, better.seed_deviation) == ("good", 2, 40, 0)
    assert better.mean == pytest.approx(0.875)
    assert better.relative == pytest.approx(0.75)
    assert better.relative_low < 0.75 < better.relative_high
    assert better.p == better.p_holm == better.p_fdr < 1e-6
    assert (better.group, worse.group) == ("a", "b")
    assert (worse.relative, worse.p, worse.p_holm, worse.seed_deviation) == (None, None, None, None)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"protocol": "q"}, "protocol p, b on q: the two never share a table"),
        ({"data": "e"}, "data d, b on e"),
        ({"split": "z"}, "split s, b on z"),
        ({"users": [7, 8, 9]}, "ranks other users"),
        ({"users": [0, 0, 1]}, "ranks other users"),
        ({"state": "running"}, "no finished run .*'running'"),
    ],
)
def test_what_was_asked_otherwise_is_refused(tmp_path, other, message):
    a, b = store(tmp_path / "a", [1, 2, 3]), store(tmp_path / "b", [1, 2, 3], **other)
    with pytest.raises(UserError, match=message):
        judge(entrants(a, b), "ndcg@10")


def test_mistakes_are_told(tmp_path):
    a, b = store(tmp_path / "a", [1, 2, 3]), store(tmp_path / "b", [1, 2, 3])
    both = entrants(a, b)
    for given, metric, reference, message in (
        (both, "coverage@10", None, "user by user"),
        (both, "ndcg@10", "c", "unknown reference 'c'"),
        ([], "ndcg@10", None, "nothing to compare"),
        ([Entrant("x", ())], "ndcg@10", None, "'x' has no run"),
        ([both[0], both[0]], "ndcg@10", None, "one name"),
        ([both[0], Entrant("again", (a,))], "ndcg@10", None, "given twice"),
    ):
        with pytest.raises(UserError, match=message):
            judge(given, metric, reference)
    (b / "ranks.parquet").unlink()
    with pytest.raises(UserError, match="ranks nothing"):
        judge(both, "ndcg@10")
    with pytest.raises(UserError, match="one test user"):
        judge(entrants(store(tmp_path / "one", [1])), "ndcg@10")


@pytest.fixture(scope="module")
def trained(run_config, tmp_path_factory):
    """sasrec with two seeds and two widths, and popularity, in one runs_dir."""
    runs_dir = tmp_path_factory.mktemp("runs")
    small = ["model=sasrec", "training.max_epochs=1", "model.n_layers=1"]
    words = [
        *([*small, f"model.hidden_size={width}", f"seed={seed}"] for width, seed in ((16, 1), (16, 2), (8, 1))),
        ["model=popularity"],
    ]
    return [run(run_config(runs_dir, *given)).folder.path for given in words]


def test_runs_of_one_configuration_are_one_entrant(trained):
    found = entrants_of(trained)
    assert [len(entrant.runs) for entrant in found] == [2, 1, 1]
    assert len({entrant.name for entrant in found}) == 3
    # Of two, the first is as usual and the other is named by what it has of its own.
    assert [entrant.name for entrant in found] == ["sasrec", "sasrec hidden_size=8", "popularity"]
    assert find_reference(trained[1].name, found) == found[0].name
    assert find_reference("popularity", found) == "popularity"
    with pytest.raises(UserError, match="unknown reference 'sasrek'"):
        find_reference("sasrek", found)


def test_a_model_and_the_same_with_other_titles_are_two_entrants_where_it_reads_titles(run_config, tmp_path):
    def names(*model):
        shuffled = "data.text.shuffle=1"
        runs = [run(run_config(tmp_path, *model, *words)).folder.path for words in (["seed=1"], ["seed=2", shuffled])]
        return [entrant.name for entrant in entrants_of(runs)]

    assert names("model=text_table", "training.max_epochs=1") == ["text_table", "text_table data.text.shuffle=1"]
    assert names("model=sasrec", "training.max_epochs=1") == ["sasrec"]  # two seeds of one


def test_a_field_that_came_later_makes_no_second_entrant(trained, tmp_path):
    import shutil

    import yaml

    older = tmp_path / "older"
    shutil.copytree(trained[0], older)
    config = yaml.safe_load((older / "config.yaml").read_text())
    for name in ("l2", "step_epochs"):
        del config["training"][name]
    config["seed"] = 3
    (older / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(entrants_of([trained[0], older])) == 1
    config["seed"] = 1
    (older / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="same configuration and seed"):
        entrants_of([trained[0], older])


def test_the_command_prints_the_verdicts(trained, capsys):
    status = compare.main([*map(str, trained), "--reference", "popularity", "--metric", "hr@5", "--resamples", "200"])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "test hr@5, protocol leave_one_out-full-mask-v1, 160 users" in said.out
    assert "against popularity" in said.out
    assert "2 of 3 have one seed only" in said.out
    metrics = json.loads((trained[3] / "metrics.json").read_text())
    assert f"{metrics['test/hr@5']:.4f}" in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere holds no finished run"),
        ([], "required: RUN_FOLDER"),
        (["nowhere", "--seed", "-1"], "--seed must not be negative"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(words, message, capsys):
    assert compare.main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
