"""A study from its file to its table: search, seeds, failures, and what a second call finds."""

from __future__ import annotations

import csv
import json
import os
import signal
import time

import pytest
import yaml

from recbench.study.ranks_file import read_ranks_file

SEARCH = {"training.lr": ["1e-3", 0.01]}


def rows_of(study):
    with (study.path / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_searches_on_validation_runs_every_seed_and_writes_what_the_runs_say(study):
    """Six trainings, and three calls of the command afterwards (10 s)."""
    study.write(
        question="how wide?",
        seeds=[1, 2],
        search=SEARCH,
        rows={"narrow": ["model.hidden_size=8"], "wide": []},
        reference="narrow",
        columns=["ndcg@10", "hr@1", "sampled20_hr@1", "parameters_total"],
        sampled=20,
        latency={"rows": ["wide"], "batch_size": 4},
        published=[{"label": "theirs", "ndcg@10": 0.1234, "source": "a paper"}],
    )
    (study.path / "README.md").write_text("# Mini\n\n<!-- results -->\nold\n<!-- /results -->\n\nVerdict.\n")
    status, out, err, started = study.run()
    assert status == 0, err
    assert len(started) == 6  # 2 rows x 2 values on seed 1, and seed 2 of each at the better one

    found = rows_of(study)
    assert [(r["row"], r["phase"], r["seed"]) for r in found] == [
        ("narrow", "search", "1"), ("narrow", "search", "1"), ("narrow", "final", "1"), ("narrow", "final", "2"),
        ("wide", "search", "1"), ("wide", "search", "1"), ("wide", "final", "1"), ("wide", "final", "2"),
    ]  # fmt: skip
    for row in found:
        metrics = study.metrics(row["key"])
        assert float(row["ndcg@10"]) == metrics["test/ndcg@10"]
        assert float(row["hr@1"]) == metrics["test/hr@1"]
        assert float(row["validation_mrr"]) == metrics["validation/mrr"]
        assert float(row["parameters_total"]) == metrics["cost/parameters_total"]
        assert float(row["train_seconds"]) == metrics["cost/train_seconds"]
        assert row["protocol"] == metrics["protocol"]
        config = json.loads(
            json.dumps(__import__("yaml").safe_load((study.runs / row["key"] / "config.yaml").read_text()))
        )
        assert (config["seed"], config["training"]["lr"]) == (int(row["seed"]), float(row["training.lr"]))
    kept = read_ranks_file(study.path / "ranks.npz")
    assert {run.key for group in kept.groups for run in group.runs} == {
        r["key"] for r in found if r["phase"] == "final"
    }
    for name in ("narrow", "wide"):
        searched = [r for r in found if r["row"] == name and r["phase"] == "search"]
        best = max(searched, key=lambda r: float(r["validation_ndcg@10"]))
        assert [r["chosen"] for r in searched] == [str(r is best) for r in searched]
        final = [r for r in found if r["row"] == name and r["phase"] == "final"]
        assert {r["training.lr"] for r in final} == {best["training.lr"]}
        assert final[0]["key"] == best["key"]  # the search's own run is the final one of its seed
        for row in final:
            sampled = json.loads((study.runs / row["key"] / "metrics-sampled20.json").read_text())
            assert float(row["sampled20_hr@1"]) == sampled["test/sampled20_hr@1"] >= float(row["hr@1"])
            assert bool(row["alone_users_per_second"]) == (name == "wide")

    readme = (study.path / "README.md").read_text()
    assert "old" not in readme
    assert readme.startswith("# Mini\n\n<!-- results -->\nProtocol `leave_one_out-full-mask-v1`")
    assert readme.endswith("<!-- /results -->\n\nVerdict.\n")
    assert out.strip() in readme
    assert "| theirs (a paper) | .1234 |" in readme

    # The same again: everything is there.
    weights = {path: path.stat().st_mtime_ns for path in study.runs.glob("*/weights.safetensors")}
    before = (study.path / "results.csv").read_text()
    assert study.run()[::3] == (0, [])
    assert study.run("--table")[::3] == (0, [])
    assert (study.path / "results.csv").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in study.runs.glob("*/weights.safetensors")} == weights
    status, out, _, started = study.run("--dry")
    assert (status, started) == (0, [])
    assert "8 of 8 known runs finished" in out


