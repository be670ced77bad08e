"""docs/from_csv_to_plot.ipynb: stored with its outputs, and it still runs from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[3] / "docs" / "from_csv_to_plot.ipynb"


def outputs_of(cells):
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def check(cells):
    """No cell failed, and the last things are there: the table of the comparison, the plot, the recommendations."""
    outputs = outputs_of(cells)
    assert [output for output in outputs if output["output_type"] == "error"] == []
    text = json.dumps(outputs)
    for word in ("against popularity", "image/png", "customer-007", "test/ndcg@10"):
        assert word in text, word


def test_it_is_stored_as_it_was_run():
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    check(stored["cells"])
    assert NOTEBOOK.stat().st_size < 100_000
    # Nothing of the machine that it was run on.
    assert [word for word in ("/home/", "/tmp/", "/root/", "/work") if word in NOTEBOOK.read_text()] == []


@pytest.mark.slow  # it trains two small models in a process of its own: 15 s of CPU
def test_it_runs(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check(notebook.cells)
    assert (tmp_path / "purchases.csv").is_file()
