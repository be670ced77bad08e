"""A finished run asked anew: the same figures for the same question, other data by their raw ids, and mistakes in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from recbench.cli.compare import run_compare
from recbench.cli.evaluate.ask import ask, asked_stage
from recbench.cli.evaluate.asked import asked_config
from recbench.cli.evaluate.command import main
from recbench.cli.recommend.answer import scores_of
from recbench.cli.recommend.histories import typed_history
from recbench.cli.recommend.model_of_run import open_model
from recbench.data.protocol import TemporalConfig
from recbench.data.split import make_split
from recbench.evaluation.ranking import Seen, rank_targets


@pytest.fixture(scope="module")
def opened(finished):
    return open_model(finished.folder.path)


def asked(folder, *words, capsys):
    """The answer as JSON."""
    status = main([str(folder), *words, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_same_question_has_the_figures_of_the_run_and_leaves_it_as_it_is(finished, capsys):
    before = files_of(finished.folder.path)
    found = asked(finished.folder.path, "evaluation.cutoffs=[5,10]", capsys=capsys)
    own = finished.metrics
    same = [name for name in own if name.startswith("test/") and name.endswith(("@5", "@10"))]
    assert len(same) >= 8
    assert {name: found[name] for name in same} == {name: own[name] for name in same}
    assert "test/ndcg@20" not in found
    assert (found["test/trained_targets"], found["protocol"]) == (0, own["protocol"])
    assert files_of(finished.folder.path) == before
    assert found["folder"].startswith(str(finished.folder.path.parent / "evaluations" / finished.folder.key))
    again = main([str(finished.folder.path), "evaluation.cutoffs=[5,10]"])
    assert again == 0
    assert "(there already)" in capsys.readouterr().out


def test_another_protocol_says_how_much_of_it_the_run_was_trained_on(finished, opened, capsys):
    found = asked(finished.folder.path, "protocol=temporal", "protocol.test_quantile=0.85", capsys=capsys)
    assert found["protocol"].startswith("temporal-q0.8-q0.85-last")
    split, data = opened.stage.split, opened.stage.data
    test = make_split(data, TemporalConfig(test_quantile=0.85), None).test
    trained = (test.target_positions < split.train_end[test.user]).mean()
    assert found["test/trained_targets"] == pytest.approx(trained)
    assert main([str(finished.folder.path), "protocol=temporal", "protocol.test_quantile=0.85"]) == 0
    out = capsys.readouterr().out
    assert ("not a fair test" in out) == (trained > 0)
    assert all(word in out for word in ("ndcg", "@10", "temporal-q0.8-q0.85-last"))


def test_other_data_are_ranked_by_the_runs_own_item_numbers(finished, opened, items, others, capsys):
    path = others(items[::-1], 12)
    words = ["data=table", f"data.path={path}", "data.k_core=0"]
    found = asked(finished.folder.path, *words, capsys=capsys)
    assert (found["catalogue/items_shared"], found["catalogue/items_unknown"]) == (len(items), 0)
    assert (found["test/cases"], found["test/trained_targets"]) == (30, 0)
    # Ranked again, from the file, by raw ids.
    stage, _ = asked_stage(opened, asked_config(opened.config, words), False)
    users, number = stage.data.user_ids()["user_id"].to_list(), {name: place for place, name in enumerate(items, 1)}
    rows = pl.read_csv(path)
    ranks = pl.read_parquet(f"{found['folder']}/ranks.parquet")
    for user, target, rank in ranks.select("user", "target", "rank").iter_rows():
        *before, last = rows.filter(pl.col("user") == users[user])["item"].to_list()
        history = typed_history(opened.stage.data, before)
        seen = Seen.of_histories(history.items, np.array([0]), np.array([len(before)]))
        expected, _ = rank_targets(scores_of(opened, [history]), torch.tensor([0]), torch.tensor([number[last]]), seen)
        assert (target, rank) == (number[last], expected.item())
    assert ranks["rank"].n_unique() > 5


def test_other_catalogues_are_refused_with_counts_or_their_events_left_out(finished, items, others, capsys):
    path = others([*items[:-2], "new a", "new b", "new c"])
    words = ["data=table", f"data.path={path}", "data.k_core=0"]
    assert main([str(finished.folder.path), *words]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1].count("error: ")) == ("", 1)
    n = len(items)
    for part in (
        f"the item catalogues differ: {n} items of the run, {n + 1} of the data; {n - 2} are the same",
        "3 are of the data alone (such as 'new ",
        "2 are of the run alone (such as '",
        "--unknown skip leaves out 90 events",
    ):
        assert part in said.err
    found = asked(finished.folder.path, *words, "--unknown", "skip", capsys=capsys)
    assert found["catalogue/events_unknown"] == 90
    assert found["catalogue/items_without_event"] == 2
    assert main([str(finished.folder.path), *words, "--unknown", "skip"]) == 0
    assert "left out: 90 events of 3 items that the run does not know; 2 items of the run" in capsys.readouterr().out
    strangers = ["data=table", f"data.path={others(['x', 'y', 'z', 'w'])}", "data.k_core=0", "--unknown", "skip"]
    assert main([str(finished.folder.path), *strangers]) == 2
    assert "may not hold the same ids" in capsys.readouterr().err


def test_sessions_are_a_protocol_like_any_other(finished, items, others, capsys):
    words = ["data=table", f"data.path={others(items)}", "data.k_core=0", "data.session_gap=1800", "protocol=sessions"]
    found = asked(finished.folder.path, *words, "protocol.test_days=0", "--unknown", "skip", capsys=capsys)
    assert found["protocol"].startswith("sessions-q0.9")
    assert found["test/cases"] > 0


def test_answers_of_several_runs_are_compared_like_runs(finished, opened, run_config, capsys):
    from recbench.experiment.run import run

    markov = run(run_config(finished.folder.path.parent, "model=markov", "training.max_length=20"))
    words = ["protocol=sampled_999", "protocol.n_candidates=20"]
    first = ask(opened, finished.folder.path.parent, words)
    second = ask(open_model(markov.folder.path), finished.folder.path.parent, words)
    assert "test/sampled20_ndcg@10" in second.metrics
    assert run_compare([str(first.folder.path), str(second.folder.path)]) == 0
    assert "markov" in capsys.readouterr().out


def test_an_evaluation_is_no_run_of_the_folder(finished, opened, capsys):
    from recbench.cli.stored.inventory import Inventory

    ask(opened, finished.folder.path.parent, ["evaluation.cutoffs=[3]"])
    assert "evaluations" not in Inventory.of(finished.folder.path.parent).runs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["model.hidden_size=8"],
            "'model.hidden_size=8' would change a finished run; data, protocol, evaluation and hardware",
        ),
        (["seed=2"], "would change a finished run"),
        (["protocol=temporl"], "did you mean 'temporal'?"),
        (["protocol.seen_itms=mask"], "did you mean 'seen_items'?"),
        (["protocol.target=all"], "unknown key 'protocol.target' for protocol 'leave_one_out'"),
        (["evaluation.cutoffs=[0]"], "evaluation.cutoffs must be positive"),
        (["evaluation.metrics=[nothing]"], "nothing"),
        (["data=table"], "data.path is missing"),
        (["data=table", "data.path=absent.csv"], "absent.csv"),
        (["protocol="], "cannot read 'protocol='"),
        (["--unknown", "guess"], "see recbench evaluate --help"),
        (["another"], "name one run folder, not 2"),
    ],
)
def test_wrong_use_is_one_line(finished, words, message, capsys):
    assert main([str(finished.folder.path), *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_what_is_no_finished_run_is_refused(finished, tmp_path, capsys):
    assert main(["protocol=temporal"]) == 2
    assert "name one run folder, not none" in capsys.readouterr().err
    assert main([str(tmp_path), "protocol=temporal"]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    copy = tmp_path / finished.folder.key
    shutil.copytree(finished.folder.path, copy)
    told = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**told, "data_fingerprint": "another"}))
    assert main([str(copy), "protocol=temporal"]) == 2
    assert "are not those that" in capsys.readouterr().err