def test_a_failed_row_is_named_and_the_rest_stands(study, monkeypatch):
    from recbench.experiment import evaluate

    test = evaluate.test

    def fragile(model, data, split, config, folder):
        if config.model.hidden_size == 8 and config.seed == 2:
            raise ZeroDivisionError("our fault")
        return test(model, data, split, config, folder)

    monkeypatch.setattr(evaluate, "test", fragile)
    study.write(seeds=[1, 2], rows={"bad": ["model.hidden_size=8"], "good": []}, search={})
    status, out, err, _ = study.run()
    assert status == 1
    assert "failed: bad seed 2" in err
    assert "ZeroDivisionError: our fault" in err
    assert "3 of 4 runs finished" in err
    assert [(r["row"], r["seed"]) for r in rows_of(study)] == [("bad", "1"), ("good", "1"), ("good", "2")]
    assert r"| good \* |" in out  # its values come from a tuned file
    # Mended, the same command runs what is missing, and nothing else.
    monkeypatch.setattr(evaluate, "test", test)
    status, _, err, started = study.run()
    assert status == 0, err
    assert len(started) == 1
    assert "seed=2" in started[0]
    assert "model.hidden_size=8" in started[0]


def test_a_value_that_cannot_be_trained_is_out_of_the_search(study, monkeypatch):
    from recbench.training import fit

    take = fit.Learner.take_means

    def diverging(self):
        if self.config.lr > 0.1:
            raise FloatingPointError("the loss term 'loss' became nan")
        return take(self)

    monkeypatch.setattr(fit.Learner, "take_means", diverging)
    study.write(seeds=[1], search={"training.lr": [0.5, 0.01]}, rows={"one": []})
    status, _, err, _ = study.run()
    assert status == 1
    assert "failed: one seed 1 training.lr=0.5" in err
    assert "became nan" in err
    final = [r for r in rows_of(study) if r["phase"] == "final"]
    assert [r["training.lr"] for r in final] == ["0.01"]
    assert study.run("--table")[0] == 0
    assert [r for r in rows_of(study) if r["phase"] == "final"] == final


def test_a_row_can_use_what_another_one_chose(study):
    study.write(
        seeds=[1],
        search=SEARCH,
        rows={
            "late": {"overrides": ["model.n_layers=2", "training.lr=<first:training.lr>"], "search": {}},
            "first": [],
            "later": {"overrides": ["training.weight_decay=<late2:training.weight_decay>"], "search": {}},
            "late2": {"search": {"training.weight_decay": [0.0, 0.1]}},
        },
    )
    status, _, err, _ = study.run()
    assert status == 0, err
    chosen = {r["row"]: r for r in rows_of(study) if r["chosen"] == "True" and r["phase"] == "search"}
    keys = {r["row"]: r["key"] for r in rows_of(study) if r["phase"] == "final"}
    (late,) = [p for p in study.runs.glob("*/config.yaml") if p.parent.name == keys["late"]]
    assert f"lr: {float(chosen['first']['training.lr'])}" in late.read_text()
    assert keys["later"] == keys["late2"]


def test_a_row_whose_source_failed_says_so(study, monkeypatch):
    from recbench.experiment import evaluate

    def broken(*_):
        raise ZeroDivisionError("our fault")

    monkeypatch.setattr(evaluate, "test", broken)
    study.write(
        seeds=[1],
        search=SEARCH,
        rows={"first": [], "next": {"overrides": ["training.lr=<first:training.lr>"], "search": {}}},
    )
    status, _, err, started = study.run()
    assert status == 1
    assert len(started) == 2
    assert "next: no final run, because it needs what the search of 'first' chooses" in err


