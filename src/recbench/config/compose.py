"""From the words of a command line to a config: how they are opened for Hydra, composed, and how a mistake in them is explained."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.config.schemas import GROUPS, HERE, conf_dir, one_line
from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recbench.config.run import RunConfig

#: Nodes that take the keys of whatever model they name. Hydra would ask for a '+' before a key that is not there by default.
OPEN_NODES = (
    "distillation.teacher.",
    "model.item_table.",
    "model.graph.",
    "model.tokenizer.",
    "model.retriever.",
    "model.auxiliary_keys.",
)


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


@contextmanager
def plain_mistakes() -> Iterator[None]:
    """What Hydra and OmegaConf say of a mistake in the words, as a UserError of one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's, for such as model=3
            raise
        raise UserError(one_line(error)) from error


def compose(words: tuple[str, ...]) -> RunConfig:
    """The config of a command line, without running it. Raises UserError as the command line would."""
    from recbench.config.run import RunConfig

    with plain_mistakes():
        return RunConfig.from_hydra(composed(words))


def composed(words: Sequence[str]) -> DictConfig:
    """What Hydra composes of the words of a command line.

    Words that only set values are laid over what the other words choose, which is composed once: the rows and seeds of a study
    mostly differ in values. Raises the errors of Hydra and OmegaConf.
    """
    words = [opened(word) for word in words]
    chosen = tuple(word for word in words if not VALUE.fullmatch(word))
    if any(not _from_our_files(word) for word in chosen):
        return _by_hydra(words)
    same = (str(conf_dir()), chosen)
    if same not in _bases:
        _bases[same] = _by_hydra(chosen)
    found = _with_values(_bases[same], [word for word in words if VALUE.fullmatch(word)])
    return _by_hydra(words) if found is None else found


#: A word that sets one value, and so chooses no file: a key of a group, or one of the top that is no group.
VALUE = re.compile(r"((\+\+)?(?!hydra\.)[a-z]\w*(\.\w+)+|seed|runs_dir|cache_dir)=.*", re.DOTALL)

#: What was composed of words that choose files alone.
_bases: dict[tuple[str, tuple[str, ...]], DictConfig] = {}


def _from_our_files(word: str) -> bool:
    """Whether a word chooses a file of ``conf/``, which does not change while we run."""
    group, _, option = word.partition("=")
    return group in GROUPS and (conf_dir() / group / f"{option}.yaml").is_file()


def _with_values(base: DictConfig, words: list[str]) -> DictConfig | None:
    """A copy of the base with the values of the words; None where Hydra has something to say to them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    found = copy.deepcopy(base)
    try:
        for override in OverridesParser.create().parse_overrides(words):
            if override.is_sweep_override():
                return None
            OmegaConf.update(
                found, override.key_or_group, override.value(), merge=True, force_add=override.is_force_add()
            )
    except (HydraException, OmegaConfBaseException):
        return None
    return found


def _by_hydra(words: Sequence[str]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize
    from hydra.core.global_hydra import GlobalHydra

    from recbench.config.hydra_source import TOP, register_sources

    register_sources()
    GlobalHydra.instance().clear()
    with initialize(version_base="1.3", config_path=None):
        return hydra_compose(config_name=TOP, overrides=list(words))
