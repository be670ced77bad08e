"""The keys of finished runs never change by accident: a stored list of configs, each with the key it has had since it was first made.

A mend that must move a result gets a field or a model version that enters that model's key alone; its lines in ``run_keys.json`` are then
edited by hand, with a `[Breaking]` line in CHANGELOG.md.
"""

import json
from pathlib import Path

import pytest

from recbench.config.compose import compose
from recbench.core.errors import UserError
from recbench.experiment.context import Stage
from recbench.experiment.dependencies import check_dependencies, check_lists, check_requirements
from recbench.experiment.key import run_key

STORED = json.loads(Path(__file__).with_name("run_keys.json").read_text())
MODELS = sorted({label.split()[0] for label in STORED})


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return {"cache": tmp_path_factory.mktemp("cache")}


def key_of(label, stages):
    """The key of a line of the list, or the message where that config is refused."""
    model, *axis = label.split()
    words = (f"model={model}", "data=synthetic", "data.n_users=120", "data.n_items=60", "tracking=off", *axis)
    try:
        config = compose((*words, f"cache_dir={stages['cache']}"))
        check_dependencies(config)
        if config.protocol.name not in stages:
            stages[config.protocol.name] = Stage.of(config)
        stage = stages[config.protocol.name]
        check_requirements(config, stage.data)
        check_lists(config, stage)
        return run_key(config, stage)
    except UserError as error:
        return f"error: {error}"


@pytest.mark.parametrize("model", MODELS)
def test_keys_are_those_of_the_list(model, stages):
    expected = {label: key for label, key in STORED.items() if label.split()[0] == model}
    assert {label: key_of(label, stages) for label in expected} == expected