def test_one_dependency_is_made_by_one_job_while_others_wait(study, tiny, monkeypatch):
    """Two students of one item table: the second is not started before that is there, and a third that needs nothing goes first."""
    from recbench.study.definition import load_study
    from recbench.study.jobs import Planner
    from recbench.study.plan import StudyPlan
    from recbench.study.pool import Pool

    small = [
        "model=slmrec_plain",
        "model.tiny_hidden_size=16",
        "model.tiny_n_heads=2",
        "model.tiny_feedforward_size=16",
    ]
    table = [
        "model.item_table.hidden_size=16",
        "model.item_table.feedforward_size=16",
        "model.item_table.training.max_epochs=1",
    ]
    tiny = __import__("yaml").safe_load(study.write(rows={"x": []}).path.joinpath("study.yaml").read_text())["base"][
        :-6
    ]
    rows = {
        "one": [*small, *table, "model.n_layers=1"],
        "two": [*small, *table, "model.n_layers=2"],
        "other": ["model=markov"],
    }
    study.write(base=tiny, rows=rows, seeds=[1])
    found = load_study(study.path / "study.yaml")
    planner = Planner(found, (), study.runs)
    pool = Pool(2, study.runs / "logs")
    order = []
    pool._launch = lambda job, claims: (
        order.append(job.row) or __import__("types").SimpleNamespace(job=job, claims=claims)
    )
    plan = StudyPlan(found, planner)
    pool.waiting += plan.available()
    pool._start(plan)
    assert order == ["one", "other"]
    assert [job.row for job in pool.waiting] == ["two"]
    # When the item table is finished, nothing holds the second student back any more.
    (needed,) = pool.waiting[0].needs
    (study.runs / needed).mkdir(parents=True)
    (study.runs / needed / "status.json").write_text('{"state": "finished"}')
    pool.running = pool.running[:1]
    pool._start(plan)
    assert order == ["one", "other", "two"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"rows": {}}, ["no rows"]),
        ({"rows": {"a": []}, "sedes": [1]}, ["unknown mini: study key 'sedes'", "did you mean 'seeds'"]),
        ({"rows": {"a": {"overides": []}}}, ["row 'a'", "did you mean 'overrides'"]),
        ({"rows": {"a": ["model.hiden_size=3"]}}, ["row 'a'", "did you mean 'hidden_size'"]),
        ({"rows": {"a": [], "b": ["model=sasrek"]}}, ["row 'b'", "did you mean 'sasrec'"]),
        ({"rows": {"a": ["just words"]}}, ["row 'a'", "'just words' is no override"]),
        ({"rows": {"a": []}, "seeds": ["one"]}, ["seeds must be whole numbers"]),
        ({"rows": {"a": []}, "search": {"training.lr": 3}}, ["search.training.lr must be a list"]),
        ({"rows": {"a": ["training.lr=1"]}, "search": SEARCH}, ["row 'a'", "training.lr is set and searched"]),
        ({"rows": {"a": []}, "search": {"training.rl": [1]}}, ["row 'a'", "training.rl", "did you mean 'lr'"]),
        ({"rows": {"a": []}, "columns": ["ndgc@10"]}, ["unknown column 'ndgc@10'", "did you mean 'ndcg@10'"]),
        ({"rows": {"alpha": []}, "reference": "alpah"}, ["there is no row 'alpah'", "did you mean 'alpha'"]),
        ({"rows": {"alpha": []}, "latency": {"rows": ["alpah"]}}, ["latency", "did you mean 'alpha'"]),
        ({"rows": {"a": []}, "published": [{"label": "x"}]}, ["needs a label and a source"]),
        ({"rows": {"a": []}, "published": [{"label": "x", "source": "y", "hr@7": 1}]}, ["'hr@7' is none of the columns"]),
        ({"rows": {"a": ["training.lr=<b:training.lr>"]}}, ["<b:training.lr> names no row"]),
        ({"rows": {"a": ["training.lr=<b:training.lr>"], "b": []}}, ["the row 'b' does not search training.lr"]),
        ({"rows": {"a": []}, "sampled": 999}, ["wants 999 negatives"]),
        (
            {"rows": {"abc": []}, "published": [{"label": "x", "source": "y", "beside": "abd"}]},
            ["no row 'abd'", "did you mean 'abc'"],
        ),
        ({"rows": {"a": []}, "both_rules": "yes"}, ["both_rules", "true or false", "'yes'"]),
        ({"rows": {"a": ["protocol=temporal"]}, "sampled": 20}, ["protocol=leave_one_out", "temporal"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_study_is_one_line_before_anything_runs(study, content, expected):
    status, out, err, started = study.write(**content).run()
    assert (status, out, started) == (2, "", [])
    (line,) = [line for line in err.splitlines() if not line.startswith(("preparing", "prepared", "  "))]
    assert line.startswith("error: ")
    for part in expected:
        assert part in line


def test_a_name_that_stands_twice_is_refused(study):
    (study.path / "study.yaml").write_text("rows:\n  a: [seed=1]\n  a: [seed=2]\n")
    status, _, err, _ = study.run()
    assert status == 2
    assert "'a' stands twice" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--job", "3", "nonsense"], "nonsense"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--jobs", "many"], "--jobs"),
        (["--drie"], "--drie"),
        (["training.lr=3"], "training.lr is what the study mini searches"),
        (["seed=3"], "the seeds of the study"),
        (["model.hiden_size=3"], "did you mean 'hidden_size'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(study, words, expected):
    status, out, err, started = study.write(rows={"a": []}, search=SEARCH).run(*words)
    assert (status, out, started) == (2, "", [])
    (line,) = [line for line in err.splitlines() if not line.startswith(("preparing", "prepared", "  "))]
    assert expected in line


def test_both_rules_on_seen_items_are_asked_of_the_same_weights(study, tiny):
    columns = ["hr@10", "keep_hr@10", "mask_hr@10"]
    kept = ["model=markov", "protocol.seen_items=keep"]
    rows = {"masked": ["model=markov"], "kept": kept}
    study.write(base=tiny, rows=rows, columns=columns, seeds=[1], both_rules=True)
    status, table, err, _ = study.run()
    assert status == 0, err
    masked, kept = rows_of(study)
    # What is learned does not depend on the rule here, so each row must find what the other was asked.
    assert masked["keep_hr@10"] == kept["hr@10"] != masked["hr@10"] == kept["mask_hr@10"]
    assert (masked["mask_hr@10"], kept["keep_hr@10"]) == ("", "")
    assert masked["keep_protocol"] == kept["protocol"]
    assert f"{float(masked['keep_hr@10']):.4f}".removeprefix("0") in table
    asked = study.runs / masked["key"] / "metrics-keep.json"
    before = asked.stat().st_mtime_ns
    assert study.run()[0] == 0
    assert asked.stat().st_mtime_ns == before


def test_an_unknown_study_is_answered_with_the_nearest(study):
    from recbench.study.definition import find_study

    study.write(rows={"a": []})
    with pytest.raises(Exception, match="did you mean 'mini'"):
        find_study("mimi", study.path.parents[1], study.path)
    assert find_study(str(study.path), study.path, study.path) == study.path / "study.yaml"


def test_words_of_the_command_line_reach_every_run_and_runs_dir_moves_them(study, tmp_path):
    study.write(rows={"a": []}, seeds=[1])
    status, _, err, started = study.run("training.max_epochs=1", f"runs_dir={tmp_path}/elsewhere")
    assert status == 0, err
    (words,) = started
    assert "training.max_epochs=1" in words
    assert "training.max_epochs=2" not in words
    (key,) = {r["key"] for r in rows_of(study)}
    assert (tmp_path / "elsewhere" / key / "metrics.json").is_file()


def test_in_processes_of_their_own_a_study_is_stopped_cleanly(cli_process, tmp_path, tiny):
    """Real processes (10 s): Ctrl+C while a run trains ends it with its state written, and leaves nothing behind."""
    folder = tmp_path / "experiments" / "mini"
    folder.mkdir(parents=True)
    long = [
        "model=sasrec",
        "model.hidden_size=16",
        "training.batch_size=16",
        "training.patience=1000",
        "training.max_epochs=400",
    ]
    content = {"base": tiny, "seeds": [1], "rows": {"long": long, "short": ["model=markov"]}}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    process = cli_process("study", "mini", "--jobs", "2", cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not (
        list(tmp_path.glob("runs/sasrec-*/history.jsonl")) and list(tmp_path.glob("runs/markov-*/metrics.json"))
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("stopped")
    (status,) = tmp_path.glob("runs/sasrec-*/status.json")
    told = json.loads(status.read_text())
    assert told["state"] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)
    # What was finished by then is not lost.
    results = (folder / "results.csv").read_text()
    assert "\nshort,final,1" in results
    assert "long" not in results
