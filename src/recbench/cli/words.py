"""``+experiment=NAME`` of the command line: which studies are asked for, and with which words for all of their runs."""

from __future__ import annotations

from recbench.core.errors import UserError

ASKS = ("+experiment=", "experiment=", "++experiment=")

#: Says how many runs of a study go side by side, as it says of a sweep's jobs.
JOBS = "hydra.launcher.n_jobs="


def asked_studies(arguments: list[str]) -> list[list[str]] | None:
    """The arguments of ``recbench study`` for each study that is asked for; None where none is. Raises UserError for what fits no study.

    >>> asked_studies(["-m", "+experiment=a,b", "tracking=off"])
    [['a', 'tracking=off'], ['b', 'tracking=off']]
    """
    named = [argument.split("=", 1)[1] for argument in arguments if argument.startswith(ASKS)]
    if not named:
        return None
    flags = [argument for argument in arguments if argument.startswith("-")]
    strange = sorted(set(flags) - {"-m", "--multirun"})
    if strange:
        raise UserError(f"{strange[0]} does not go with +experiment=NAME; see recbench study --help")
    names = [name for text in named for name in text.split(",") if name]
    if len(names) > 1 and not flags:
        raise UserError(f"add -m to run several studies: {', '.join(names)} (put -m anywhere among the words)")
    words = [word for word in arguments if word not in flags and not word.startswith(ASKS)]
    if "-m" in flags and len(names) == 1 and any("," in word.split("=", 1)[-1] and "[" not in word for word in words):
        raise UserError(
            "a study's rows and seeds stand in its study.yaml; words beside +experiment=NAME hold one value each"
        )
    jobs = [f"--jobs={word.removeprefix(JOBS)}" for word in words if word.startswith(JOBS)]
    own = [word for word in words if not word.startswith(("hydra.", "hydra/"))]
    return [[name, *own, *jobs] for name in names]
