"""The protocol ``clicks`` applied to one data set; ``recbench.data.clicks.build`` makes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbench.data.clicks.known_fields import Fields
from recbench.data.clicks.rows import ClickData, ClickTraining
from recbench.data.prepared import PreparedData


@dataclass(frozen=True)
class ClickSplit:
    """The protocol ``clicks`` applied to one data set: what ``recbench.data.split.Split`` is to protocols that rank.

    train_start, train_end [U]: the training clicks in the log. train_rows, validation_rows, test_rows: numbers of the rows of ``clicks``.
    """

    protocol_id: str
    clicks: ClickData
    train_start: np.ndarray
    train_end: np.ndarray
    train_rows: np.ndarray
    validation_rows: np.ndarray
    test_rows: np.ndarray
    audit: dict[str, float | int]
    split_hash: str
    metric_prefix: str = ""
    seen_items: str = "keep"
    validation_in_training: bool = False
    whole_histories: bool = False
    ranked: np.ndarray | None = None

    @property
    def fields(self) -> Fields:
        """Those of a row."""
        return self.clicks.fields

    def training(self, data: PreparedData) -> ClickTraining:
        """data: the log of the clicks."""
        return ClickTraining(data, self.train_start, self.train_end, self.clicks, self.train_rows)
