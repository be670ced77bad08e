"""Executed notebooks of ``docs/`` as pages: their text, their code, and what each cell printed, drew or returned."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parents[1]


class Notebook(NamedTuple):
    """A notebook as a page. pictures: file beside the page -> its bytes.

    (Within the page, as a ``data:`` address, MkDocs would change them: it tidies what looks like a path.)
    """

    markdown: str
    pictures: dict[str, bytes]


def notebooks() -> dict[str, Notebook]:
    """Page of the site -> the notebook that it is made of."""
    found = sorted(DOCS.glob("*.ipynb"))
    return {f"{path.stem}.md": page(json.loads(path.read_text(encoding="utf-8")), path.stem) for path in found}


def page(notebook: dict[str, Any], stem: str) -> Notebook:
    """One notebook, cell by cell. Cells without output show their code alone. stem: how the names of its pictures begin."""
    language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = _text(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(_fenced(source, language))
            for output in cell["outputs"]:
                drawn = output.get("data", {}).get("image/png")
                if drawn is not None:
                    name = f"{stem}_{len(pictures) + 1}.png"
                    pictures[name] = base64.b64decode(_text(drawn))
                    parts.append(f"![what the cell drew]({name})")
                else:
                    parts.append(_output(output))
    return Notebook("\n\n".join(filter(None, parts)) + "\n", pictures)


def _output(output: dict[str, Any]) -> str:
    """A table before plain text; an error as the notebook shows it."""
    if output["output_type"] == "stream":
        return _fenced(_text(output["text"]).rstrip(), "text")
    if output["output_type"] == "error":
        return _fenced(f"{output['ename']}: {output['evalue']}", "text")
    data = output.get("data", {})
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", _text(data["text/html"]), flags=re.DOTALL)
        return " ".join(html.split())
    return _fenced(_text(data.get("text/plain", "")).rstrip(), "text")


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text}\n````" if text else ""


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
