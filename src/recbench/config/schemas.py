"""Which keys each option of a group has: values laid over the dataclass that stands beside the code it builds.

``conf/`` holds values only. A key that no dataclass knows, or a value of the wrong type, is a UserError that names the nearest right one.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import recbench
from recbench.config.settings import HardwareConfig, RayConfig, SlurmConfig, TrackingConfig, TrainingConfig
from recbench.core.errors import UserError, first_line, nearest
from recbench.core.yaml_text import load_yaml
from recbench.models.registry import lookup, model_names
from recbench.posthoc.compression.configs import config_class as compression_class

#: Before the name of an option of ``tuned``: it lies in the folder ``tuned`` of the working folder, where a search wrote it.
HERE = "here/"

#: The Hydra groups of a run, each with a schema.
GROUPS = ("model", "data", "protocol", "attack", "distillation", "compression", "hardware", "tracking")


def schema_of(group: str, name: str) -> type:
    """The dataclass that says which keys an option of a group has; imports only the room that holds it."""
    if group == "model":
        return lookup(name).config
    if group == "data":
        from recbench.data.sources import config_class

        return config_class(name)
    if group == "protocol":
        from recbench.data.protocol import protocol_class

        return protocol_class(name)
    if group == "attack":
        from recbench.data.attack import attack_class

        return attack_class(name)
    if group == "distillation":
        from recbench.objectives.distillation.configs import config_class as distillation_class

        return distillation_class(name)
    if group == "compression":
        return compression_class(name)
    if group == "hardware":
        return {"slurm": SlurmConfig, "ray": RayConfig}.get(name, HardwareConfig)
    return TrackingConfig


def registered(group: str) -> list[str]:
    """The names of a group that need no YAML file, such as those of other packages; imports none of what they stand for."""
    if group == "model":
        return model_names()
    if group == "data":
        from recbench.data.sources import source_names

        return source_names()
    if group == "protocol":
        from recbench.data.protocol import protocol_names

        return protocol_names()
    if group == "distillation":
        from recbench.objectives.distillation.configs import distillation_names

        return distillation_names()
    return []


def with_schema(group: str, name: str, values: Mapping[str, Any]) -> DictConfig:
    """Values of one option laid over its dataclass. Raises UserError for unknown keys and wrong types, with the nearest right key."""
    schema = _schema(schema_of(group, name))
    known = [str(key) for key in schema]
    for key in values:
        if key not in known:
            raise UserError(f"unknown key '{group}.{key}' for {group} '{name}'; {nearest(str(key), known)}")
    try:
        return OmegaConf.merge(schema, dict(values))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{group} '{name}': {one_line(error)}") from error


@functools.cache
def _schema(kind: type) -> DictConfig:
    """A dataclass as OmegaConf reads it. It is copied by whoever lays values over it."""
    return OmegaConf.structured(kind)


#: Values that were laid over their dataclass, by all that this depends on: sweeps and reports read the same few hundreds of times.
_known_options: dict[tuple[str, str, type, str], DictConfig] = {}
#: So many are remembered.
MOST_OPTIONS = 2000


def known_option(group: str, name: str, values: Mapping[str, Any]) -> DictConfig:
    """``with_schema``, remembered: a config that many share, to be copied by whoever changes it."""
    same = (group, name, schema_of(group, name), repr(values))
    if same not in _known_options:
        if len(_known_options) >= MOST_OPTIONS:
            _known_options.clear()
        _known_options[same] = with_schema(group, name, values)
    return _known_options[same]


#: A value that stands in another place, and may be a node there; whatever else is to be worked out is none.
ELSEWHERE = re.compile(r"\$\{[^:{}]+\}")


def refuse_stray_keys(node: DictConfig, where: str = "") -> None:
    """Raise UserError for a key that no dataclass knows. Hydra lets one in behind a '+', and nothing would ever read it."""
    schema = OmegaConf.get_type(node)
    known = [f.name for f in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else None
    for key, child in node.items_ex(resolve=False):
        path = f"{where}.{key!s}".lstrip(".")
        if known is not None and key not in known:
            owner = f" for {where} '{node['name']}'" if "name" in known else ""
            raise UserError(f"unknown key '{path}'{owner}; {nearest(str(key), known)}")
        if isinstance(child, DictConfig) or (isinstance(child, str) and ELSEWHERE.fullmatch(child)):
            inner = node[key]
            if isinstance(inner, DictConfig):
                refuse_stray_keys(inner, path)


def refuse_interpolation(values: Any, where: str = "") -> None:
    """Raise UserError for a stored value such as ``${oc.env:HOME}``, which OmegaConf would fill from this machine; what we store is resolved."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            refuse_interpolation(value, f"{where}.{key}".lstrip("."))
    elif isinstance(values, list | tuple):
        for value in values:
            refuse_interpolation(value, where)
    elif isinstance(values, str) and "${" in values:
        raise UserError(
            f"the stored config asks for a value of this machine ({where}={values[:80]}); it was not written by recbench"
        )


