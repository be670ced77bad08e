"""The command line: Hydra composes, the experiment runs, and a mistake of the user is one clear line and exit status 2."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.schemas import GROUPS, HERE, conf_dir, one_line
from recbench.core.errors import UserError, nearest
from recbench.training.processes.ranks import launched

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recbench.config.run import RunConfig
    from recbench.experiment.early_stop import Judge

logger = logging.getLogger(__name__)

HELP = """recbench: sequential recommenders under one split, one ranking kernel, one budget

usage: python -m recbench [key=value ...]         one run; without keys: model=slmrec data=synthetic
       python -m recbench -m key=a,b,c ...        a sweep over every combination
       python -m recbench --cfg job [key=value]   print exactly what would run
       python -m recbench +experiment=NAME        what is missing of a study (-m: of several, as in +experiment=a,b)

groups (choose with group=option):
{groups}
keys (change with key=value):
  seed, runs_dir, cache_dir
  training.{{max_epochs,batch_size,lr,weight_decay,patience,max_length,warmup_steps,schedule,step_epochs,l2,gradient_clip,validate_every}}
  evaluation.cutoffs
  tracking.{{enabled,uri,experiment}}   hardware.{{accelerator,devices,nodes,strategy,precision,compile,threads,logits}}
  model.*  data.*  protocol.*  distillation.*  compression.*   as `--cfg job` prints them for the chosen options

also:  python -m recbench.tune model=NAME --trials 20   search for better values (extra 'tune')
       python -m recbench.report NAME       the page and the tables of a study, or of a folder: runs_dir=FOLDER
       python -m recbench.recommend RUN --user ID   what a finished run recommends
       python -m recbench.export RUN --to FOLDER    its model as a program for plain torch
       python -m recbench.doctor            what this machine has, and what is missing for which model
       python -m recbench.tracking sync     send finished runs to a tracking server that was away
       hydra/launcher=joblib                jobs of a sweep side by side (extra 'sweep'); hardware=slurm: on a cluster
       mlflow ui                            compare runs
       --hydra-help                         Hydra's own flags
"""


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text())
        return 0
    # Hydra would print its own text for an error and exit with 1; with this it raises, and we speak.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else DDP warns of a flag that we set on purpose
    import hydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from recbench.cli.words import asked_studies
    from recbench.config.hydra_source import TOP, SchemaSource, SearchPath
    from recbench.experiment import sweep

    speak()
    try:
        studies = asked_studies(sys.argv[1:])
    except UserError as error:
        return _complain(str(error))
    if launched().world > 1 and (studies is not None or {"-m", "--multirun"} & set(sys.argv[1:])):
        return _complain(
            "torchrun and srun start the processes of one run; leave out -m and +experiment, or start those without them"
        )
    if studies is not None:
        from recbench.cli.study import main as run_studies

        return max(run_studies(words) for words in studies)
    sys.argv[1:] = [*map(opened, sys.argv[1:]), *launcher_words(sys.argv[1:])]
    Plugins.instance().register(SchemaSource)
    Plugins.instance().register(SearchPath)
    outcome = sweep.Outcome()
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=TOP)(outcome.job)()
    except UserError as error:
        return _complain(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _complain(explain(error))
    except OSError as error:
        # Of a job nothing comes through here: this is the folder that Hydra makes for a sweep.
        if error.filename is None:
            raise
        return _complain(f"cannot write {error.filename}: {error.strerror}; choose another place with runs_dir=PATH")
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's, for such as model=3
            raise
        return _complain(one_line(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        sweep.end_early()
    return outcome.exit_status()


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


def speak() -> None:
    """Messages of recbench go to stderr as plain lines, in a job of a sweep as in a single run."""
    package = logging.getLogger("recbench")
    if not package.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        package.propagate = False  # Hydra's own handler on the root would say everything twice


def _complain(message: str) -> int:
    if launched().leads:  # torchrun and srun start this several times
        print(f"error: {message}", file=sys.stderr)
    return 2


def run_job(composed: DictConfig, parent: str | None = None, judge: Judge | None = None) -> list[Any]:
    """One job: run it, show it, send it. Returns the runs to show, the asked one last.

    judge: of a search that may give it up. Raises StoppedEarly if it does, or did before.
    """
    from recbench.config.run import RunConfig
    from recbench.training.processes.leader import team

    config = RunConfig.from_hydra(composed)
    speak()
    with team(config.hardware):  # one for all the runs that the job is made of
        return _run_job(config, parent, judge)


def _run_job(config: RunConfig, parent: str | None, judge: Judge | None) -> list[Any]:
    from recbench.experiment.context import Stage
    from recbench.experiment.dependencies import check_dependencies
    from recbench.experiment.run import reference, run
    from recbench.models.registry import lookup
    from recbench.report.console import show_run

    check_dependencies(config)
    stage = Stage.of(config)
    show_run_start(config, stage)
    with judge.watching(config, stage) if judge is not None else contextlib.nullcontext():
        made = run(config, stage)
    floor = [reference(config, stage)] if lookup(config.model.name).model.ranks else []
    shown = [*floor, *made.dependencies.values(), made]
    # A run may be its own reference or stand twice among the dependencies.
    unique = list({part.folder.key: part for part in reversed(shown)}.values())[::-1]
    if parent is None:
        show_run(unique, stage)
    if config.tracking.enabled:
        from recbench.tracking.mlflow_store import deliver

        page = deliver(config.tracking, [part.folder for part in unique], parent)
        if page and parent is None:
            logger.info("compare runs: %s", page)
    return unique


def show_run_start(config: Any, stage: Any) -> None:
    data = stage.data
    logger.info(
        "data %s: %s users, %s items, %s interactions; protocol %s",
        data.folder.name,
        f"{data.n_users:,}",
        f"{data.n_items:,}",
        f"{data.n_interactions:,}",
        stage.split.protocol_id,
    )


def help_text() -> str:
    """The help, from the file names of ``conf/`` and the registry; nothing heavy is imported for it."""
    from recbench.models.registry import model_names

    lines = []
    for group in GROUPS:
        options = {path.stem for path in (conf_dir() / group).glob("*.yaml")} | (
            set(model_names()) if group == "model" else set()
        )
        lines.append(f"  {group:<13} {', '.join(sorted(options))}")
    return HELP.format(groups="\n".join(lines) + "\n")


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
