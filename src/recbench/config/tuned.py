"""Values that come from a file of ``conf/tuned``: which file, which of its values hold in the end, and what is said of them.

``conf/tuned/<model>-<data>.yaml`` is read by itself; ``tuned=NAME`` names another, in the folder ``tuned`` of the working folder or in
``conf/tuned``; ``tuned=off`` reads none, for the runs that a run needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.schemas import HERE, conf_dir, option_values
from recbench.config.settings import TunedConfig
from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from recbench.config.run import RunConfig

OFF = "off"
#: What reads as a list of names, and not as a function of Hydra's such as ``choice(a,b)``.
_NO_NAME = set("()[]{}*'\"$ ")


def tuned_option(names: str) -> str:
    """The names behind ``tuned=``, with commas between those of a sweep, as Hydra finds them. Raises UserError for one that is no file."""
    if _NO_NAME & set(names):
        return names
    return ",".join(map(_option, names.split(",")))


def _option(name: str) -> str:
    if name == OFF or name.startswith(HERE):
        return name
    if Path(f"tuned/{name}.yaml").is_file():
        return HERE + name
    if not is_shipped(name):
        there = sorted(
            {path.stem for folder in (conf_dir() / "tuned", Path("tuned")) for path in folder.glob("*.yaml")}
        )
        raise UserError(f"unknown tuned '{name}': there is no tuned/{name}.yaml; {nearest(name, [OFF, *there])}")
    return name


def is_shipped(name: str | None) -> bool:
    """Whether ``conf/tuned`` has a file of that name."""
    return bool(name) and (conf_dir() / "tuned" / f"{name}.yaml").is_file()


def flat_values(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values as dotted keys.

    >>> flat_values({"training": {"lr": 0.1}, "model": {"dropout": 0.2}})
    {'training.lr': 0.1, 'model.dropout': 0.2}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat_values(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def tuned_for_part(option: Any, data: str, of_whole: TunedConfig) -> TunedConfig:
    """What holds for a run that another one needs: its own automatic file, unless ``tuned=off`` holds for the whole."""
    name = f"{option}-{data}"
    if of_whole.name == OFF:
        return TunedConfig(OFF, name)
    if not is_shipped(name):
        return TunedConfig()
    values = {key: value for key, value in option_values("tuned", name).items() if key != "name"}
    return TunedConfig(name, name, flat_values(values))


def held_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stored config: key -> value, of the values that its tuned file says and that hold. Empty without such a file."""
    tuned = config.get("tuned")
    if not isinstance(tuned, Mapping) or tuned.get("name") in (None, OFF):
        return {}
    wanted = tuned.get("values")
    if not isinstance(wanted, Mapping):
        return {}
    held = flat_values({key: value for key, value in config.items() if key != "tuned"})
    return {key: value for key, value in wanted.items() if key in held and held[key] == value}


def tuned_file(config: Mapping[str, Any]) -> str:
    """The tuned file of a stored config, as ``tuned/sasrec-synthetic``; "" where none of its values holds."""
    tuned = config.get("tuned")
    if not isinstance(tuned, Mapping) or tuned.get("name") in (None, OFF):
        return ""
    # A study's results.csv tells the file alone.
    return shown_name(tuned["name"]) if "values" not in tuned or held_values(config) else ""


def shown_name(name: str) -> str:
    """
    >>> shown_name("sasrec-synthetic"), shown_name("here/mine")
    ('tuned/sasrec-synthetic', './tuned/mine.yaml')
    """
    if name.startswith(("tuned/", "./")):
        return name
    return f"./tuned/{name.removeprefix(HERE)}.yaml" if name.startswith(HERE) else f"tuned/{name}"


def tuned_lines(config: RunConfig, role: str = "") -> list[str]:
    """What is said of tuned values when a run begins; nothing where there is nothing to say. role: of a run that another one needs."""
    tuned, automatic = config.tuned, config.tuned.automatic
    before = f"{role}: " if role else ""
    if tuned.name == OFF:
        return (
            [f"{before}tuned=off: values from {shown_name(str(automatic))} are left out"]
            if is_shipped(automatic)
            else []
        )
    if tuned.name is None:
        return []
    held = held_values(config.as_dict())
    overruled = [key for key in tuned.values if key not in held]
    told = ", ".join(f"{_short(key)} {_text(value)}" for key, value in held.items())
    line = f"{before}values from {shown_name(tuned.name)}: {told or 'none that holds'}"
    if overruled:
        line += f"; overruled: {', '.join(map(_short, overruled))}"
    if tuned.name != automatic and is_shipped(automatic):
        line += f"; in place of {shown_name(str(automatic))}, which is read unless another is named"
    return [line + ("" if role else " (tuned=off: none)")]


def _short(key: str) -> str:
    return key.removeprefix("training.").removeprefix("model.")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
