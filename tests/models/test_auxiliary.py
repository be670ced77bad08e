"""Names and numbers of auxiliaries that make no sense, and what of them enters the key of a run."""

from __future__ import annotations

import pytest

from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.models.auxiliary import AUXILIARIES, AuxiliaryConfig, check_auxiliaries
from recbench.models.base import ModelConfig
from recbench.models.checks import check_number
from recbench.models.sequential.sasrec import SASRecConfig

WRONG = [
    (
        ["model.auxiliary=[cl4sre]"],
        r"unknown model\.auxiliary 'cl4sre'; did you mean 'cl4srec'\? known: cl4srec, duorec",
    ),
    (["model.auxiliary=[duorec,duorec]"], "names 'duorec' twice"),
    (["model.auxiliary=[duorec]", "model.duorec.weight=0"], r"model\.duorec\.weight must be a number above 0, not 0"),
    (["model.auxiliary=[duorec]", "model.duorec.temperature=nan"], r"model\.duorec\.temperature .* not nan"),
    (["model.auxiliary=[cl4srec]", "model.cl4srec.mask=1"], r"model\.cl4srec\.mask .*at least 0 and below 1, not 1"),
    (["model.auxiliary=[cl4srec]", "model.cl4srec.crop=0"], r"model\.cl4srec\.crop .*above 0 and at most 1|at most 1"),
    (["model.auxiliary=[mclrec]", "model.mclrec.stages=papr"], r"model\.mclrec\.stages 'papr'; did you mean 'paper'"),
    (["model.auxiliary=[mclrec]", "model.mclrec.augmenter_sizes=[0]"], r"augmenter_sizes must be positive"),
    (["model.auxiliary=[mclrec]", "model.mclrec.random_weight=-1"], r"random_weight must be a number at least 0"),
    (["model.auxiliary=[mclrec]", "model.mclrec.lr=0"], r"model\.mclrec\.lr must be a number above 0"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_mistake_is_told_before_anything_is_read(run_config, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run_config(tmp_path, "model=sasrec", *words)


def test_a_typo_on_the_command_line_is_one_line_and_status_2(cli, tiny, tmp_path):
    done = cli(*tiny, "model=sasrec", "model.auxiliary=[mclrek]", cwd=tmp_path)
    assert done.status == 2
    assert (
        done.err
        == "error: unknown model.auxiliary 'mclrek'; did you mean 'mclrec'? known: cl4srec, duorec, fairrec, llm_cf, mclrec, rationale, sra_cl, vat\n"
    )
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.parametrize("key", ["model.cl4srec.wieght", "model.item_table.duorec.wieght"])
def test_a_typo_in_a_key_names_the_nearest(cli, tiny, tmp_path, key):
    model = "slmrec" if "item_table" in key else "sasrec"
    done = cli(*tiny, f"model={model}", f"{key}=1", cwd=tmp_path)
    assert done.status == 2
    assert "wieght" in done.err
    assert len(done.err.splitlines()) == 1


def test_wrong_keys_of_what_is_not_named_are_left_alone(run_config, tmp_path):
    assert run_config(tmp_path, "model=sasrec", "model.duorec.weight=0").model.duorec.weight == 0


def test_a_model_without_these_keys_has_no_auxiliaries():
    check_auxiliaries(ModelConfig())


def test_a_dependency_with_a_mistake_is_named_before_it_is_trained(cli, tiny, tmp_path):
    done = cli(*tiny, "model=slmrec", "model.item_table.auxiliary=[duore]", cwd=tmp_path)
    assert done.status == 2
    assert "did you mean 'duorec'?" in done.err


def test_every_auxiliary_has_its_keys_under_its_name():
    assert set(AUXILIARIES) | {"auxiliary", "auxiliary_keys"} == set(AuxiliaryConfig.__dataclass_fields__)


def test_at_their_defaults_they_leave_the_key_of_a_run_as_it_was():
    assert not set(key_values(SASRecConfig())) & {"auxiliary", *AUXILIARIES}


def test_what_is_changed_enters_the_key():
    config = SASRecConfig(auxiliary=["cl4srec"])
    config.cl4srec.weight = 0.2
    values = key_values(config)
    assert values["auxiliary"] == ["cl4srec"]
    assert values["cl4srec"]["weight"] == 0.2
    assert "duorec" not in values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.0])
def test_a_number_outside_its_bounds_is_refused(value):
    with pytest.raises(UserError, match="k must be a number at least 0 and below 1"):
        check_number("k", value, least=0.0, below=1.0)
    check_number("k", 0.0, least=0.0, below=1.0)
