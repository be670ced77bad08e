"""What MkDocs does for this site beside turning pages into HTML: it fills in the generated tables and brings in files from outside ``docs/``."""

from __future__ import annotations

import api
import outside
import papers
import results
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

#: Marker on a page -> what stands in its place.
GENERATED = {
    "<!-- generated: api -->": api.page,
    "<!-- generated: papers -->": papers.page,
    "<!-- generated: results -->": results.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live elsewhere in the repository, such as the studies and the changelog."""
    for name, content in outside.pages().items():
        files.append(File.generated(config, name, content=content))
    for name, path in outside.attachments().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the generated parts; then send links that leave ``docs/`` to where the site has what they name."""
    for marker, make in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return outside.links_of_the_site(markdown, page.file.src_uri)
