"""ONNX: every model that torch.export takes goes on to ONNX, and onnxruntime scores as the model does."""

from __future__ import annotations

import json

import pytest
import torch

from recbench.cli.export import folder as module
from recbench.cli.export import onnx_program
from recbench.cli.export.command import main
from recbench.cli.export.onnx_program import onnx_scorer, save_onnx
from recbench.cli.export.program import export_model, input_names, inputs_of, largest_difference
from recbench.cli.recommend.command import main as recommend_main
from recbench.core.errors import UserError
from recbench.experiment.run import run
from tests.cli.export.test_folder import SASREC, readme_code, without_recbench
from tests.cli.export.test_program import NAMES, REFUSED, batch_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


#: A model that torch.export takes and ONNX does not, and the operation that is lacking.
NOT_IN_ONNX = {"ials": "cholesky"}
#: Compilation takes seconds each: one of every kind of operation is always tested, the others with the slow tests.
ALWAYS = ("sasrec",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.slow])
        for name in NAMES
        if name not in (*REFUSED, *NOT_IN_ONNX)
    ],
)
def test_onnxruntime_scores_any_number_of_histories_as_the_model_does(name, opened_of, tmp_path):
    opened = opened_of(name)
    width = opened.config.training.max_length
    try:
        program = export_model(opened.model, name, batch_of(opened, 5), width)
    except UserError as error:
        pytest.skip(str(error))  # what torch.export refuses is a matter of test_program.py
    save_onnx(program, opened.model, name, tmp_path / "model.onnx")
    score = onnx_scorer(tmp_path / "model.onnx", input_names(opened.model))
    batches = [batch_of(opened, n) for n in (1, 2, 5, 33)]
    assert largest_difference(score, opened.model, batches, width) < 1e-4
    assert score(*inputs_of(opened.model, batches[-1], width)).shape == (33, opened.stage.data.n_items + 1)


@pytest.mark.parametrize("name", NOT_IN_ONNX)
def test_a_model_that_onnx_lacks_an_operation_for_says_so_in_one_line(name, opened_of, tmp_path):
    opened = opened_of(name)
    program = export_model(opened.model, name, batch_of(opened, 5), opened.config.training.max_length)
    with pytest.raises(UserError, match=f"'{name}' cannot be exported as ONNX: .*{NOT_IN_ONNX[name]}") as caught:
        save_onnx(program, opened.model, name, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def made(run_config, tmp_path_factory):
    return run(run_config(tmp_path_factory.mktemp("runs"), *SASREC))


def test_the_folder_is_enough_without_recbench_and_torch(made, tmp_path, capsys):
    to = tmp_path / "out"
    assert main([str(made.folder.path), "--to", str(to), "--format", "onnx"]) == 0
    assert {path.name for path in to.iterdir()} == {
        "model.onnx",
        "items.parquet",
        "items.json",
        "export.json",
        "README.md",
    }
    assert json.loads((to / "export.json").read_text())["format"] == "onnx"
    blocked = "import sys\nsys.modules['torch'] = None\n"
    told = eval(without_recbench(blocked + readme_code(to), to))
    example = json.loads((to / "items.json").read_text())[1][0]
    capsys.readouterr()
    assert recommend_main([str(made.folder.path), "--history", example, "--k", "10", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["answers"][0]["items"]
    assert [name for name, _ in told] == [row["item"] for row in expected]


def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(made, tmp_path, monkeypatch, capsys):
    def fails(*arguments, **keys):
        raise RuntimeError("advice\nin lines") from ValueError("no such operation\nmore")

    monkeypatch.setattr(torch.onnx, "export", fails)
    assert main([str(made.folder.path), "--to", str(tmp_path / "out"), "--format", "onnx"]) == 2
    said = capsys.readouterr().err
    assert "'sasrec' cannot be exported as ONNX: no such operation; leave out --format onnx" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_graph_that_scores_otherwise_is_not_written(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "onnx_scorer", lambda *a: lambda *b: onnx_scorer(*a)(*b) + 0.01)
    assert main([str(made.folder.path), "--to", str(tmp_path / "out"), "--format", "onnx"]) == 2
    assert "does not score as the model does" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(monkeypatch, made, tmp_path, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'recbench\[onnx\]'"):
        onnx_program.check_packages()
    assert main([str(made.folder.path), "--to", str(tmp_path / "out"), "--format", "onnx"]) == 2
    assert "needs the extra 'onnx'" in capsys.readouterr().err
