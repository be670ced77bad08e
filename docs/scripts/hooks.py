"""What MkDocs does for this site beside turning pages into HTML: it fills in the generated tables and brings in files from outside ``docs/``."""

from __future__ import annotations

import re

import api
import notebooks
import outside
import papers
import results
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

#: Name of a generated part -> what makes it. On its page it stands between two markers, around a word for those who read the page elsewhere.
GENERATED = {"api": api.page, "papers": papers.page, "results": results.page}
PART = re.compile(r"<!-- generated: (\w+) -->.*?<!-- /generated -->", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live elsewhere in the repository, such as the studies and the changelog, and those made of notebooks."""
    for name, content in outside.pages().items():
        files.append(File.generated(config, name, content=content))
    for name, notebook in notebooks.notebooks().items():
        for picture, drawn in notebook.pictures.items():
            files.append(File.generated(config, picture, content=drawn))
        files.append(File.generated(config, name, content=notebook.markdown))
    for name, path in outside.attachments().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the generated parts; then send links that leave ``docs/`` to where the site has what they name."""
    markdown = PART.sub(lambda part: GENERATED[part[1]](), markdown)
    return outside.links_of_the_site(markdown, page.file.src_uri)
