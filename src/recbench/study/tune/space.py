"""Search spaces: ``conf/tuning/<model>.yaml``, a mapping from keys to the values to try, in the words of Hydra's command line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from recbench.config.foreign import refuse_foreign_word
from recbench.config.schemas import conf_dir, option_values
from recbench.core.errors import UserError, nearest
from recbench.study.values import as_mapping, key_of, last_of_each, read_yaml


def chosen(words: Sequence[str], group: str, default: str | None = None) -> str:
    """The option that the words choose of a group. Raises UserError where there is none."""
    found = [word.split("=", 1)[1] for word in words if key_of(word) == group]
    if not found and default is None:
        raise UserError(f"say what to tune with {group}=NAME")
    return found[-1] if found else str(default)


def space_words(model: str, words: Sequence[str], path: Path | None = None) -> list[str]:
    """The space of a model as words, less the keys that the given words set. A variant such as esasrec has its model's space.

    Raises UserError where there is no space, and none in the words.
    """
    names = [model, str(option_values("model", model)["name"])]
    files = [path] if path is not None else [conf_dir() / "tuning" / f"{name}.yaml" for name in names]
    there = next((file for file in files if file.is_file()), None)
    if there is None:
        if path is None and any(_is_searched(word) for word in words):
            return []
        known = sorted(file.stem for file in (conf_dir() / "tuning").glob("*.yaml"))
        what = f"there is no file {path}" if path is not None else f"there is no search space for model={model}"
        raise UserError(
            f"{what}; {nearest(model, known)}; or give the values to try, as in 'training.lr=tag(log, interval(1e-4, 1e-2))'"
        )
    set_already = {key_of(word) for word in words}
    found = [
        f"{key}={values}" for key, values in as_mapping(read_yaml(there), str(there)).items() if key not in set_already
    ]
    for word in found:
        refuse_foreign_word(word, str(there))
    return found


def _is_searched(word: str) -> bool:
    return word.split("=", 1)[-1].startswith(("interval(", "choice(", "range(", "tag("))


def search_name(name: str, words: Sequence[str], seed: int, jobs: int) -> str:
    """Name of a search's folder: the same for the same words, whatever its budget, so that a larger one goes on with it."""
    kept = sorted(
        word
        for word in last_of_each(tuple(words))
        if not word.startswith(("runs_dir=", "tracking", "hardware", "hydra"))
    )
    return f"{name}-{hashlib.blake2b(repr((kept, seed, jobs)).encode(), digest_size=4).hexdigest()}"
