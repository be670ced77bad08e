"""The story of a run from data to figures, told with models so small that every chapter takes a second."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.store import PreparedData
from recbench.experiment import evaluate
from recbench.experiment.build import load_model
from recbench.experiment.context import RunContext
from recbench.experiment.run import open_run, run
from tests.fixtures.warm import WarmProcess
from tests.fixtures.words import DISTILLED_SLMREC as SLMREC
from tests.fixtures.words import SASREC, SHORT


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def student(runs_dir, run_config):
    """slmrec with its item table and its teacher, trained for two epochs each."""
    return run(run_config(runs_dir, *SLMREC, *SHORT, "distillation.force=true"))


def folders(path):
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


def times(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file() and ".locks" not in file.parts}


def weights_of(made):
    return load_file(made.folder.weights)


def same_weights(left, right):
    left, right = weights_of(left), weights_of(right)
    return left.keys() == right.keys() and all(np.array_equal(value, right[name]) for name, value in left.items())


def test_the_kept_epoch_is_not_validated_again_and_its_figures_are_those_of_the_stored_weights(
    run_config, tmp_path, monkeypatch
):
    asked, validate = [], evaluate.validate
    monkeypatch.setattr(evaluate, "validate", lambda *words: asked.append(words) or validate(*words))
    made = run(run_config(tmp_path, *SASREC, "training.max_epochs=2"))
    assert len(asked) == 2
    history = made.folder.history()
    best = history[int(made.metrics["cost/best_epoch"])]
    told = {name: value for name, value in made.metrics.items() if name.startswith("validation/")}
    assert told == {name: value for name, value in best.items() if name.startswith("validation/")}
    stage = RunContext.of(made.config)
    again = validate(load_model(made, stage), stage.data, stage.split, made.config)
    assert told == {f"validation/{name}": value for name, value in again.items()}


def test_a_student_is_three_runs(student, runs_dir):
    assert set(student.dependencies) == {"item_table", "teacher"}
    table, teacher = student.dependencies["item_table"], student.dependencies["teacher"]
    assert folders(runs_dir) == sorted([table.folder.key, teacher.folder.key, student.folder.key])
    assert [part.config.model.name for part in (table, teacher, student)] == ["sasrec", "slmrec", "slmrec"]
    assert (teacher.config.model.n_layers, student.config.model.n_layers) == (4, 2)
    assert teacher.config.distillation.name == "none"
    # The teacher stands on the same item table.
    assert teacher.dependencies["item_table"].folder.key == table.folder.key
    assert student.metrics["dependencies"] == {"item_table": table.folder.key, "teacher": teacher.folder.key}
    assert not any(part.reused for part in (table, teacher, student))


def test_the_item_table_is_what_its_run_learned(student):
    learned = weights_of(student.dependencies["item_table"])["item_embedding.weight"]
    for part in (student, student.dependencies["teacher"]):
        assert np.array_equal(weights_of(part)["item_table"], learned)


def test_a_finished_folder_holds_everything(student):
    for role, part in {"": student, **student.dependencies}.items():
        # What the teacher was asked lies under it, for other students.
        taught = ["taught"] if role == "teacher" else []
        # Who it was made for, where nobody asked for it itself.
        maker = ["made_for.json"] if role else []
        assert sorted(file.name for file in part.folder.path.iterdir() if file.name not in [*taught, *maker]) == [
            "config.yaml",
            "history.jsonl",
            "log.txt",
            "metrics.json",
            "provenance.json",
            "ranks.parquet",
            "status.json",
            "weights.safetensors",
        ]
        assert (part.folder.path / "taught").is_dir() == bool(taught)
        assert part.folder.finished
        source = part.folder.read("provenance.json")
        assert {"commit", "dirty", "versions", "data_fingerprint", "split_hash", "seed", "platform"} <= source.keys()


def test_a_run_knows_whom_it_was_made_for_until_it_is_asked_for_itself(student):
    table, teacher = student.dependencies["item_table"], student.dependencies["teacher"]
    assert student.folder.read("made_for.json") == {}
    assert teacher.folder.read("made_for.json") == {"key": student.folder.key}
    # The item table was made for whichever needed it first.
    assert table.folder.read("made_for.json")["key"] in (student.folder.key, teacher.folder.key)
    assert run(table.config).reused
    assert table.folder.read("made_for.json") == {}
    run(teacher.config, made_for=student.folder.key)
    assert table.folder.read("made_for.json") == {}  # once asked for, it is nobody's alone


def test_figures_are_there_for_every_cutoff_of_test_and_validation(student):
    stored = json.loads((student.folder.path / "metrics.json").read_text())
    assert stored == student.metrics
    for part in ("test", "validation"):
        for k in (1, 5, 10, 20):
            for name in ("hr", "ndcg", "mrr"):
                assert 0 <= stored[f"{part}/{name}@{k}"] <= 1
        assert 0 < stored[f"{part}/mrr"] <= 1
    for name in ("coverage", "gini", "novelty"):
        assert any(key.startswith(f"test/{name}") for key in stored)
    assert stored["protocol"] == "leave_one_out-full-mask-v1"
    assert stored["audit"]["test_targets"] == stored["test/cases"] == 160
    assert stored["cost/parameters_trainable"] > 0
    assert stored["cost/epochs"] == 2


def test_figures_can_be_computed_again_from_the_ranks(student):
    table = pl.read_parquet(student.folder.ranks)
    assert table["user"].to_list() == list(range(160))
    rank = table["rank"].to_numpy()
    for k in (1, 5, 10, 20):
        hit = rank <= k
        assert student.metrics[f"test/hr@{k}"] == pytest.approx(hit.mean(), abs=1e-12)
        assert student.metrics[f"test/ndcg@{k}"] == pytest.approx((hit / np.log2(rank + 1)).mean(), abs=1e-12)
        assert student.metrics[f"test/mrr@{k}"] == pytest.approx((hit / rank).mean(), abs=1e-12)
    assert student.metrics["test/mrr"] == pytest.approx((1 / rank).mean(), abs=1e-12)


def test_every_term_of_the_loss_is_written_down_for_every_epoch(student):
    history = student.folder.history()
    assert [epoch["epoch"] for epoch in history] == [0, 1]
    for epoch in history:
        terms = {name: value for name, value in epoch.items() if name.startswith("train/")}
        assert set(terms) == {"train/" + n for n in ("loss", "recommendation", "cosine", "norm", "supervision")}
        assert all(np.isfinite(value) and value > 0 for value in terms.values())
        assert "validation/ndcg@10" in epoch


def test_the_same_again_trains_nothing(student, runs_dir, run_config):
    before = times(runs_dir)
    again = run(run_config(runs_dir, *SLMREC, *SHORT, "distillation.force=true"))
    assert again.folder.key == student.folder.key
    assert all(part.reused for part in (again, *again.dependencies.values()))
    assert again.metrics == student.metrics
    assert times(runs_dir) == before


def test_other_hardware_and_tracking_train_nothing(student, runs_dir, run_config):
    words = ["hardware=auto", "hardware.threads=3", "tracking=mlflow", "tracking.uri=elsewhere"]
    again = run(run_config(runs_dir, *SLMREC, *SHORT, "distillation.force=true", *words))
    assert again.reused


def test_a_plain_run_of_the_same_model_is_the_item_table(student, runs_dir, run_config):
    plain = run(run_config(runs_dir, *SASREC, *SHORT))
    assert plain.reused
    assert plain.folder.key == student.dependencies["item_table"].folder.key


def test_the_control_without_a_teacher_shares_the_item_table_only(student, runs_dir, run_config):
    words = [word for word in (*SLMREC, *SHORT) if not word.startswith("distillation.")]
    plain = run(run_config(runs_dir, *words, "distillation=none"))
    assert set(plain.dependencies) == {"item_table"}
    assert plain.dependencies["item_table"].reused
    assert not plain.reused
    assert plain.metrics["cost/parameters_total"] == student.metrics["cost/parameters_total"]
    assert set(plain.folder.history()[0]) >= {"train/loss"}
    assert "train/cosine" not in plain.folder.history()[0]


def test_another_seed_trains_all_three_anew(student, tmp_path, run_config):
    other = run(run_config(tmp_path, *SLMREC, *SHORT, "distillation.force=true", "seed=2"))
    for mine, theirs in zip(
        (other, *other.dependencies.values()), (student, *student.dependencies.values()), strict=True
    ):
        assert mine.folder.key != theirs.folder.key
        assert not same_weights(mine, theirs)


def test_the_same_config_gives_the_same_bits_elsewhere(student, tmp_path, run_config):
    twin = run(run_config(tmp_path, *SLMREC, *SHORT, "distillation.force=true"))
    assert not twin.reused
    assert same_weights(twin, student)
    timed = ("cost/latency", "cost/users", "cost/batch_latency", "cost/peak", "cost/energy")
    figures = {n: value for n, value in twin.metrics.items() if "seconds" not in n and not n.startswith(timed)}
    assert figures == {name: student.metrics[name] for name in figures}


AGAIN = """
import json, sys
from pathlib import Path
from recbench.experiment import evaluate
from recbench.experiment.build import load_model
from recbench.experiment.run import open_run
from recbench.core.run_folder import RunFolder
finished, stage = open_run(Path(sys.argv[1]))
model = load_model(finished, stage)
asked = model, stage.data, stage.split, finished.config
validated = {f"validation/{name}": value for name, value in evaluate.validate(*asked).items()}
print(json.dumps({**evaluate.test(*asked, RunFolder(Path(sys.argv[2]))), **validated}))
"""


def test_another_process_finds_the_same_figures_bit_for_bit(student, tmp_path):
    (tmp_path / "again.py").write_text(AGAIN)
    process = WarmProcess(
        [sys.executable, "-m", "again", str(student.folder.path), str(tmp_path)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    found = {name: value for name, value in found.items() if not name.startswith("cost/")}
    assert found == {name: student.metrics[name] for name in found}
    assert len(found) > 30
    assert "validation/ndcg@10" in found
    assert pl.read_parquet(tmp_path / "ranks.parquet").equals(pl.read_parquet(student.folder.ranks))


def test_only_a_finished_run_can_be_opened(tmp_path):
    with pytest.raises(UserError, match=r"holds no finished run \(its state is 'absent'\)"):
        open_run(tmp_path)


def test_of_two_that_want_the_same_run_one_makes_it_and_the_other_waits(run_config, tmp_path, monkeypatch):
    """Two threads stand for two processes; the lock is the operating system's and holds between both."""
    config = run_config(tmp_path, "model=markov")
    at_work, go_on = threading.Event(), threading.Event()
    test, tested = evaluate.test, []

    def slow_test(*arguments):
        tested.append(1)
        at_work.set()
        assert go_on.wait(30)
        return test(*arguments)

    monkeypatch.setattr(evaluate, "test", slow_test)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, config)
        assert at_work.wait(30)
        second = pool.submit(run, config)
        time.sleep(0.2)  # long enough to go wrong, were there no lock
        assert not second.done()
        go_on.set()
        made, found = first.result(30), second.result(30)
    assert tested == [1]
    assert (made.reused, found.reused) == (False, True)
    assert found.metrics == made.metrics


