"""Files of the repository that the site shows although they lie outside ``docs/``, and the links to them.

A link on a page is written so that it works in the repository, as in ``../experiments/sessions/README.md``. The site has that file under
another name, ``studies/sessions.md``. What the site has not is named without a link.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def sources() -> dict[str, str]:
    """Page of the site -> file of the repository."""
    studies = {
        f"studies/{p.parent.name}.md": f"experiments/{p.parent.name}/README.md"
        for p in ROOT.glob("experiments/*/README.md")
    }
    return dict(sorted(studies.items())) | {
        "studies/log.md": "experiments/LOG.md",
        "studies/benchmarks.md": "benchmarks/RESULTS.md",
        "studies/how_benchmarks_run.md": "benchmarks/README.md",
        "changelog.md": "CHANGELOG.md",
        "contributing.md": "CONTRIBUTING.md",
        "releasing.md": "RELEASING.md",
    }


def attachments() -> dict[str, Path]:
    """File of the site that is no page -> where it lies: what the studies commit, and the chart of the benchmarks."""
    found = {"studies/scale.svg": ROOT / "benchmarks" / "scale.svg"}
    for path in sorted(ROOT.glob("experiments/*/*")):
        if path.suffix in (".csv", ".yaml"):
            found[f"studies/{path.parent.name}/{path.name}"] = path
    return found


def pages() -> dict[str, str]:
    """Page of the site -> its Markdown."""
    return {name: (ROOT / path).read_text(encoding="utf-8") for name, path in sources().items()}


def links_of_the_site(markdown: str, page: str) -> str:
    """The Markdown of a page with its relative links as they hold in the site. Links within ``docs/`` stay as they are."""
    here = posixpath.dirname(sources().get(page, f"docs/{page}"))
    moved = {path: name for name, path in sources().items()}
    moved |= {str(path.relative_to(ROOT)): name for name, path in attachments().items()}

    def place(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        inside = posixpath.normpath(posixpath.join(here, path))
        in_site = moved.get(inside) or (inside.removeprefix("docs/") if inside.startswith("docs/") else None)
        if in_site and in_site.endswith(".ipynb"):
            in_site = in_site.removesuffix(".ipynb") + ".md"  # its page
        if in_site is None:
            if not (ROOT / inside).exists():
                return found[0]  # a broken link stays one, and fails the build
            return text if "`" in text else f"`{text}`"
        relative = os.path.relpath(in_site, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({relative}{hash_}{anchor})"

    return LINK.sub(place, markdown)
