"""The index of models, made from the heads of their files: paper, options, what is different, what deviates.

A head is the docstring of a model's module. Its first paragraph names the paper in square brackets.
"""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from recbench.models.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "recbench"
FAMILY_TITLES = {
    "counting": "Counting",
    "sequential": "Sequential",
    "session": "Session graphs",
    "language": "Language models",
    "generative": "Generators of item codes",
    "tokenizers": "Item codes",
    "selection": "Selections of training events",
}
#: Beside the models: what is laid over a loss, and what is done to a finished model.
BESIDE = {
    "Distillation objectives": "objectives/distillation",
    "Contrastive terms": "objectives/contrastive",
    "Compression": "posthoc/compression",
}
#: Words with which a paragraph about deviations begins.
DEVIATES = re.compile(
    r"^(Deviation|Where this deviates|What differs|Other deviations|What .{1,40} changes? against"
    r"|What all .{1,20} change|After the (paper's )?abstract)",
    re.MULTILINE,
)


class Head(NamedTuple):
    """What the head of a module says."""

    name: str
    path: Path
    title: str
    paper: str
    text: str

    @property
    def anchor(self) -> str:
        return f"{self.path.parent.name}-{self.name}".lower().replace("_", "-")


def head_of(name: str, path: Path) -> Head:
    """Read the docstring at the top of a file. Raises ValueError if there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path} has no docstring")
    first = " ".join(text.split("\n\n")[0].split())
    papers = re.findall(r"\[([^\[\]]*(?:19|20|arXiv)[^\[\]]*)\]", first)
    title = re.sub(r"\s*\[[^\[\]]*\]", "", first.split(". ")[0].rstrip(".")).removesuffix(":")
    return Head(name, path, title, "; ".join(papers), text)


def model_file(name: str, family: str) -> Path:
    """A model's module: a file of its name, or the head of a folder of its name."""
    folder = SOURCES / "models" / family
    alone = folder / f"{name}.py"
    return alone if alone.is_file() else folder / name / "__init__.py"


def models() -> dict[str, list[Head]]:
    """Family -> the heads of its models, in the order of the registry."""
    return {family: [head_of(name, model_file(name, family)) for name in names] for family, names in FAMILIES.items()}


def options() -> dict[str, list[str]]:
    """Registered name -> what can stand behind ``model=`` for it: itself, and the named configs of ``conf/model``."""
    found: dict[str, list[str]] = {name: [name] for names in FAMILIES.values() for name in names}
    for path in sorted((ROOT / "conf" / "model").glob("*.yaml")):
        name = yaml.safe_load(path.read_text(encoding="utf-8")).get("name", path.stem)
        if path.stem not in found.get(name, []):
            found.setdefault(name, []).append(path.stem)
    return found


def beside(folder: str) -> list[Head]:
    """Heads of the modules of a folder that name a paper in their first paragraph, or are a compression."""
    heads = [head_of(path.stem, path) for path in sorted((SOURCES / folder).glob("[a-z]*.py"))]
    known = ("int8", "prune", "early_exit")
    return [head for head in heads if head.paper or head.name in known]


def as_markdown(text: str) -> str:
    """A docstring as Markdown: double backquotes become single ones, lists get their blank line, and < stays a character."""
    lines: list[str] = []
    for line in text.split("\n"):
        is_code = line.startswith("    ")
        if not is_code:
            line = "".join(map(_prose, re.split(r"(``.+?``|`[^`]+`)", line))).replace("``", "`")
        before = lines[-1] if lines else ""
        if line.startswith("- ") and before and not before.startswith(("- ", "  ")):
            lines.append("")
        if not line.startswith(("- ", "  ")) and line and before.startswith(("- ", "  ")) and before.strip():
            lines.append("")
        if (
            is_code
            and before
            and not before.startswith("    ")
            and not before.startswith("- ")
            and not before.startswith("  ")
        ):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _prose(part: str) -> str:
    """Text outside of code, with what Markdown would misread made harmless. ``*word*`` stays emphasis."""
    if part.startswith("`"):
        return part
    harmless = html.escape(part, quote=False).replace("[", r"\[").replace("*", r"\*")
    return re.sub(r"\\\*(\w[\w -]*)\\\*", r"*\1*", harmless)


def page() -> str:
    """The tables and, below them, every head in full."""
    named = options()
    tables, full = [], []
    for family, heads in models().items():
        tables.append(f"### {FAMILY_TITLES.get(family, family.capitalize())}\n")
        tables.append("| model | paper | options of `model=` | file | deviations |\n|---|---|---|---|---|")
        for head in heads:
            says = f"[in its head](#{head.anchor})" if DEVIATES.search(head.text) else "none named"
            choices = ", ".join(f"`{option}`" for option in named[head.name])
            file = head.path.relative_to(SOURCES / "models")
            paper = html.escape(head.paper, quote=False)
            tables.append(f"| [{head.name}](#{head.anchor}) | {paper} | {choices} | `{file}` | {says} |")
        tables.append("")
        full += [section(head) for head in heads]
    for title, folder in BESIDE.items():
        heads = beside(folder)
        tables.append(f"### {title}\n\n| name | paper |\n|---|---|")
        tables += [f"| [{head.name}](#{head.anchor}) | {html.escape(head.paper, quote=False)} |" for head in heads]
        tables.append("")
        full += [section(head) for head in heads]
    return "\n".join(tables) + "\n\n## The heads in full\n\n" + "\n\n".join(full)


def section(head: Head) -> str:
    """One head in full under its name."""
    return f"### {head.name} {{ #{head.anchor} }}\n\n`{head.path.relative_to(ROOT)}`\n\n{as_markdown(head.text)}"