# What stops a run


def test_a_teacher_that_popularity_beats_stops_the_student_unless_forced(run_config, tmp_path):
    words = [*SLMREC, *SHORT, "distillation.teacher.training.lr=1e-9"]
    with pytest.raises(UserError) as caught:
        run(run_config(tmp_path, *words))
    message = str(caught.value)
    for word in ("the teacher slmrec-", "validation/ndcg@10", "popularity", "distillation.teacher.training.max_epochs"):
        assert word in message
    assert "distillation.force=true" in message
    assert len([name for name in folders(tmp_path) if name.startswith("slmrec-")]) == 1  # the teacher
    forced = run(run_config(tmp_path, *words, "distillation.force=true"))
    assert forced.dependencies["teacher"].reused
    assert forced.metrics["test/ndcg@10"] > 0


def test_a_loss_that_becomes_nan_is_named_with_the_way_out(run_config, tmp_path):
    with pytest.raises(UserError, match=r"loss term 'loss' became nan.*training\.lr.*gradient_clip"):
        run(run_config(tmp_path, *SASREC, "training.lr=1e30", "training.batch_size=100"))
    (folder,) = [RunFolder(path) for path in tmp_path.glob("sasrec-*")]
    assert folder.state == "failed"
    assert "became nan" in folder.read("status.json")["reason"]


