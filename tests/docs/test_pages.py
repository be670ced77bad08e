"""README, the pages of ``docs/`` and the files beside them: their links resolve, their tables are complete, their versions agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from recbench import __version__
from recbench.cli.main import help_text
from recbench.models import registry
from recbench.report.notes import MARK
from recbench.report.writers import markdown_text
from tests.fixtures.shown_commands import PAGES, ROOT

TEXTS = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md"))]
STUDIES = sorted((ROOT / "experiments").glob("*/README.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"```.*?```", re.DOTALL)


def anchor(heading: str) -> str:
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", [*TEXTS, *STUDIES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_resolve(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" in target or (path in STUDIES and target == "results.csv"):  # a study that was not run has none yet
            continue
        file, _, name = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{path.name} links to {target}"
        if name and place.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert name in map(anchor, headings), f"{path.name} links to {target}"


def test_readme_is_short_and_shows_a_report() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    file = ROOT / picture
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size < 400_000


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_dump(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"])
    for path in PAGES[1:]:
        assert re.search(rf"\b{re.escape(path.name)}", nav), f"{path.name} is not in mkdocs.yml"


def test_the_four_places_of_the_version_agree() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1] == __version__


def test_the_models_page_names_every_model() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    options = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert named == set(registry.BUILT_IN) | options


def test_the_groups_of_the_start_page_name_every_option() -> None:
    options = dict(
        line.split(maxsplit=1) for line in help_text().splitlines() if line.startswith("  ") and ", " in line
    )
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    for group in ("data", "protocol", "distillation", "compression", "hardware", "tracking"):
        (row,) = re.findall(rf"^\| `{group}` \| ([^|]*)\|", page, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == set(options[group].split(", ")), group


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {
        path.name for path in (ROOT / "src" / "recbench").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert set(re.findall(r"^\| \d+ \| `(\w+)/` \|", page, re.MULTILINE)) == rooms


@pytest.fixture(scope="module")
def scripts() -> object:
    """The modules that make the generated parts of the site, in a process that can import them."""
    sys.path.insert(0, str(ROOT / "docs" / "scripts"))
    try:
        import api
        import notebooks
        import outside
        import papers
        import results

        yield {"api": api, "notebooks": notebooks, "outside": outside, "papers": papers, "results": results}
    finally:
        sys.path.remove(str(ROOT / "docs" / "scripts"))


def test_the_paper_index_has_a_head_for_every_model(scripts) -> None:
    page = scripts["papers"].page()
    for name in registry.BUILT_IN:
        assert re.search(rf"^### {name} \{{ #", page, re.MULTILINE), name
    assert (
        "| [sasrec](#sequential-sasrec) | Kang and McAuley, ICDM 2018 | `sasrec`, `esasrec`, `gsasrec`, `sasrec_original` |"
        in page
    )


def test_the_results_page_agrees_with_the_tables_of_the_studies(scripts) -> None:
    results = scripts["results"]
    compared = 0
    for folder in results.studies():
        definition = yaml.safe_load((folder / "study.yaml").read_text())
        metric = definition["columns"][0]
        measured = (folder / "README.md").read_text().partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
        measured = measured.replace(f" {markdown_text(MARK)}", "")  # of rows with tuned values
        theirs = dict(re.findall(r"^\| (\w+) \| ([\d.]+(?: ± [\d.]+)?) \|", measured, re.MULTILINE))
        ours = dict(re.findall(r"^\| (\w+) \| ([\d.]+(?: ± [\d.]+)?) \|", results.study_section(folder), re.MULTILINE))
        assert ours == theirs, (folder.name, metric)
        compared += len(ours)
    assert compared > 60


def test_readme_repeats_what_the_study_measured(scripts) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    study = scripts["results"].study_section(ROOT / "experiments" / "sequential_beauty")
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| (\w+) \| (.*) \|$", study, re.MULTILINE)}
    names = {
        "`sasrec` with `model.auxiliary=[duorec]`": "duorec",
        "`esasrec` with the full softmax": "esasrec_full_softmax",
    }
    shown = re.findall(r"^\| (`.*?) \| (\.\d.*) \|$", readme.split("## What it measured")[1], re.MULTILINE)
    assert len(shown) >= 10
    for label, cells in shown:
        ndcg, hr, parameters, seconds, seeds = cells.split(" | ")
        row = rows[names.get(label) or re.findall(r"`(\w+)`", label)[0]]
        assert [ndcg, hr, parameters, seconds, seeds] == [row[0], row[1], row[4], row[5], row[6]], label


def test_links_to_studies_hold_in_the_site(scripts) -> None:
    change = scripts["outside"].links_of_the_site
    assert change("[a](../experiments/sessions/README.md)", "results.md") == "[a](studies/sessions.md)"
    assert change("[a](../slmrec_depth/README.md#verdict)", "studies/tokenizers.md") == "[a](slmrec_depth.md#verdict)"
    assert change("[a](results.csv)", "studies/sessions.md") == "[a](sessions/results.csv)"
    assert change("[a](docs/models.md)", "contributing.md") == "[a](models.md)"
    assert change("![c](scale.svg)", "studies/benchmarks.md") == "![c](scale.svg)"
    assert change("[CI](../.ci/run)", "start.md") == "`CI`"
    assert change("[gone](../nowhere.md)", "start.md") == "[gone](../nowhere.md)"


def test_the_api_page_has_what_plug_in_packages_may_import(scripts) -> None:
    import recbench.models

    offered = scripts["api"].offered("recbench.models")
    assert len(offered) == len(set(offered)) == len(recbench.models.__all__)
    assert all(f"::: {name}" in scripts["api"].page() for name in offered)


def test_a_notebook_becomes_a_page(scripts) -> None:
    plot = {"output_type": "display_data", "data": {"image/png": "aGVs\nbG8=", "text/plain": "<Figure>"}}
    frame = {
        "output_type": "execute_result",
        "data": {"text/html": ["<style>x</style>", "<table>\n<td>1</td></table>"]},
    }
    said = {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "import recbench", "outputs": []},
        {"cell_type": "code", "source": "draw()", "outputs": [said, frame, plot]},
    ]
    page = scripts["notebooks"].page({"cells": cells, "metadata": {}}, "shop")
    assert page.pictures == {"shop_1.png": b"hello"}
    assert page.markdown == (
        "# Title\ntext\n\n````python\nimport recbench\n````\n\n````python\ndraw()\n````\n\n````text\none\ntwo\n````\n\n"
        "<table> <td>1</td></table>\n\n![what the cell drew](shop_1.png)\n"
    )
    assert scripts["outside"].links_of_the_site("[n](a.ipynb)", "python.md") == "[n](a.md)"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|iframe|link)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text(encoding="utf-8")
        )
        assert fetched == [], page.name
