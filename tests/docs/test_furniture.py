"""The files around the code: the workflow, the container file, the templates and the hooks name what exists."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTAINER = (ROOT / "Containerfile").read_text()


def test_the_workflow_calls_ci_run_with_every_python_that_we_name() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    assert job["strategy"]["matrix"]["python"] == named == ["3.11", "3.12", "3.13"]
    (step,) = [step for step in job["steps"] if step.get("run") == ".ci/run"]
    assert step["env"]["PYTHON"] == "python${{ matrix.python }}"
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "PYTHON=${PYTHON:-python3}" in script.read_text()


def test_both_targets_of_the_container_install_the_tested_versions() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", CONTAINER, re.MULTILINE)
    assert {"cpu", "cuda"} <= {name for _, name in stages}
    installs = re.findall(r"pip install (.*?)(?: &&|$)", CONTAINER, re.MULTILINE)
    assert len(installs) == 4
    assert all("--constraint constraints.txt" in line for line in installs)
    extras = {extra for group in re.findall(r"\.\[([a-z0-9,]+)\]", CONTAINER) for extra in group.split(",")}
    assert extras <= set(PROJECT["project"]["optional-dependencies"])


def test_the_image_is_given_all_that_the_wheel_is_made_of() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {path.split("/")[0] for path in [*wheel["packages"], *wheel["force-include"]]}
    assert (
        needed | {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= let_through
    )
    assert all((ROOT / path).exists() for path in let_through)


def test_pins_are_exact_and_cover_every_extra() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[name.lower().replace("_", "-")] = version
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(
            word
            for name, words in PROJECT["project"]["optional-dependencies"].items()
            if name != "int8"
            for word in words
        ),
    ]
    for word in wanted:
        name = re.split(r"[\[<>=]", word)[0].lower().replace("_", "-")
        assert name == "recbench" or name in pins, word


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_templates_are_forms_with_questions(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert set(form) <= {"blank_issues_enabled", "contact_links"}
        return
    assert form["name"]
    assert form["description"]
    assert all(part["type"] in ("textarea", "input", "checkboxes", "dropdown", "markdown") for part in form["body"])
    identifiers = [part["id"] for part in form["body"] if "id" in part]
    assert len(identifiers) == len(set(identifiers))


def test_hooks_run_what_make_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = [repo for repo in hooks["repos"] if repo["repo"] == "local"]
    assert {hook["entry"].split()[0] for hook in local["hooks"]} == {"ruff", "mypy"}


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["project"]["license"]
