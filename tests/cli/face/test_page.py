"""docs/python.md: its snippets run as they stand, in order, and its table names every function."""

from __future__ import annotations

import re
from inspect import isfunction
from pathlib import Path

import recbench

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "python.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_snippets_run_in_order(tmp_path, monkeypatch, capsys):
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) >= 12
    namespace: dict = {}
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, f"snippet {number + 1} of docs/python.md", "exec"), namespace)
    said = capsys.readouterr().out
    assert "sasrec seed 1" in said
    assert "did you mean 'sasrec'" in said
    assert "against popularity" in said
    assert namespace["worst"].height == 5
    assert len(namespace["broken"].failures) == 2
    assert namespace["history"].height > 0
    assert (tmp_path / "comparison.png").is_file()


def test_the_table_names_every_function():
    named = set(re.findall(r"^\| \[`(\w+)\(", PAGE, re.MULTILINE))
    assert named == {name for name in recbench.__all__ if isfunction(getattr(recbench, name))}


def test_every_link_within_the_page_leads_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= headings