def conf_dir() -> Path:
    """The folder of YAML values: inside an installed package, at the top of a checkout."""
    package = Path(recbench.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def read_values(text: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; read by libyaml where PyYAML has it, which is ten times as fast."""
    return load_yaml(text) or {}


def option_values(group: str, option: str) -> dict[str, Any]:
    """The values of ``conf/<group>/<option>.yaml`` less its defaults list; only the name for an option without a file."""
    path = conf_dir() / group / f"{option}.yaml"
    values = read_values(path.read_text(encoding="utf-8")) if path.is_file() else {}
    values.pop("defaults", None)
    return {"name": option, **values}


def compose_model(keys: Mapping[str, Any], where: str, data: str, use_tuned: bool = True) -> tuple[Any, dict[str, Any]]:
    """A model config from loose keys such as ``{"model": "sasrec", "hidden_size": 128, "training": {"lr": 1e-4}}``.

    Returns (config dataclass, training keys to change). ``where`` is the place of the keys on the command line, for messages; ``data`` the
    name of the data, for which ``conf/tuned`` may hold better values than the model's own, unless ``use_tuned`` is False. Raises UserError
    for an unknown model or key.
    """
    rest = dict(keys)
    training = rest.pop("training", None) or {}
    option = rest.pop("model", None)
    if not option or not isinstance(option, str):
        raise UserError(f"{where}.model is missing: name a registered model")
    if not isinstance(training, Mapping):
        raise UserError(f"{where}.training must hold training keys, as in {where}.training.max_epochs=50")
    tuned = option_values("tuned", f"{option}-{data}") if use_tuned else {}
    training = {**tuned.get("training", {}), **training}
    values = {**option_values("model", option), **tuned.get("model", {})}
    schema = schema_of("model", values["name"])
    known = [f.name for f in dataclasses.fields(schema)]
    for key in rest:
        if key not in known:
            raise UserError(f"unknown key '{where}.{key}' for model '{option}'; {nearest(key, [*known, 'training'])}")
    known_training = [f.name for f in dataclasses.fields(TrainingConfig)]
    for key in training:
        if key not in known_training:
            raise UserError(f"unknown key '{where}.training.{key}'; {nearest(key, known_training)}")
    # A study asks for the same few models hundreds of times. What is kept is copied, as its lists can be changed.
    same = (schema, repr((values, rest, training)))
    if same not in _models:
        try:
            typed = OmegaConf.merge(OmegaConf.structured(TrainingConfig), dict(training))
        except OmegaConfBaseException as error:
            raise UserError(f"{where}.training.{one_line(error)}") from error
        model = OmegaConf.to_object(known_option("model", values["name"], {**values, **rest}))
        _models[same] = model, {key: typed[key] for key in training}
    return copy.deepcopy(_models[same])


#: Model configs by their dataclass and all that was given for them.
_models: dict[tuple[type, str], tuple[Any, dict[str, Any]]] = {}


def one_line(error: Exception) -> str:
    """The first line of an OmegaConf or Hydra message, with the key it speaks of."""
    text = first_line(error)
    key = getattr(error, "full_key", None)
    return f"{key}: {text}" if key and str(key) not in text else text
