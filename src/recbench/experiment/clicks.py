"""Runs under ``protocol=clicks``: logits of the rows of validation and test, their figures, and the file of predictions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, replacing
from recbench.data.clicks.split import ClickSplit
from recbench.evaluation.clicks import click_metrics
from recbench.evaluation.ranking import ScoreError
from recbench.experiment.device import device_of
from recbench.models.base import Recommender
from recbench.training.processes import ranks as processes

TASK = "clicks"


def check_task(config: RunConfig) -> None:
    """Raise UserError for a model that cannot answer what the protocol asks, by name, and for what clicks do not know."""
    from recbench.models.registry import lookup

    model, name, asks = lookup(config.model.name).model, config.model.name, config.protocol.asks_clicks
    if not asks:
        if "ranking" not in model.answers:
            raise UserError(
                f"the model '{name}' predicts clicks and ranks no items; use protocol=clicks, or another model"
            )
        return
    if TASK not in model.answers:
        raise UserError(
            f"the model '{name}' cannot say how likely a click is; use a protocol that ranks, or one of its kind such as model=deepfm"
        )
    if config.distillation.name != "none" or config.compression.name != "none":
        raise UserError("protocol=clicks knows no distillation and no compression; set both to none")
    if getattr(config.model, "retriever", None):
        raise UserError(
            "model.retriever finds items of a catalogue, and protocol=clicks has rows that were shown; set model.retriever={}"
        )
    if model.learns_while_asked and config.protocol.order != "time":
        raise UserError(f"the model '{name}' learns while it serves, in order of time; use protocol.order=time")
    if config.hardware.devices * config.hardware.nodes > 1:
        raise UserError("protocol=clicks runs in one process; set hardware.devices=1")


def read_length(model: Recommender, config: RunConfig) -> int:
    """Clicks before a row that are gathered for a model."""
    return config.training.max_length if model.reads_histories else 0


@torch.inference_mode()
def predict(
    model: Recommender, split: ClickSplit, index: np.ndarray, config: RunConfig, rows: int | None = None
) -> np.ndarray:
    """[n, T] float64 logits of the rows ``index`` [n]. rows: at a time. Raises ScoreError, with the row, for NaN and infinite ones."""
    device = device_of(config.hardware)
    model = model.to(device).eval()
    streams = model.learns_while_asked
    # A model that learns while it serves meets the rows in order of time, chunk by chunk.
    order = np.argsort(split.clicks.time[index], kind="stable") if streams else np.arange(len(index))
    index, rows = index[order], model.config.chunk if streams else rows
    parts = []
    for places, batch in split.clicks.blocks(index, read_length(model, config), rows):
        found = model.click_logits(batch.to(device)).double().cpu().numpy()
        found = found[:, None] if found.ndim == 1 else found
        if not np.isfinite(found).all():
            at = int(np.argmax(~np.isfinite(found).all(axis=1)))
            row = int(index[places[at]])
            raise ScoreError(f"the logit of row {row} (user {int(split.clicks.user[row])}) is {found[at].tolist()}")
        parts.append(found)
        if streams:
            model.observe(batch.to(device))
    answers = np.concatenate(parts)
    answers[order] = answers.copy()
    return answers


def protocol_id(config: RunConfig, split: Any) -> str:
    """The id of what a run was asked; a model that sees labels of the test on its way was asked something else."""
    from recbench.models.registry import lookup

    return (
        f"{split.protocol_id}-stream" if lookup(config.model.name).model.learns_while_asked else str(split.protocol_id)
    )


def figures_of(model: Recommender, split: ClickSplit, index: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Metrics by plain name; those of further labels have theirs behind a colon, as in ``auc:conversion``."""
    labels, users = np.asarray(split.clicks.label[index]), np.asarray(split.clicks.user[index])
    train = split.clicks.label[split.train_rows]
    found: dict[str, float] = {}
    for i, name in enumerate(split.clicks.label_names[: logits.shape[1]]):
        label = labels[:, i]
        if label.min() == label.max() or train[:, i].min() == train[:, i].max():
            continue  # of one class only: nothing to tell apart
        rate = float(train[:, i].mean())
        values = click_metrics(label.astype(np.float64), logits[:, i], users, rate, model.gives_odds)
        found |= {metric if i == 0 else f"{metric}:{name}": value for metric, value in values.items()}
    return found


def validate(model: Recommender, split: ClickSplit, config: RunConfig) -> dict[str, float]:
    """Validation metrics by plain name."""
    model.forget()
    return figures_of(model, split, split.validation_rows, predict(model, split, split.validation_rows, config))


def test(model: Recommender, split: ClickSplit, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Test figures of a run; the logit of every row goes to ``predictions.parquet``."""
    import polars as pl

    started = time.perf_counter()
    logits = predict(model, split, split.test_rows, config)
    seconds = time.perf_counter() - started
    columns = {
        "row": split.test_rows,
        "user": np.asarray(split.clicks.user[split.test_rows]),
        "label": np.asarray(split.clicks.label[split.test_rows, 0]),
        "logit": logits[:, 0],
    }
    for i, name in enumerate(split.clicks.label_names[1 : logits.shape[1]], 1):
        columns |= {
            f"label:{name}": np.asarray(split.clicks.label[split.test_rows, i]),
            f"logit:{name}": logits[:, i],
        }
    with replacing(folder.predictions) as temporary:
        pl.DataFrame(columns).write_parquet(temporary)
    measured = figures_of(model, split, split.test_rows, logits)
    return {
        **{f"test/{name}": value for name, value in measured.items()},
        "test/cases": len(split.test_rows),
        "cost/test_seconds": seconds,
        "cost/rows_per_second": len(split.test_rows) / max(seconds, 1e-9),
        "cost/processes": processes.here().world,
    }


def audit_line(found: dict[str, float | int]) -> str:
    """What a reader must know of the rows, as one line."""
    parts = [
        f"{found['training_rows']:,} rows to train, {found['validation_rows']:,} to validate, {found['test_rows']:,} to test; "
        f"clicks: {found['training_rate']:.1%}, {found['validation_rate']:.1%}, {found['test_rate']:.1%}"
    ]
    if found["drawn_rows"]:
        parts.append(f"{found['drawn_rows']:,} rows without a click were drawn")
    parts.append(f"{found['test_rows_without_history']:.1%} of the test without a click before them")
    parts.append(f"{found['test_rows_of_new_users']:.1%} of users without a training row")
    return " · ".join(parts)
