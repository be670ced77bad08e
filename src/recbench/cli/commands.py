"""The commands beside a run, by name: which module answers to which first word. None of them is imported before it is asked for.

Another package adds commands through the entry-point group ``recbench.commands``: each entry is ``name = "package.module"``, a module with a
function ``main(arguments: list[str]) -> int``, whose docstring's first line stands in the help.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

from recbench.core.errors import UserError, closest, nearest, plain_name
from recbench.core.plug_ins import PlugIns, package_of
from recbench.models.registry import model_names


class Command(NamedTuple):
    """A module whose ``main`` takes the words behind the command, and one line for the help."""

    module: str
    summary: str


BUILT_IN = {
    "audit": Command(
        "recbench.cli.audit.command", "what to know of a data set and a protocol before believing a number"
    ),
    "board": Command("recbench.cli.board", "the rows of all studies on one page, from what the studies commit"),
    "compare": Command("recbench.cli.compare", "finished runs judged against each other"),
    "doctor": Command("recbench.cli.doctor.command", "what this machine has, and what is missing for which model"),
    "evaluate": Command("recbench.cli.evaluate.command", "test a finished run on other data, by another protocol"),
    "export": Command("recbench.cli.export.command", "the model of a run as a program for plain torch"),
    "export-split": Command(
        "recbench.cli.foreign.split_command", "a prepared split as files that RecBole or RecTools reads"
    ),
    "import-results": Command(
        "recbench.cli.foreign.results_command", "ranks or lists of another framework, beside our runs"
    ),
    "language-model": Command(
        "recbench.cli.language_model", "a small pretrained language model for model.backbone, without a model hub"
    ),
    "mcp": Command("recbench.cli.mcp.command", "finished runs as tools for a language model (extra 'mcp')"),
    "probe": Command(
        "recbench.cli.probe.command",
        "ask a finished run what its figures do not say: probe sae, extraction, loop or leakage RUN",
    ),
    "recommend": Command("recbench.cli.recommend.command", "what a finished run recommends"),
    "report": Command("recbench.cli.report", "the page and the tables of a study, or of a folder of runs"),
    "runs": Command("recbench.cli.runs", "the runs of a folder: list, show, remove, and clear what nobody needs"),
    "study": Command("recbench.cli.study", "run what is missing of a study, then write its table"),
    "tracking": Command("recbench.cli.tracking", "send finished runs to a tracking server that was away"),
    "tune": Command("recbench.cli.tune", "search for better values (extra 'tune')"),
    "write-texts": Command(
        "recbench.cli.texts.command", "a language model writes about training histories, for rationale and llm_cf"
    ),
}


#: The commands of other packages.
PLUG_INS = PlugIns("recbench.commands", "command", BUILT_IN)


def summaries() -> dict[str, str]:
    """All commands by name, those of other packages too, with a line for the help; nothing is imported."""
    ours = {name: command.summary for name, command in BUILT_IN.items()}
    others = {name: f"from {package_of(PLUG_INS.point(name))}" for name in PLUG_INS.names()}
    return dict(sorted({**others, **ours}.items()))


def say_clashes(word: str | None = None) -> None:
    """Say on stderr which commands of other packages are not used, because recbench has one of that name. word: only of this name."""
    for name, package in PLUG_INS.clashes():
        if word in (None, name):
            print(
                f"the package {package} brings a command '{name}', which is a name of recbench's own: recbench's is used; rename it there",
                file=sys.stderr,
            )


def is_command(word: str) -> bool:
    """Whether a first word asks for a command: it is no flag and changes no key.

    >>> [is_command(word) for word in ("report", "model=sasrec", "-m", "+experiment=mini", "~tracking")]
    [True, False, False, False, False]
    """
    return "=" not in word and word[:1] not in ("-", "+", "~", "")


def find(word: str) -> Callable[[list[str]], int]:
    """The ``main`` of a command. Raises UserError for a word that is none, with the nearest one, and for a package that cannot be loaded."""
    say_clashes(word)
    if word in BUILT_IN:
        main: Callable[[list[str]], int] = importlib.import_module(BUILT_IN[word].module).main
        return main
    if word not in PLUG_INS:
        hint = nearest(word, list(summaries()))
        if (model := closest(word, model_names(), cutoff=0.8)) is not None and plain_name(word) == plain_name(model):
            hint = f"for that model write model={model}; {hint}"
        raise UserError(f"'{word}' is neither a command nor key=value; {hint}; recbench --help lists both")
    loaded = PLUG_INS.load(word)
    found: Callable[[list[str]], int] | None = loaded if callable(loaded) else getattr(loaded, "main", None)
    if found is None:
        raise PLUG_INS.refusal(word, "has no function main")
    return found
