"""Executed notebooks of ``docs/`` as pages: their text, their code, and what each cell printed, drew or returned."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]


def notebooks() -> dict[str, str]:
    """Page of the site -> its Markdown, for each notebook."""
    return {
        f"{path.stem}.md": page(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(DOCS.glob("*.ipynb"))
    }


def page(notebook: dict[str, Any]) -> str:
    """One notebook, cell by cell. Cells without output show their code alone."""
    language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    parts = []
    for cell in notebook["cells"]:
        source = _text(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(_fenced(source, language))
            parts += filter(None, map(_output, cell["outputs"]))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """A picture before a table, a table before plain text; an error as the notebook shows it."""
    if output["output_type"] == "stream":
        return _fenced(_text(output["text"]).rstrip(), "text")
    if output["output_type"] == "error":
        return _fenced(f"{output['ename']}: {output['evalue']}", "text")
    data = output.get("data", {})
    if "image/png" in data:
        return f"![what the cell drew](data:image/png;base64,{''.join(_text(data['image/png']).split())})"
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", _text(data["text/html"]), flags=re.DOTALL)
        return " ".join(html.split())
    return _fenced(_text(data.get("text/plain", "")).rstrip(), "text")


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text}\n````" if text else ""


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
