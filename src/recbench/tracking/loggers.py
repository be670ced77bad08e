"""Finished runs in TensorBoard or Weights & Biases, through the loggers of Lightning (``tracking=tensorboard``, ``tracking=wandb``).

As with MLflow, a run is complete on disk before it is sent, is sent whole, and is never lost through a tracker. Where a run was sent is kept in its
folder (``loggers.json``), so that sending it again does nothing. Jobs of a sweep send themselves: these trackers know no parent runs. Whether wandb
asks for a login or works offline is for its own settings to say, such as the variable WANDB_MODE.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbench.config.run_name import run_name
from recbench.config.settings import TrackingConfig
from recbench.core.disk import is_full
from recbench.core.errors import UserError, first_line
from recbench.core.run_folder import RunFolder, locked
from recbench.tracking.describe import COSTS, headline, parameters_of
from recbench.tracking.store import NotSent

logger = logging.getLogger(__name__)

#: Names of ``tracking`` that are served here; each is also the name of its extra and of the package that it needs.
LOGGERS = ("tensorboard", "wandb")
#: What a run folder remembers of them.
SENT_FILE = "loggers.json"


def is_logger(config: TrackingConfig) -> bool:
    """Whether runs go to one of these trackers."""
    return config.enabled and config.name in LOGGERS


def check_logger(config: TrackingConfig) -> None:
    """Raise UserError, before anything is trained, where the tracker's package is not installed."""
    if is_logger(config) and importlib.util.find_spec(config.name) is None:
        raise UserError(
            f"tracking={config.name} needs the extra '{config.name}'; install it with: pip install 'recbench[{config.name}]', or use tracking=off"
        )


def deliver(config: TrackingConfig, folders: Sequence[RunFolder]) -> str | None:
    """Send finished runs, each once. Returns how to look at them; None if one could not be sent, which is said and is no error.

    Raises NotSent where the disk is full.
    """
    try:
        for folder in folders:
            with locked(folder):
                _send(config, folder)
    except Exception as error:
        if is_full(error):
            raise NotSent(f"{config.name} in {config.uri}", "the run", "the same command") from error
        reason = first_line(error)
        logger.warning(
            "not sent to %s: %s; the run is complete on disk, and the same command sends it later", config.name, reason
        )
        return None
    if config.name == "tensorboard":
        return f"tensorboard --logdir {Path(config.uri).expanduser()}"
    return f"project {config.experiment} of Weights & Biases; runs made offline in {config.uri}/wandb wait for `wandb sync`"


def _send(config: TrackingConfig, folder: RunFolder) -> None:
    place = f"{config.name} {Path(config.uri).expanduser().absolute()} {config.experiment}"
    sent = folder.read(SENT_FILE)
    if place in sent:
        return
    stored, metrics = folder.config(), folder.read("metrics.json")
    tracker = _tracker(config, folder.key, run_name(stored))
    first = headline(metrics)
    parameters = dict(parameters_of(stored))
    if config.name == "tensorboard":
        tracker.log_hyperparams(parameters, {first: metrics[first]} if first else {})
    else:
        tracker.log_hyperparams({**parameters, "recbench": {"key": folder.key, "protocol": metrics.get("protocol")}})
    history = folder.history()
    for epoch in history:
        values = {f"epoch/{name}": float(value) for name, value in epoch.items() if name != "epoch"}
        tracker.log_metrics(values, step=int(epoch["epoch"]))
    tracker.log_metrics(_final(metrics), step=len(history))
    tracker.finalize("success")
    if config.name == "wandb":
        tracker.experiment.finish()
    folder.write(SENT_FILE, {**sent, place: folder.key})


def _final(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures that MLflow shows too."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and (name in COSTS or not name.startswith("cost/"))
    }


def _tracker(config: TrackingConfig, key: str, name: str) -> Any:
    """Lightning's logger of one run; nothing of Lightning is imported before."""
    place = str(Path(config.uri).expanduser())
    if config.name == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(place, name=config.experiment, version=key, default_hp_metric=False)
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(name=name, save_dir=place, project=config.experiment, id=key, resume="allow")
