"""The command line: help without weight, one clear line for every mistake, sweeps that outlive their failures."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from recbench.models import registry

QUICK = ["model=popularity", "tracking=off"]


def one_line_of(finished):
    """The only thing that a mistake may print."""
    assert finished.status == 2, finished
    assert finished.out == ""
    lines = finished.err.splitlines()
    assert len(lines) == 1, finished.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # a typo in a key
        (["sed=3"], ["'sed'", "did you mean 'seed'"]),
        (["training.max_epoch=3"], ["training.max_epoch", "did you mean 'max_epochs'"]),
        (["model=sasrec", "model.hiden_size=3"], ["model.hiden_size", "did you mean 'hidden_size'"]),
        (["data.n_user=3"], ["data.n_user", "did you mean 'n_users'"]),
        (["hardware.acelerator=cpu"], ["hardware.acelerator", "did you mean 'accelerator'"]),
        (["tracking.url=x"], ["tracking.url", "did you mean 'uri'"]),
        (["distillation.n_block=2"], ["distillation.n_block", "did you mean 'n_blocks'"]),
        (["distillation.teacher.n_layer=2"], ["distillation.teacher.n_layer", "did you mean 'n_layers'"]),
        (["model.item_table.hiden_size=2"], ["model.item_table.hiden_size", "did you mean 'hidden_size'"]),
        (
            ["model.item_table.training.max_epoch=2"],
            ["model.item_table.training.max_epoch", "did you mean 'max_epochs'"],
        ),
        # the same behind Hydra's plus, which would let anything in
        (["+training.max_epoch=3"], ["training.max_epoch", "did you mean 'max_epochs'"]),
        (["++model.n_layer=3"], ["model.n_layer", "slmrec", "did you mean 'n_layers'"]),
        (["+sed=3"], ["'sed'", "did you mean 'seed'"]),
        # a key of something that was not chosen
        (["model=slmrec_plain", "distillation.teacher.n_layers=4"], ["distillation.teacher", "'none'"]),
        (["model=popularity", "model.item_table.hidden_size=4"], ["model.item_table", "'popularity'"]),
        # a typo in a group or an option
        (["protocl=temporal"], ["'protocl'", "did you mean 'protocol'"]),
        (["model=sasrek"], ["model 'sasrek'", "did you mean 'sasrec'"]),
        (["data=amazn"], ["data 'amazn'", "did you mean 'amazon'"]),
        (["protocol=temporl"], ["protocol 'temporl'", "did you mean 'temporal'"]),
        (["distillation=slmrek"], ["distillation 'slmrek'", "did you mean 'slmrec'"]),
        (["compression=pruned"], ["compression 'pruned'", "did you mean 'prune'"]),
        (["compression=prune", "compression.amout=0.5"], ["compression.amout", "did you mean 'amount'"]),
        (["compression.amount=0.5"], ["compression.amount", "'none'"]),
        (["hardware=gpuu"], ["hardware 'gpuu'", "did you mean 'gpu'"]),
        (["tracking=of"], ["tracking 'of'", "did you mean 'off'"]),
        (["model=3"], ["must be a string"]),
        (["model.name=markov", "model=popularity"], ["model.name", "model=markov"]),
        (["~tracking"], ["tracking is missing"]),
        (["~compression"], ["compression"]),
        (["model.item_table.model=sasrek"], ["model 'sasrek'", "did you mean 'sasrec'"]),
        # a wrong type
        (["training.max_epochs=many"], ["training.max_epochs", "many", "Integer"]),
        (["seed=null"], ["seed"]),
        (["model=sasrec", "model.dropout=high"], ["model.dropout", "high", "Float"]),
        (["data.n_users=some"], ["data.n_users", "some"]),
        (["tracking.enabled=maybe"], ["tracking.enabled", "maybe"]),
        (["evaluation.cutoffs=10"], ["evaluation.cutoffs"]),
        (["evaluation.cutoffs=[a]"], ["evaluation.cutoffs", "'a'"]),
        (["model.item_table.hidden_size=wide"], ["hidden_size", "wide"]),
        (["model.item_table.training.lr=fast"], ["model.item_table.training.lr", "fast"]),
        (["model.item_table.training=3"], ["model.item_table.training"]),
        # a value that makes no sense
        (["training.max_epochs=0"], ["training.max_epochs", "at least 1"]),
        (["training.batch_size=0"], ["training.batch_size", "at least 1"]),
        (["training.lr=-1"], ["training.lr", "positive"]),
        (["training.lr=nan"], ["training.lr", "positive"]),
        (["training.weight_decay=-1"], ["training.weight_decay", "at least 0"]),
        (["training.gradient_clip=-1"], ["training.gradient_clip", "at least 0"]),
        (["training.schedule=cosin"], ["training.schedule", "did you mean 'cosine'"]),
        (["seed=-1"], ["seed", "at least 0"]),
        (["evaluation.cutoffs=[]"], ["evaluation.cutoffs"]),
        (["evaluation.cutoffs=[0]"], ["evaluation.cutoffs"]),
        (["hardware.accelerator=cqu"], ["hardware.accelerator", "did you mean 'cpu'"]),
        (["hardware.devices=0"], ["hardware.devices", "at least 1"]),
        (["model.item_table.training.max_epochs=0"], ["training.max_epochs", "at least 1"]),
        (["data.transition=2"], ["data.transition", "between 0 and 1"]),
        (["data=table"], ["data.path"]),
        # what Hydra itself cannot read
        (["model"], ["'model'", "key=value"]),
        (["cache_dir=~/x"], ["cache_dir=~/x", "quotes"]),
        (["seed=1,2"], ["seed=1,2", "-m"]),
        (["-m", "tracking=off", "model=popularity,sasrek"], ["model 'sasrek'", "did you mean 'sasrec'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_that_names_it_and_the_way_out(cli, tiny, tmp_path, words, expected):
    # Tiny data, so that a mistake that slips through does not start something long.
    sizes = [word for word in tiny if word.startswith("data.")]
    chosen = [] if any(word.startswith("data=") for word in words) else sizes
    flags = [word for word in words if word.startswith("-")]
    message = one_line_of(cli(*flags, *chosen, *words[len(flags) :], cwd=tmp_path))
    assert [word for word in expected if word not in message] == []
    made = [path.name for path in tmp_path.rglob("*") if not path.is_dir()]
    assert made in ([], ["multirun.yaml"])  # Hydra notes what a sweep would have been


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_folder_that_cannot_be_written_is_named(cli, tiny, tmp_path, sweep):
    (tmp_path / "file").write_text("")
    finished = cli(*sweep, *tiny, *QUICK, f"runs_dir={tmp_path}/file/runs", cwd=tmp_path)
    assert finished.status == 2
    last = finished.err.splitlines()[-1]
    assert last.startswith("error: cannot write")
    assert f"{tmp_path}/file/runs" in last
    assert "runs_dir=PATH" in last
    assert "Traceback" not in finished.err


def test_a_cache_that_cannot_be_written_is_named(cli, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    message = one_line_of(cli(*tiny, *QUICK, f"cache_dir={tmp_path}/file/cache", cwd=tmp_path))
    assert f"{tmp_path}/file/cache" in message
    assert "cache_dir" in message


def test_a_gpu_that_is_not_there_is_told(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    finished = cli(*tiny, *QUICK, "hardware=gpu", cwd=tmp_path)
    assert finished.status == 2
    assert "hardware=cpu" in finished.err.splitlines()[-1]


def test_a_mistake_of_ours_keeps_its_traceback(cli, tiny, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("our fault")

    monkeypatch.setattr("recbench.experiment.evaluate.test", broken)
    finished = cli(*tiny, *QUICK, cwd=tmp_path)
    assert finished.status == 1
    assert "Traceback" in finished.err
    assert "our fault" in finished.err


def test_help_is_light_and_lists_what_there_is(tmp_path):
    code = (
        "import sys; sys.argv = ['recbench', '--help']\n"
        "from recbench.cli.main import main\n"
        "status = main()\n"
        "heavy = {'torch', 'hydra', 'polars', 'pytorch_lightning', 'transformers', 'mlflow', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy)); sys.exit(status)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert done.stderr == ""
    assert done.stdout.endswith("heavy: []\n")
    for word in (
        "sasrec",
        "slmrec_plain",
        "early_exit",
        "compression.",
        "amazon",
        "leave_one_out",
        "sampled_999",
        "training.",
        "--cfg job",
        "-m",
    ):
        assert word in done.stdout
    assert seconds < 2


def test_python_m_shows_the_same_help(cli, cli_process, tmp_path):
    out, err = cli_process("-h", cwd=tmp_path).communicate(timeout=60)
    assert (out, err) == (cli("--help", cwd=tmp_path).out, "")


def test_cfg_job_shows_what_would_run_and_runs_nothing(cli, tmp_path):
    import yaml

    finished = cli("--cfg", "job", "model=sasrec", "seed=7", "training.lr=3e-4", cwd=tmp_path)
    assert finished.status == 0, finished.err
    shown = yaml.safe_load(finished.out)
    assert shown["model"]["name"] == "sasrec"
    assert (shown["seed"], float(shown["training"]["lr"])) == (7, 3e-4)
    assert set(shown) == {
        "seed", "runs_dir", "cache_dir", "training", "evaluation",
        "model", "data", "protocol", "attack", "distillation", "compression", "hardware", "tracking", "tuned",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_run_prints_its_table_and_where_it_lies(cli, tiny, tmp_path):
    first = cli(*tiny, "model=markov", "tracking=off", cwd=tmp_path)
    assert first.status == 0, first.err
    for word in ("popularity", "markov", "best achievable", "leave_one_out-full-mask-v1", "test targets", "run: "):
        assert word in first.out
    assert "reused" not in first.out
    again = cli(*tiny, "model=markov", "tracking=off", cwd=tmp_path)
    assert again.status == 0
    assert again.out.count("reused") == 2
    assert len([path for path in (tmp_path / "runs").iterdir() if path.name[0] != "."]) == 2


def test_a_failed_job_does_not_end_a_sweep(cli, tiny, tmp_path, monkeypatch):
    from recbench.experiment import evaluate

    test = evaluate.test

    def fragile(model, *rest):
        if model.config.name == "itemknn":
            raise ZeroDivisionError("our fault")
        return test(model, *rest)

    monkeypatch.setattr(evaluate, "test", fragile)
    finished = cli("-m", *tiny, "model=popularity,itemknn,markov", cwd=tmp_path)
    assert finished.status == 1
    assert "2 of 3 jobs finished" in finished.out
    assert "failed: model=itemknn" in finished.out.replace("\n", " ") or "itemknn" in finished.out
    assert "ZeroDivisionError: our fault" in finished.out
    assert "markov" in finished.out
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("job-*.json"))]
    assert [record["status"] for record in records] == [0, 1, 0]
    # Mended, the same command trains the failed job only.
    monkeypatch.setattr(evaluate, "test", test)
    again = cli("-m", *tiny, "model=popularity,itemknn,markov", cwd=tmp_path)
    assert again.status == 0
    assert "3 of 3 jobs finished" in again.out


def test_a_sweep_fails_with_the_users_status_where_the_fault_is_theirs(cli, tiny, tmp_path):
    finished = cli("-m", *tiny, "model=markov", "model.backoff=0.1,7", cwd=tmp_path)
    assert finished.status == 2
    assert "error: model.backoff=7 must lie between 0 and 1" in finished.err
    assert "1 of 2 jobs finished" in finished.out


OUTSIDE = """
from dataclasses import dataclass

