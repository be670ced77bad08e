"""Whether a training was cut off: what a model reached before its end says little about the model, and tables are full of such rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Figure of a training on all data: the epochs that were tried to choose how many it has.
EPOCHS_TRIED = "cost/epochs_tried"


def cut_off(training: Mapping[str, Any], figures: Mapping[str, Any]) -> bool:
    """Whether ``max_epochs`` ended a training before ``patience`` epochs had passed without a better validation.

    training: the ``training`` part of a run's config; figures: its ``cost/epochs`` and ``cost/best_epoch`` (from 0). A cosine schedule
    reaches its end by ``max_epochs`` and no other way, so it is never cut off; nor is what has no epochs, or a config that lacks these keys.
    """
    epochs, best = figures.get("cost/epochs", 0), figures.get("cost/best_epoch", -1)
    limit, patience = training.get("max_epochs"), training.get("patience")
    if not epochs or best < 0 or limit is None or patience is None or training.get("schedule") == "cosine":
        return False
    return bool(epochs >= limit and epochs - 1 - best < patience)


def run_was_cut_off(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """The same of a finished run, by its whole config and metrics. Where the last epoch is kept on purpose nothing was to be waited for, and where
    another run chose the epochs, that one may have been cut off."""
    if EPOCHS_TRIED in metrics:
        chosen = {"cost/epochs": metrics[EPOCHS_TRIED], "cost/best_epoch": metrics["cost/epochs"] - 1}
        return cut_off(config.get("training", {}), chosen)
    kept_on_purpose = config.get("protocol", {}).get("fit_on_validation", False)
    return not kept_on_purpose and cut_off(config.get("training", {}), metrics)


def cut_off_note(names: Sequence[str]) -> str:
    """What a table says of such rows."""
    return f"Ended by training.max_epochs before validation had stopped rising, so perhaps not trained to their end: {', '.join(names)}."
