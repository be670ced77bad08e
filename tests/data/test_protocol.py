"""Protocol configs: what is refused, and what the ids say."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recbench.core.errors import UserError
from recbench.data.protocol import PROTOCOLS, LeaveOneOutConfig, SampledConfig, SessionsConfig, TemporalConfig

CONF = Path(__file__).resolve().parents[2] / "conf" / "protocol"


@pytest.mark.parametrize(
    ("config", "has_repeats", "expected"),
    [
        (LeaveOneOutConfig(), False, "leave_one_out-full-mask-v1"),
        (LeaveOneOutConfig(), True, "leave_one_out-full-keep-v1"),
        (LeaveOneOutConfig(seen_items="keep"), False, "leave_one_out-full-keep-v1"),
        (TemporalConfig(), True, "temporal-q0.8-q0.9-last-full-keep-v1"),
        (TemporalConfig(target="random", seed=3), False, "temporal-q0.8-q0.9-random.s3-full-mask-v1"),
        (TemporalConfig(cold_targets="drop"), False, "temporal-q0.8-q0.9-last-nocold-full-mask-v1"),
        (
            TemporalConfig(validation_date="2014-01-01", test_date="2014-02-01T12:30:00+01:00"),
            False,
            "temporal-d20140101-d20140201T113000Z-last-full-mask-v1",
        ),
        (SampledConfig(), False, "leave_one_out-uniform999.s0-mask-v1"),
        (SessionsConfig(), False, "sessions-q0.9-full-keep-v1"),
        (SessionsConfig(test_days=7, min_item_count=5, seen_items="auto"), False, "sessions-d7-min5-full-mask-v1"),
        (
            SessionsConfig(count_over_all=True, strict_cuts=True, fit_on_validation=True),
            True,
            "sessions-q0.9-overall-strict-fitval-full-keep-v1",
        ),
        (SampledConfig(n_candidates=99, seed=7), False, "leave_one_out-uniform99.s7-mask-v1"),
    ],
)
def test_id_names_every_choice(config, has_repeats, expected):
    config.validate()
    assert config.identity(config.resolve_seen_items(has_repeats)) == expected


@pytest.mark.parametrize(
    ("published", "asked", "expected"),
    [
        ({"test_days": 7, "min_item_count": 5}, {}, "sessions-d7-min5-full-keep-v1"),
        ({"test_days": 7, "min_item_count": 5}, {"test_days": 0, "min_item_count": 0}, "sessions-q0.9-full-keep-v1"),
        ({"test_days": 1, "train_fraction": "1/64"}, {"test_days": 2}, "sessions-d2-last1of64-full-keep-v1"),
        ({"border": True}, {}, "sessions-given-q0.9-full-keep-v1"),
        ({"border": True}, {"test_days": 3}, "sessions-d3-full-keep-v1"),
    ],
)
def test_sessions_are_cut_as_published_unless_told_otherwise(published, asked, expected):
    assert SessionsConfig(**asked).rule(published).identity("keep") == expected


def test_sampled_metrics_carry_another_name():
    assert SampledConfig(n_candidates=99).metric_prefix == "sampled99_"
    assert LeaveOneOutConfig().metric_prefix == TemporalConfig().metric_prefix == ""


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LeaveOneOutConfig(seen_items="msk"), ["seen_items=msk", "auto, mask, keep"]),
        (TemporalConfig(target="first"), ["target=first", "last, successive, random, all"]),
        (TemporalConfig(cold_targets="no"), ["cold_targets=no", "keep, drop"]),
        (TemporalConfig(test_date="2014-01-01"), ["validation_date", "or neither"]),
        (TemporalConfig(validation_date="2014-02-01", test_date="2014-01-01"), ["must lie before"]),
        (TemporalConfig(validation_date="1.2.2014", test_date="2015-01-01"), ["validation_date=1.2.2014", "ISO date"]),
        (TemporalConfig(validation_date="2014-01-01T00:00:00.5", test_date="2015-01-01"), ["whole second"]),
        (TemporalConfig(validation_quantile=0.9, test_quantile=0.8), ["0 < validation_quantile < test_quantile < 1"]),
        (TemporalConfig(test_quantile=1.0), ["0 < validation_quantile < test_quantile < 1"]),
        (TemporalConfig(seed=-1), ["seed=-1"]),
        (SampledConfig(n_candidates=0), ["n_candidates=0"]),
        (SampledConfig(seed=-1), ["seed=-1"]),
        (SessionsConfig(test_quantile=1.0), ["test_quantile=1.0", "between 0 and 1"]),
        (SessionsConfig(test_days=-1), ["test_days=-1"]),
        (SessionsConfig(min_item_count=-1), ["min_item_count=-1"]),
    ],
)
def test_wrong_values_are_refused_by_name(config, words):
    with pytest.raises(UserError) as error:
        config.validate()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_yaml_holds_exactly_the_defaults_of_the_schema(name):
    values = OmegaConf.load(CONF / f"{name}.yaml")
    schema = OmegaConf.structured(PROTOCOLS[name])
    assert OmegaConf.to_container(values) == OmegaConf.to_container(schema)
    assert set(values) == {field.name for field in fields(PROTOCOLS[name])}
    restored = OmegaConf.to_object(OmegaConf.merge(schema, values))
    assert restored == PROTOCOLS[name]()


def test_configs_are_light_to_import():
    heavy = "torch", "polars", "scipy", "pytorch_lightning"
    code = f"import sys, recbench.data.protocol; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
