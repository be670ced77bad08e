"""From the words of a command line to a config: how they are opened for Hydra, composed, and how a mistake in them is explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbench.config.schemas import HERE, one_line
from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from recbench.config.run import RunConfig

#: Nodes that take the keys of whatever model they name. Hydra would ask for a '+' before a key that is not there by default.
OPEN_NODES = ("distillation.teacher.", "model.item_table.", "model.graph.", "model.tokenizer.")


def opened(argument: str) -> str:
    """A word of the command line as Hydra wants it: open nodes take any key, and ``tuned=NAME`` chooses values by name."""
    if argument.startswith("tuned="):
        names = argument.removeprefix("tuned=").split(",")
        return "tuned@_global_=" + ",".join(
            HERE + name if Path(f"tuned/{name}.yaml").is_file() else name for name in names
        )
    if argument in LAUNCHERS:
        return LAUNCHERS[argument]
    return f"++{argument}" if argument.startswith(OPEN_NODES) else argument


#: Under Hydra's own names of launchers stand ours, which keep a sweep alive when one of its processes is killed.
LAUNCHERS = {
    "hydra/launcher=joblib": "hydra/launcher=processes",
    "hydra/launcher=submitit_slurm": "hydra/launcher=cluster",
}


def launcher_words(arguments: list[str]) -> list[str]:
    """``hardware=slurm`` sends the jobs of a sweep to the cluster, unless another launcher is named."""
    named = any(argument.startswith("hydra/launcher=") for argument in arguments)
    is_sweep = {"-m", "--multirun"} & set(arguments)
    return ["hydra/launcher=cluster"] if is_sweep and "hardware=slurm" in arguments and not named else []


def explain(error: Exception) -> str:
    """One line for an error of Hydra's or OmegaConf's, with the nearest right name where there is one."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}'; write key=value, with quotes around special characters, as in \"key='~/a b'\""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        known = [str(name) for name in error.options or []]
        return f"unknown {group or 'config'} '{option}'; {nearest(option, known)}"
    cause = error.__cause__ if error.__cause__ is not None else error
    if isinstance(cause, UserError):
        return str(cause)
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if type(cause).__name__ in ("ConfigAttributeError", "ConfigKeyError") and parent is not None:
        full = str(getattr(cause, "full_key", key))
        chosen = parent._get_node("name") if "name" in parent else None
        owner = f" for {full.rpartition('.')[0]} '{chosen}'" if chosen is not None else ""
        return f"unknown key '{full}'{owner}; {nearest(str(key), [str(name) for name in parent if name != 'hydra'])}"
    if str(cause).startswith("Ambiguous value"):
        return f"{one_line(cause)}: put -m before the keys for a sweep, or brackets around the values for a list"  # type: ignore[arg-type]
    return one_line(cause)  # type: ignore[arg-type]


def compose(words: tuple[str, ...]) -> RunConfig:
    """The config of a command line, without running it. Raises UserError as the command line would."""
    from hydra import compose as hydra_compose
    from hydra import initialize
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from recbench.config.hydra_source import TOP, SchemaSource, SearchPath
    from recbench.config.run import RunConfig

    Plugins.instance().register(SchemaSource)
    Plugins.instance().register(SearchPath)
    try:
        GlobalHydra.instance().clear()
        with initialize(version_base="1.3", config_path=None):
            return RunConfig.from_hydra(hydra_compose(config_name=TOP, overrides=[opened(word) for word in words]))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