def stage_of(tmp_path, histories, times=True):
    from recbench.data.protocol import LeaveOneOutConfig
    from recbench.data.split import make_split

    items = np.array([item for history in histories for item in history])
    stamps = np.arange(len(items)) if times else None
    data = PreparedData.from_arrays(tmp_path / "data", items, np.cumsum([0, *map(len, histories)]), stamps)
    return RunContext(data, make_split(data, LeaveOneOutConfig(), None))


def test_data_without_what_a_model_needs_are_refused_before_anything_is_made(run_config, tmp_path):
    stage = stage_of(tmp_path, [[1, 2, 3, 4], [2, 3, 4, 1]], times=False)
    with pytest.raises(UserError, match=r"'recent_popularity' needs timestamps, which data=synthetic does not have"):
        run(run_config(tmp_path / "runs", "model=recent_popularity"), stage)
    assert not (tmp_path / "runs").exists()


def test_nothing_to_train_on_is_told(run_config, tmp_path):
    stage = stage_of(tmp_path, [[1, 2, 3], [2, 3, 1]])
    with pytest.raises(UserError, match="no user has two training events"):
        run(run_config(tmp_path / "runs", *SASREC, *SHORT), stage)


def test_blocks_that_do_not_fit_are_told(run_config, tmp_path):
    with pytest.raises(UserError, match="n_blocks=3 does not divide the 2 layers of the student"):
        run(run_config(tmp_path, *SLMREC, *SHORT, "distillation.force=true", "distillation.n_blocks=3"))


