"""A job's finished runs, sent to wherever its config says they are tracked."""

from __future__ import annotations

from collections.abc import Sequence

from recbench.config.settings import TrackingConfig
from recbench.core.run_folder import RunFolder
from recbench.tracking import loggers


def deliver(config: TrackingConfig, folders: Sequence[RunFolder]) -> str | None:
    """Send finished runs, the last being the one asked for and the others what it stands on. Returns how to come to a page that compares
    them; None if they could not be sent, which is said and is no error. Raises NotSent where a disk is full."""
    if loggers.is_logger(config):
        return loggers.deliver(config, folders)
    from recbench.tracking import mlflow_store

    return mlflow_store.deliver(config, folders)
