"""The registry of sources: names, cheap imports, YAML values that match the dataclasses."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recbench.core.errors import UserError
from recbench.data.sources import config_class, lookup, source_names

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"


def test_an_unknown_source_gets_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown data source 'amazn'; did you mean 'amazon'\? known: amazon, "):
        lookup("amazn")


@pytest.mark.parametrize("name", [name for name in source_names() if name != "synthetic"])
def test_the_yaml_says_every_key_and_its_default(name):
    values = OmegaConf.load(CONF / f"{name}.yaml")
    expected = OmegaConf.to_container(OmegaConf.structured(config_class(name)))
    if name != "amazon":
        expected["text"] = {}  # its keys stand in the file of amazon, to which the others point
    if name != "synthetic":
        expected |= {"features": {}, "knowledge": {}, "users": {}}  # theirs stand in the file of synthetic
    assert OmegaConf.to_container(values) == expected


def test_sources_are_known_without_importing_anything_heavy():
    code = (
        f"from recbench.data.sources import lookup; import sys\nfor name in {source_names()!r}: lookup(name); "
        "print(name, sorted({'torch', 'polars', 'pyarrow', 'scipy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in source_names()]
