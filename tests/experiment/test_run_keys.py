"""The keys of finished runs never change by accident: a stored list of configs, each with the key it has had since it was first made.

A mend that must move a result gets a field or a model version that enters that model's key alone; its lines in ``run_keys.json`` are then
edited by hand, with a `[Breaking]` line in CHANGELOG.md.
"""

import json
import shutil
from pathlib import Path

import pytest

from recbench.config.compose import compose
from recbench.config.schemas import conf_dir
from recbench.core.errors import UserError
from recbench.experiment.context import RunContext
from recbench.experiment.dependencies import check_dependencies, check_lists, check_requirements
from recbench.experiment.key import run_key

STORED = json.loads(Path(__file__).with_name("run_keys.json").read_text())
MODELS = sorted({label.split()[0] for label in STORED})


#: The files of ``conf/tuned`` for data=synthetic that there were when the list was made. Later ones are new values, and so other runs: they are
#: left out here, so that the list goes on holding the keys of one and the same values.
TUNED_THEN = {f"{model}-synthetic.yaml" for model in ("e4srec", "sasrec", "slmrec", "slmrec_plain")}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return {"cache": tmp_path_factory.mktemp("cache")}


@pytest.fixture(scope="module", autouse=True)
def values_of_then(tmp_path_factory):
    """``conf/`` without what was tuned for data=synthetic since."""
    folder = tmp_path_factory.mktemp("values") / "conf"
    shutil.copytree(conf_dir(), folder)
    for path in folder.glob("tuned/*-synthetic.yaml"):
        if path.name not in TUNED_THEN:
            path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("schemas", "hydra_source"):
            patch.setattr(f"recbench.config.{module}.conf_dir", lambda: folder)
        yield


def key_of(label, stages):
    """The key of a line of the list, or the message where that config is refused."""
    model, *axis = label.split()
    words = (f"model={model}", "data=synthetic", "data.n_users=120", "data.n_items=60", "tracking=off", *axis)
    try:
        config = compose((*words, f"cache_dir={stages['cache']}"))
        check_dependencies(config)
        if config.protocol.name not in stages:
            stages[config.protocol.name] = RunContext.of(config)
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
