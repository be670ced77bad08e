"""The studies of this repository: each row composes, what they share is one run, and the measuring of efficiency measures."""

from __future__ import annotations

import contextlib
import csv
import gc
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recbench.config.compose import compose
from recbench.config.schemas import conf_dir
from recbench.experiment.dependencies import dependency_configs
from recbench.experiment.key import run_key
from recbench.report.notes import MARK
from recbench.report.writers import markdown_text
from recbench.study.definition import load_study
from recbench.study.jobs import Planner, choices
from recbench.study.results import BEGIN, END
from tests.fixtures.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "experiments").glob("*/study.yaml"))
EFFICIENCY = ROOT / "experiments" / "slmrec_efficiency"


@pytest.fixture(scope="module")
def jobs_of(tiny, tmp_path_factory, stored_llama):
    """jobs_of("slmrec_depth") -> (a job a row, on the tiny data in place of Beauty, and their planner); planned once."""
    planned = {}

    def plan(name):
        study = load_study(ROOT / "experiments" / name / "study.yaml")
        words = [word for word in tiny if word != "data=synthetic"]
        rows = dict(study.rows)
        for label, row in study.rows.items():
            own = tuple(
                word
                for word in row.overrides
                if not word.startswith("data") or word.startswith(("data.text", "data.keep"))
            )
            # Nobody else dealt these data out.
            ours = ("protocol.order=random",) if "protocol.order=given" in row.overrides else ()
            if "protocol=sampled_999" in row.overrides:  # of the few items there are not so many
                ours += ("protocol.n_candidates=20",)
            rows[label] = type(row)(label, ("data=synthetic", *own, *ours), row.seeds, row.search)
        runs = tmp_path_factory.mktemp("runs")
        planner = Planner(type(study)(**{**vars(study), "rows": rows}), tuple(words), runs)
        chosen = {label: next(choices(row)) for label, row in rows.items()}
        return {label: planner.job(row, "final", 1, chosen[label], chosen) for label, row in rows.items()}, planner

    # Any model of eight layers stands for the pretrained one here.
    folder = tmp_path_factory.mktemp("minilm")
    shape = json.loads((stored_llama / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": 8}))
    # What is tuned for the generated data is laid over a model's own values, and two rows would be one run.
    untuned = tmp_path_factory.mktemp("values") / "conf"
    shutil.copytree(conf_dir(), untuned)
    for path in untuned.glob("tuned/*-synthetic.yaml"):
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECBENCH_MINILM", str(folder))
        deep = tmp_path_factory.mktemp("deep")
        (deep / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": 30}))
        patch.setenv("RECBENCH_LANGUAGE_MODEL", str(deep))
        (deep / "texts").mkdir()
        for kind in ("rationale", "llm_cf"):
            for name in ("gift_cards", "magazine"):
                (deep / "texts" / f"{kind}-{name}.jsonl").write_text(f"{kind} {name}")
        for module in ("schemas", "hydra_source"):
            patch.setattr(f"recbench.config.{module}.conf_dir", lambda: untuned)

        def get(name):
            if name not in planned:
                with contextlib.chdir(deep):  # where the study of written texts finds them
                    planned[name] = plan(name)
            return planned[name]

        yield get


@pytest.mark.parametrize("name", [path.parent.name for path in STUDIES])
def test_every_row_composes_and_reads_the_item_vectors_of_the_row_sasrec(name, jobs_of):
    jobs, planner = jobs_of(name)
    # Rows on different data are one run here, where all are on the tiny data.
    study = load_study(ROOT / "experiments" / name / "study.yaml")
    data = {label: [w for w in row.overrides if w.startswith("data")] for label, row in study.rows.items()}
    assert len({(job.key, *data[label]) for label, job in jobs.items()}) == len(jobs)
    for label, job in jobs.items():
        if name.startswith("slmrec"):
            apart = label in ("sasrec", "sasrec_256", "markov", "popularity") or "text_table" in label
            assert apart or jobs["sasrec"].key in job.needs, label
            # Equal steps for all that are compared, but for the converged run.
            training = job.config.training
            assert training.patience >= training.max_epochs or label in ("sasrec", "sasrec_256")
    if name.startswith("sequential"):
        check_that_every_row_has_the_same_budget(study, jobs)
    if name == "slmrec_distillation":
        check_that_rows_learn_from_the_row_teacher(jobs)
        check_that_the_item_table_is_the_run_of_sasrec_with_defaults(jobs, planner)


def check_that_every_row_has_the_same_budget(study, jobs):
    assert {len(values) for row in study.rows.values() for values in row.search.values()} <= {2}
    assert {len(row.search) for row in study.rows.values()} <= {0, 1}
    trainings = [vars(job.config.training) for job in jobs.values()]
    assert len({(t["max_epochs"], t["patience"], t["batch_size"], t["lr"]) for t in trainings}) == 1


def check_that_rows_learn_from_the_row_teacher(jobs):
    teacher = jobs["teacher"].key
    taught = {"cos", "cos_norm", "cos_ms", "all", "all_released", "logits", "features", "ranking"}
    assert {name for name, job in jobs.items() if teacher in job.needs} >= taught
    for name in ("none", "ms_only", "random_teacher", "sasrec"):
        assert teacher not in jobs[name].needs, name
    weights = {name: vars(jobs[name].config.distillation) for name in taught if name.startswith(("cos", "all"))}
    assert {
        n: (w["cosine_weight"] > 0, w["norm_weight"] > 0, w["supervision_weight"] > 0) for n, w in weights.items()
    } == {
        "cos": (True, False, False),
        "cos_norm": (True, True, False),
        "cos_ms": (True, False, True),
        "all": (True, True, True),
        "all_released": (True, True, True),
    }


def check_that_the_item_table_is_the_run_of_sasrec_with_defaults(jobs, planner):
    """So that whoever has trained `model=sasrec data=amazon` does not train it again."""
    config = jobs["none"].config
    (part,) = dependency_configs(config).values()
    assert part.training == compose(("model=sasrec", "data=amazon")).training
    assert run_key(part, planner.stage(config)) == jobs["sasrec"].key


@pytest.fixture
def measuring(monkeypatch):
    """(measure, one): the modules of the efficiency study, imported as they import each other."""
    monkeypatch.syspath_prepend(str(EFFICIENCY))
    names = ("measure", "one", "tables")
    yield importlib.import_module("measure"), importlib.import_module("one")
    for name in names:
        sys.modules.pop(name, None)


def test_the_measuring_of_efficiency_measures_every_case(measuring, tmp_path, monkeypatch, capsys):
    measure, one = measuring

    def here(case):
        return one.measure(one.Case(**{**case, "prompt": tuple(case["prompt"])}))

    monkeypatch.setattr(measure, "start", here)
    gc.freeze()  # each case collects what others left, and need not look at what other tests made
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- /results -->\n")
    measure.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    with (tmp_path / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 3 * 3 * 2 + 3 + 2
    for row in found:
        assert float(row["seconds"]) > 0
        assert float(row["ms_per_user"]) == pytest.approx(1000 * float(row["seconds"]) / int(row["batch"]))
    deepest = [row for row in found if row["layers"] == "4"]
    assert {float(row["ratio_same_form"]) for row in deepest} == {1.0}
    by_layers = {row["layers"]: int(row["parameters_layers"]) for row in found if row["form"] == "none"}
    assert by_layers["4"] == 2 * by_layers["2"] == 4 * by_layers["1"]
    readme = (tmp_path / "README.md").read_text()
    for words in ("Inference, 4 users a batch", "every event, teacher's states from disk", "4 (paper)", "6.6", "8.0"):
        assert words in readme
    assert readme.split("<!-- /results -->")[0].strip().endswith(capsys.readouterr().out.strip())


def test_forms_of_the_prompt_score_alike_and_train_what_they_should(measuring, tmp_path):
    import torch

    _, one = measuring
    small = {"layers": 2, "width": 128, "batch": 3, "history": 5, "prompt": (3, 2), "n_items": 30}
    scores = {}
    for form in ("full", "prefix"):
        model = one.build(one.Case(form=form, task="inference", **small), 2, tmp_path).eval()
        with torch.no_grad():
            scores[form] = model.score(one.random_batch(one.Case(form=form, task="inference", **small)))
    assert torch.allclose(scores["full"], scores["prefix"], atol=1e-5)
    case = one.Case(form="full", task="one_target", **small)
    model, call = one.step_of(case, tmp_path)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    call()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora" in name or "item" in name or "prompt" in name for name in moved)


def test_the_answers_on_disk_are_those_of_the_teacher(measuring, tmp_path):
    import torch

    _, one = measuring
    small = {"layers": 1, "width": 128, "batch": 2, "history": 5, "n_items": 30, "teacher_layers": 2, "n_blocks": 1}
    losses = []
    for task in ("taught_offline", "taught_online"):
        case = one.Case(form="none", task=task, **small)
        model = one.build(case, 1, tmp_path).eval()
        torch.manual_seed(5)
        loss, modules = one.loss_of(case, model, one.random_batch(case), tmp_path)
        assert len(modules) == 2
        losses.append(float(loss().detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_one_case_in_a_process_of_its_own():
    """A process, as measure.py starts one."""
    case = {
        "layers": 1,
        "form": "none",
        "task": "inference",
        "width": 128,
        "batch": 2,
        "history": 4,
        "prompt": [3, 2],
        "repeats": 2,
    }
    command = [sys.executable, str(EFFICIENCY / "one.py"), json.dumps(case)]
    process = WarmProcess(command, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    found = json.loads(out.splitlines()[-1])
    assert found["peak_bytes"] >= found["libraries_bytes"] > 1e7
    assert found["repeats"] == 2


@pytest.mark.parametrize(
    "path", [p for p in STUDIES if (p.parent / "results.csv").is_file()], ids=lambda p: p.parent.name
)
def test_every_final_row_of_the_results_stands_in_the_table_of_the_readme(path):
    with (path.parent / "results.csv").open(encoding="utf-8") as file:
        rows = {record["row"] for record in csv.DictReader(file) if record["phase"] == "final"}
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    table = (
        text.partition(BEGIN)[2].partition(END)[0].replace(f" {markdown_text(MARK)}", "")
    )  # of rows with tuned values
    assert rows
    assert not {row for row in rows if f"| {row} |" not in table}
