"""Prepared data and their split as frames, with the raw ids of users and items."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.cli.face.words import Words, messages, own_hydra, words_of

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.cases import Cases
    from recbench.experiment.context import RunContext


def load_data(*words: Words) -> Data:
    """Data and split, as a run with these words would see them; prepared first where they are not yet. Takes the keys of the command line.

        data = recbench.load_data("data=synthetic", "protocol=temporal")
        data.interactions               # user, item, timestamp, ...
        data.train, data.test           # what is learned from, and what is asked

    Raises UserError for files that are missing or cannot be read, and for wrong keys.
    """
    from recbench.config.compose import compose
    from recbench.experiment.context import RunContext

    given = words_of(words)
    model = [] if any(word.lstrip("+").startswith("model=") for word in given) else ["model=popularity"]
    with messages():
        with own_hydra():
            config = compose((*model, *given))
        return Data(RunContext.of(config))


class Data:
    """One data set under one protocol. Frames are made when they are asked for; the arrays behind them stay on disk.

    name: of its folder; protocol: its id; fingerprint: equal exactly where the prepared data are equal; audit: how much the split leaks, and
    so on, by name; prepared, split: the arrays themselves, for those who need them.
    """

    def __init__(self, stage: RunContext) -> None:
        self.prepared, self.split = stage.data, stage.split
        self.name: str = stage.data.folder.name
        self.folder: Path = stage.data.folder
        self.protocol: str = stage.split.protocol_id
        self.fingerprint: str = stage.data.fingerprint
        self.n_users, self.n_items = stage.data.n_users, stage.data.n_items
        self.n_interactions: int = stage.data.n_interactions
        self.audit: dict[str, Any] = dict(stage.split.audit)

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row an item: ``item_id`` (1, 2, ...: its number in models), ``item`` (raw id), and what is known of it: ``title``, ``brand``,
        ``categories``, ``price``, ``description``."""
        return self.prepared.item_table()

    @cached_property
    def users(self) -> pl.DataFrame:
        """One row a user: ``user`` (0, 1, ...: its number in models) and ``user_id`` (raw id). Under ``protocol=sessions`` a session is a user."""
        return self.prepared.user_ids()

    @cached_property
    def interactions(self) -> pl.DataFrame:
        """One row an event, user after user, oldest first: ``user`` and ``item`` (raw ids), and where the data have them ``timestamp`` (UTC),
        ``behaviour`` and ``session`` (its number within the user)."""
        return self._events(np.arange(self.n_interactions))

    @cached_property
    def train(self) -> pl.DataFrame:
        """The events that a model learns from, with the columns of ``interactions``."""
        from recbench.data.cases import flat_ranges

        _, place = flat_ranges(self.split.train_start, self.split.train_end)
        return self._events(place)

    @cached_property
    def validation(self) -> pl.DataFrame:
        """The targets on which an epoch is chosen, with the columns of ``test``."""
        return self._targets(self.split.validation)

    @cached_property
    def test(self) -> pl.DataFrame:
        """One row a target that a model has to find: the columns of ``interactions``, ``case`` (targets of one question share it), and
        ``history_start`` and ``history_end``: what may be known of the user is ``interactions[history_start:history_end]``."""
        return self._targets(self.split.test)

    def _events(self, place: np.ndarray) -> pl.DataFrame:
        import polars as pl

        data = self.prepared
        user = np.searchsorted(data.offsets, place, side="right") - 1
        columns: dict[str, Any] = {
            "user": self.users["user_id"].gather(user),
            "item": self.items["item"].gather(np.asarray(data.items[place], np.int64) - 1),
        }
        if data.has_timestamps:
            seconds = pl.Series(np.asarray(data.timestamps[place], np.int64))
            columns["timestamp"] = (seconds * 1000).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
        if data.behaviours is not None:
            names = pl.Series([None, *data.manifest["behaviours"]], dtype=pl.String)  # 0: not known
            columns["behaviour"] = names.gather(np.asarray(data.behaviours[place], np.int64))
        if data.sessions is not None:
            columns["session"] = np.asarray(data.sessions[place], np.int64)
        return pl.DataFrame(columns)

    def _targets(self, cases: Cases) -> pl.DataFrame:
        import polars as pl

        case = np.repeat(np.arange(len(cases)), cases.n_targets)
        more = {"case": case, "history_start": cases.start[case], "history_end": cases.end[case]}
        return self._events(cases.target_positions).with_columns(
            pl.Series(name, values) for name, values in more.items()
        )

    def __repr__(self) -> str:
        counts = f"{self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions"
        return f"<Data {self.name}: {counts}, protocol {self.protocol}>"
