"""What README tells people to type works as written."""

import json
import re
from pathlib import Path

import pytest

from recbench.cli.main import help_text
from recbench.models import registry

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def model_of_readme(install):
    """The model that README shows, as a module of somebody's package."""
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    install("somebodys", "models", {"mine": "model_of_readme"}, model_of_readme=source)


def test_its_model_trains_and_beats_popularity(cli, tiny, tmp_path, model_of_readme):
    finished = cli(
        *tiny, "model=mine", "model.hidden_size=32", "training.max_epochs=15", "training.lr=0.01", cwd=tmp_path
    )
    assert finished.status == 0, finished.err
    score = {}
    for path in (tmp_path / "runs").glob("*/metrics.json"):
        score[path.parent.name.split("-")[0]] = json.loads(path.read_text())["test/ndcg@10"]
    assert score["mine"] > score["popularity"]


def test_its_table_names_every_model():
    table = README[README.index("## Models") : README.index("## Configuration")]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named >= set(registry.model_names())


def test_its_groups_name_every_option():
    options = dict(
        line.split(maxsplit=1) for line in help_text().splitlines() if line.startswith("  ") and ", " in line
    )
    table = README[README.index("## Configuration") : README.index("### Data")]
    for group in ("data", "protocol", "distillation", "compression", "hardware", "tracking"):
        (row,) = re.findall(rf"^\| `{group}` \| ([^|]*)\|", table, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == set(options[group].split(", ")), group