# Choices on the way


def test_the_weights_of_the_best_epoch_are_kept(run_config, tmp_path):
    made = run(
        run_config(
            tmp_path,
            *SASREC,
            "training.lr=0.05",
            "training.max_epochs=12",
            "training.patience=3",
            "training.batch_size=100",
        )
    )
    values = [epoch["validation/ndcg@10"] for epoch in made.folder.history()]
    best = int(np.argmax(values))
    assert made.metrics["cost/best_epoch"] == best
    assert made.metrics["validation/ndcg@10"] == values[best]
    # Patience: three epochs after the best one, or the last of all.
    assert len(values) == min(best + 4, 12)
    assert len(values) == made.metrics["cost/epochs"]


def test_the_monitored_cutoff_is_the_largest_where_ten_is_none(run_config, tmp_path):
    made = run(run_config(tmp_path, *SASREC, *SHORT, "evaluation.cutoffs=[3,7]"))
    values = [epoch["validation/ndcg@7"] for epoch in made.folder.history()]
    assert made.metrics["validation/ndcg@7"] == max(values)
    assert not any("@10" in name for name in made.metrics if name.startswith(("test/", "validation/")))


@pytest.mark.parametrize(
    ("words", "prefix", "protocol"),
    [
        (["protocol=sampled_999", "protocol.n_candidates=20"], "sampled20_", "leave_one_out-uniform20.s0-mask-v1"),
        (["protocol=temporal"], "", "temporal-q0.8-q0.9-last-full-mask-v1"),
        (
            ["protocol=temporal", "protocol.target=all", "protocol.seen_items=keep"],
            "",
            "temporal-q0.8-q0.9-all-full-keep-v1",
        ),
    ],
)
def test_every_protocol_trains_validates_and_tests(run_config, tmp_path, words, prefix, protocol):
    made = run(run_config(tmp_path, *SASREC, *SHORT, *words))
    assert made.metrics["protocol"] == protocol
    named = [name for name in made.metrics if name.startswith(("test/", "validation/")) and "@" in name]
    assert all(name.split("/")[1].startswith(prefix) for name in named)
    assert f"test/{prefix}ndcg@10" in named
    assert f"validation/{prefix}ndcg@10" in made.folder.history()[0]


def test_a_step_smaller_than_a_history_is_possible(run_config, tmp_path):
    made = run(run_config(tmp_path, *SASREC, "training.max_epochs=1", "training.batch_size=7"))
    assert made.metrics["cost/epochs"] == 1


def test_histories_longer_than_a_model_reads_are_cut(run_config, tmp_path):
    made = run(run_config(tmp_path, *SASREC, *SHORT, "training.max_length=4"))
    assert weights_of(made)["position_embedding.weight"].shape == (4, 16)
    assert made.metrics["cost/targets_per_epoch"] == made.metrics["audit"]["training_events"] - 160


def test_costs_are_added_up_over_all_that_a_run_stands_on_each_once():
    from types import SimpleNamespace

    from recbench.experiment.added_up import with_dependencies

    def made(key, seconds, dependencies=(), **more):
        figures = {"cost/train_seconds": seconds, "cost/wall_seconds": 10 * seconds, **more}
        return SimpleNamespace(
            folder=SimpleNamespace(key=key),
            metrics=figures,
            dependencies={part.folder.key: part for part in dependencies},
        )

    table = made("table", 1.0, **{"cost/train_cpu_seconds": 3.0})
    teacher = made("teacher", 2.0, [table], **{"cost/train_cpu_seconds": 5.0})
    own = {"cost/train_seconds": 4.0, "cost/wall_seconds": 40.0, "cost/train_cpu_seconds": 7.0}
    found = with_dependencies(own, {"teacher": teacher, "item_table": table})
    assert found == {
        "cost/train_seconds_with_dependencies": 7.0,
        "cost/wall_seconds_with_dependencies": 70.0,
        "cost/train_cpu_seconds_with_dependencies": 15.0,
    }
    # Of a table that an older recbench made nobody knows the CPU seconds, so the sum is not told either.
    del table.metrics["cost/train_cpu_seconds"]
    assert "cost/train_cpu_seconds_with_dependencies" not in with_dependencies(own, {"teacher": teacher})
    assert with_dependencies(own, {})["cost/train_seconds_with_dependencies"] == 4.0
