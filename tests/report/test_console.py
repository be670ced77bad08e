"""What stands on the terminal at the end: every run, the best that could be reached, and why a job failed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

from recbench.core.console import PLAIN_WIDTH
from recbench.core.terminal import short_number
from recbench.experiment import job
from recbench.report import console

AUDIT = {
    "test_targets": 1234,
    "users_without_case": 7,
    "cold_targets": 0.012,
    "repeated_targets": 0.0,
    "leaked_targets": 0.5,
    "later_training": 0.25,
    "tied_targets": 0.43,
    "tied_events": 0.1,
}
PROTOCOL = "leave_one_out-full-mask-v1"


def metrics(ndcg, prefix="", cutoffs=(1, 10), **more):
    figures = {f"test/{prefix}{name}@{k}": ndcg + k / 1000 for name in ("ndcg", "hr") for k in cutoffs}
    return {
        **figures,
        f"test/{prefix}mrr": ndcg / 2,
        f"test/{prefix}ndcg@10_optimistic": 0.99,
        f"test/{prefix}coverage@{max(cutoffs)}": 0.5,
        "validation/ndcg@10": 0.11,
        "protocol": PROTOCOL,
        "audit": AUDIT,
        "oracle": {"test/ndcg@10": 0.7777, "test/hr@10": 0.8888},
        "cost/parameters_total": 1_234_567,
        "cost/train_seconds": 12.34,
        **more,
    }


def run_of(key, model, figures, dependencies=None, reused=False, label=""):
    return SimpleNamespace(
        folder=SimpleNamespace(key=key, path=f"/runs/{key}"),
        config=SimpleNamespace(
            model=SimpleNamespace(name=model),
            compression=SimpleNamespace(label=label),
            as_dict=lambda: {"model": {"name": model}},
        ),
        metrics=figures,
        dependencies=dependencies or {},
        reused=reused,
    )


STAGE = SimpleNamespace(split=SimpleNamespace(protocol_id=PROTOCOL, audit=AUDIT, metric_prefix=""))


def test_sessions_show_what_their_papers_report_first():
    figures = metrics(0.2, cutoffs=(10, 20)) | {"test/mrr@20": 0.1}
    assert console._columns(figures, "sessions-d7-full-keep-v1")[:2] == ["test/hr@20", "test/mrr@20"]
    assert "test/hr@20" not in console._columns(figures, PROTOCOL)


def row_of(out, label):
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in out.splitlines() if line.startswith("|")]
    (row,) = [row for row in rows if row[0] == label]
    return row


def test_a_run_stands_below_its_floor_and_what_it_stands_on(capsys):
    table = run_of("sasrec-1", "sasrec", metrics(0.2), reused=True)
    teacher = run_of("slmrec-1", "slmrec", metrics(0.3))
    student = run_of("slmrec-2", "slmrec", metrics(0.4), {"item_table": table, "teacher": teacher})
    job.show_run([run_of("popularity-1", "popularity", metrics(0.1)), table, teacher, student], STAGE)
    out = capsys.readouterr().out
    labels = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    assert labels == ["model", "popularity", "sasrec (item_table)", "slmrec (teacher)", "slmrec", "best achievable"]
    assert row_of(out, "slmrec") == ["slmrec", "0.4100", "0.4100", "0.2000", "0.5000", "1.2M", "12.3 s", ""]
    assert row_of(out, "sasrec (item_table)")[-1] == "reused"
    assert PROTOCOL in out
    assert "1,234 test targets" in out
    assert "leak: 50.0%" in out
    assert "/runs/slmrec-2" in out


def test_a_compressed_run_stands_below_its_original_with_size_and_speed(capsys):
    sizes = {"cost/bytes_on_disk": 3_400_000, "cost/latency_p50_ms": 1.26}
    original = run_of("sasrec-1", "sasrec", metrics(0.3, **sizes), reused=True)
    small = {"cost/bytes_on_disk": 900_000, "cost/latency_p50_ms": 0.94}
    figures = {name: value for name, value in metrics(0.2, **small).items() if name != "cost/train_seconds"}
    compressed = run_of("sasrec-2", "sasrec", figures, {"original": original}, label="int8")
    job.show_run([run_of("popularity-1", "popularity", metrics(0.1)), original, compressed], STAGE)
    out = capsys.readouterr().out
    assert row_of(out, "sasrec (original)")[-5:] == ["1.2M", "3.4MB", "1.3 ms", "12.3 s", "reused"]
    assert row_of(out, "sasrec (int8)")[-5:] == ["1.2M", "900.0kB", "0.9 ms", "-", ""]
    assert row_of(out, "popularity")[-5:] == ["1.2M", "-", "-", "12.3 s", ""]
    assert max(len(line) for line in out.splitlines() if line.startswith("|")) <= PLAIN_WIDTH


def test_the_best_achievable_stands_where_the_data_know_it(capsys):
    job.show_run([run_of("a-1", "a", metrics(0.1))], STAGE)
    assert row_of(capsys.readouterr().out, "best achievable")[1:4] == ["0.7777", "0.8888", "-"]
    job.show_run([run_of("a-1", "a", metrics(0.1, oracle={}))], STAGE)
    assert "best achievable" not in capsys.readouterr().out


@pytest.mark.parametrize(("cutoffs", "k"), [((1, 10, 20), 10), ((5, 20), 20), ((5,), 5)])
def test_figures_are_those_at_ten_or_at_the_largest_cutoff(capsys, cutoffs, k):
    job.show_run([run_of("a-1", "a", metrics(0.1, cutoffs=cutoffs))], STAGE)
    out = capsys.readouterr().out
    assert f"ndcg@{k}" in out
    assert row_of(out, "a")[1] == f"{0.1 + k / 1000:.4f}"


def test_figures_of_a_sampled_protocol_keep_their_name(capsys):
    job.show_run([run_of("a-1", "a", metrics(0.1, prefix="sampled999_"))], STAGE)
    out = capsys.readouterr().out
    assert "sampled999_ndcg@10" in out
    assert row_of(out, "a")[1] == "0.1100"
    # The best achievable is known for full ranking, which is another question.
    assert "best achievable" not in out


def stored(folder, key, config, figures):
    path = folder / key
    path.mkdir()
    (path / "metrics.json").write_text(json.dumps(figures))
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": 1, "distillation": {"name": "none"}, **config}))
    return str(path)


def test_a_sweep_shows_every_run_once_and_every_failure_with_its_reason(capsys, tmp_path):
    floor = stored(tmp_path, "popularity-1", {"model": {"name": "popularity"}}, metrics(0.1))
    plain = stored(tmp_path, "sasrec-1", {"model": {"name": "sasrec", "n_layers": 2}, "seed": 3}, metrics(0.2))
    student = stored(
        tmp_path,
        "slmrec-1",
        {"model": {"name": "slmrec", "n_layers": 4}, "distillation": {"name": "slmrec"}},
        metrics(0.3),
    )
    small = stored(
        tmp_path,
        "slmrec-2",
        {
            "model": {"name": "slmrec", "n_layers": 4},
            "distillation": {"name": "slmrec"},
            "compression": {"name": "prune", "amount": 0.25, "method": "neurons"},
        },
        metrics(0.25),
    )
    records = [
        {"status": 0, "overrides": ["model=sasrec"], "folders": [floor, plain]},
        {
            "status": 2,
            "overrides": ["model=markov", "model.backoff=7"],
            "reason": "model.backoff=7 must lie between 0 and 1",
        },
        {"status": 0, "overrides": ["model=slmrec"], "folders": [floor, plain, student]},
        {"status": 0, "overrides": ["model=slmrec", "compression=prune"], "folders": [floor, student, small]},
    ]
    console.show_sweep(records)
    out = capsys.readouterr().out
    labels = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    assert labels == [
        "model",
        "popularity seed 1",
        "sasrec seed 3",
        "slmrec (4 layers, slmrec distillation) seed 1",
        "slmrec (4 layers, slmrec distillation, prune 0.25) seed 1",
        "best achievable",
    ]
    assert "failed: model=markov model.backoff=7: model.backoff=7 must lie between 0 and 1" in out
    assert "3 of 4 jobs finished" in out
    assert out.count("1,234 test targets") == 1


def test_two_protocols_never_share_a_table(capsys, tmp_path):
    one = stored(tmp_path, "a-1", {"model": {"name": "a"}}, metrics(0.1))
    other = stored(
        tmp_path, "b-1", {"model": {"name": "b"}}, metrics(0.2, protocol="temporal-q0.8-q0.9-last-full-mask-v1")
    )
    console.show_sweep([{"status": 0, "overrides": [], "folders": [one, other]}])
    first, second = capsys.readouterr().out.split("temporal-q0.8")
    assert "a seed 1" in first
    assert "b seed 1" not in first
    assert "b seed 1" in second


def test_a_sweep_in_which_everything_failed_says_so(capsys):
    console.show_sweep([{"status": 1, "overrides": ["seed=1"], "reason": "RuntimeError: out of memory"}])
    out = capsys.readouterr().out
    assert "failed: seed=1: RuntimeError: out of memory" in out
    assert "0 of 1 jobs finished" in out


def test_what_a_reason_says_is_not_taken_for_markup(capsys):
    console.show_sweep(
        [{"status": 2, "overrides": ["evaluation.cutoffs=[0]"], "reason": "must be positive, not [0] or [/x]"}]
    )
    assert "failed: evaluation.cutoffs=[0]: must be positive, not [0] or [/x]" in capsys.readouterr().out


def test_long_lines_are_left_whole_to_be_copied(capsys):
    path = "/" + "/".join(["a-long-folder-name"] * 12)
    last = run_of("a-1", "a", metrics(0.1))
    last.folder.path = path
    job.show_run([last], STAGE)
    assert f"run: {path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2_340_000, "2.3M"), (7e9, "7.0B")]
)
def test_counts_are_short(value, shown):
    assert short_number(value) == shown


def test_a_run_with_auxiliaries_says_which(capsys, tmp_path):
    model = {"name": "sasrec", "auxiliary": ["cl4srec", "duorec"]}
    folders = [
        stored(tmp_path, "sasrec-1", {"model": model}, metrics(0.2)),
        stored(tmp_path, "sasrec-2", {"model": {**model, "auxiliary": []}}, metrics(0.1)),
    ]
    console.show_sweep([{"status": 0, "overrides": [], "folders": folders}])
    both = run_of("sasrec-1", "sasrec", metrics(0.2))
    both.config.model.auxiliary = model["auxiliary"]
    job.show_run([both], STAGE)
    out = capsys.readouterr().out
    for label in ("sasrec (cl4srec, duorec) seed 1", "sasrec seed 1", "sasrec (cl4srec, duorec)"):
        assert row_of(out, label)


def codes(**more):
    levels = {f"tokenizer/{name}_{level}": 0.5 for name in ("usage", "purity", "purity_chance") for level in (1, 2)}
    return {
        "tokenizer/items": 9,
        "tokenizer/levels": 2,
        "tokenizer/distinct": 0.875,
        "tokenizer/largest_group": 23,
        **levels,
        "tokenizer/purity_chance_1": 0.25,
        "protocol": PROTOCOL,
        "audit": AUDIT,
        **more,
    }


def test_item_codes_have_a_table_of_their_own(capsys):
    job.show_run([run_of("t-1", "rq_kmeans", codes())], STAGE)
    out = capsys.readouterr().out
    for words in ("item codes", "rq_kmeans", "87.5%", "23", "50.0% (25.0%)", "run: /runs/t-1"):
        assert words in out
    assert "ndcg" not in out
    # Of what is not known there is a dash, and the second level has a line of its own.
    assert "50.0% (50.0%)" in out
    line = next(line for line in out.splitlines() if "rq_kmeans" in line)
    assert [cell.strip() for cell in line.split("|")].count("-") == 4


def test_a_generator_shows_its_codes_above_its_figures(capsys):
    tokenizer = run_of("t-1", "rq_kmeans", codes())
    floor, asked = (
        run_of("p-1", "popularity", metrics(0.1)),
        run_of("g-1", "tiger", metrics(0.2), {"tokenizer": tokenizer}),
    )
    job.show_run([floor, tokenizer, asked], STAGE)
    out = capsys.readouterr().out
    assert out.index("item codes") < out.index("ndcg@10") < out.index("run: /runs/g-1")
    assert "rq_kmeans (tokenizer)" in out
