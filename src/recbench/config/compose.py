"""From the words of a command line to a config: how they are opened for Hydra, composed, and how a mistake in them is explained."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.runs_address import placed
from recbench.config.schemas import GROUPS, conf_dir, one_line
from recbench.config.tuned import tuned_option
from recbench.core.errors import UserError, closest, nearest, plain_name
from recbench.core.other_names import OTHER_NAMES

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
    "model.base.",
    "model.search.",
    "model.start.",
    "model.guide.",
    "model.auxiliary_keys.",
    "training.selection_keys.",
    "data.rewards.",
    "data.rewards=",
)


def opened(argument: str) -> str:
    """A word of the command line as Hydra wants it: open nodes take any key, and ``tuned=NAME`` chooses values by name.

    Raises UserError for a name of tuned values that is none, and for an address of runs that cannot be written.
    """
    argument = placed(argument)
    key, _, value = argument.lstrip("+").partition("=")
    if key == "tuned":
        return f"tuned@_global_={tuned_option(value)}"
    if key.startswith("tuned."):
        raise UserError(f"{key} is no key to change; choose a file of values with tuned=NAME, or none with tuned=off")
    if argument in LAUNCHERS:
        return LAUNCHERS[argument]
    return f"++{argument}" if argument.startswith(OPEN_NODES) else argument


#: Under Hydra's own names of launchers stand ours, which keep a sweep alive when one of its processes is killed.
LAUNCHERS = {
    "hydra/launcher=joblib": "hydra/launcher=processes",
    "hydra/launcher=submitit_slurm": "hydra/launcher=cluster",
}


def launcher_words(arguments: list[str]) -> list[str]:
    """``hardware=slurm`` and ``hardware=ray`` send the jobs of a sweep to the cluster, unless another launcher is named."""
    named = any(argument.startswith("hydra/launcher=") for argument in arguments)
    is_sweep = {"-m", "--multirun"} & set(arguments)
    if not is_sweep or named:
        return []
    launchers = {"hardware=slurm": "cluster", "hardware=ray": "ray"}
    return [f"hydra/launcher={launcher}" for word, launcher in launchers.items() if word in arguments]


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
        return f"unknown key '{full}'{owner}; {_key_hint(full, parent)}"
    if str(cause).startswith("Ambiguous value"):
        return f"{one_line(cause)}: add -m for a sweep, or put brackets around the values for a list"  # type: ignore[arg-type]
    return one_line(cause)  # type: ignore[arg-type]


def _key_hint(key: str, parent: Any) -> str:
    """The end of the message for an unknown key: the nearest right one, of the same node or of another, and what its own node has.

    key: dotted; parent: the node of the composed config that lacks it.
    """
    siblings = [str(name) for name in parent if name not in INNER]
    word = key.rpartition(".")[2]
    if plain_name(word) not in map(plain_name, siblings) and (found := _elsewhere(word, parent._get_root(), siblings)):
        return f"did you mean '{found}'? known: {', '.join(siblings)}"
    return nearest(word, siblings)


def _elsewhere(word: str, root: DictConfig, siblings: Sequence[str]) -> str | None:
    """The dotted key of the config that is called so, by us or by other tools; of several the one that is least deep. A mere likeness counts
    only where no sibling is like the word."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(root, resolve=False)
    assert isinstance(plain, dict)
    keys = list(_dotted({str(name): part for name, part in plain.items() if name not in INNER}))
    same = [
        key
        for name in (plain_name(word), *OTHER_NAMES.get(plain_name(word), ()))
        for key in keys
        if plain_name(key.rpartition(".")[2]) == name
    ]
    if same:  # of equal depth, the one that is called so before the one that others call so
        return min(same, key=_depth)
    if closest(word, siblings) is not None:
        return None
    like = closest(word, [key.rpartition(".")[2] for key in keys], cutoff=0.75)
    return None if like is None else min((key for key in keys if key.rpartition(".")[2] == like), key=_depth)


def _depth(key: str) -> tuple[int, int]:
    """Keys that people change come first: fewest dots, then the order of FIRST."""
    group = key.partition(".")[0]
    return key.count("."), FIRST.index(group) if group in FIRST else len(FIRST)


def _dotted(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")


#: Nodes of a composed config that no word sets a key of.
INNER = ("hydra", "tuned")
#: Groups in which a key is looked for first.
FIRST = ("training", "model", "data", "evaluation", "hardware", "tracking")


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
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from recbench.config.hydra_source import TOP, register_sources

    register_sources()
    GlobalHydra.instance().clear()
    # This folder holds no config: all of them are found by our own source. (``initialize`` would look for its caller in the whole stack,
    # a quarter of the time.)
    with initialize_config_dir(str(Path(__file__).resolve().parent), version_base="1.3"):
        return hydra_compose(config_name=TOP, overrides=list(words))