import torch

from recbench.models.base import ModelConfig
from recbench.models.closed_form import ClosedForm
from recbench.models.registry import register


@dataclass
class ConstantConfig(ModelConfig):
    name: str = "constant"
    value: float = 1.0


@register("constant", ConstantConfig)
class Constant(ClosedForm):
    state_names = ("scores",)

    def fit_to(self, train):
        self.set_state("scores", torch.full((train.n_items + 1,), self.config.value))

    def score(self, batch):
        return self.scores.repeat(len(batch), 1)
"""


@pytest.fixture
def outside(install):
    """A package that is not ours, installed with an entry point."""
    install("their_models", "models", {"constant": "their_models"}, their_models=OUTSIDE)


def test_a_model_of_another_package_needs_no_file_of_ours(cli, tiny, tmp_path, outside):
    assert "constant" in registry.model_names()
    assert "their_models" not in sys.modules
    finished = cli(*tiny, "model=constant", "model.value=2", cwd=tmp_path)
    assert finished.status == 0, finished.err
    (metrics,) = (tmp_path / "runs").glob("constant-*/metrics.json")
    # A constant model scores at chance: it ranks among the items that were not seen.
    found = json.loads(metrics.read_text())
    assert found["test/tied"] == 1
    assert found["test/hr@10"] == 0
    assert "constant" in cli("--help", cwd=tmp_path).out
    message = one_line_of(cli(*tiny, "model=constant", "model.valu=2", cwd=tmp_path))
    assert "did you mean 'value'" in message
    assert "did you mean 'constant'" in one_line_of(cli(*tiny, "model=constnt", cwd=tmp_path))


def test_a_name_can_be_registered_by_one_class_only():
    registry.lookup("popularity")
    with pytest.raises(ValueError, match="'popularity' is registered twice"):

        @registry.register("popularity", object)
        class Impostor:
            pass
