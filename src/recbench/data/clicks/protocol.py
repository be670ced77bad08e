"""The protocol ``clicks``: how likely is a click on what is shown? Rows are impressions with labels, and nothing is ranked against a catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from recbench.core.errors import UserError
from recbench.data.protocol_base import VERSION, ProtocolConfig
from recbench.data.schema import check_choice

ORDERS = ("time", "random", "given")
SAMPLINGS = ("uniform", "popularity")


@dataclass
class ClicksConfig(ProtocolConfig):
    """A model says for each row of the test how likely its label is.

    order: how rows become training, validation and test: one cut in ``time`` for everybody, drawn at ``random`` with ``seed``, or the ``given``
    parts of the data. validation_ratio, test_ratio: shares of the rows. label_above: rows are ratings, and one above this is a click; null: the
    data have labels, or else every interaction is a click. negatives: rows without a click that are drawn for each click with ``seed``, in
    every part of the data that has none: user and context are the click's, the item is one that the user never clicked. sampling: of their
    items. rare: a value of a field in fewer training rows than this is treated as unknown.
    """

    name: str = "clicks"
    order: str = "time"
    validation_ratio: float = 0.1
    test_ratio: float = 0.1
    label_above: float | None = None
    negatives: int = 0
    sampling: str = "uniform"
    rare: int = 1
    seed: int = 0

    @property
    def takes_given_parts(self) -> bool:
        return self.order == "given"

    @property
    def asks_clicks(self) -> bool:
        return True

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.order", self.order, ORDERS)
        check_choice("protocol.sampling", self.sampling, SAMPLINGS)
        if not (self.validation_ratio > 0 and self.test_ratio > 0 and self.validation_ratio + self.test_ratio < 1):
            raise UserError(
                f"protocol.validation_ratio={self.validation_ratio} and test_ratio={self.test_ratio} must be positive and leave something to train on"
            )
        for key, least in (("negatives", 0), ("rare", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise UserError(f"protocol.{key} must be at least {least}, not {getattr(self, key)}")
        for key, usual in (
            ("fit_on_validation", False),
            ("cold_items", "rank"),
            ("users", None),
            ("seen_items", "auto"),
        ):
            if getattr(self, key) != usual:
                raise UserError(
                    f"protocol.{key} belongs to protocols that rank items; protocol=clicks does not know it"
                )

    def identity(self, seen_items: str, has_validation: bool = True) -> str:
        """has_validation: whether data whose parts are given have one for validation."""
        parts = [f"clicks-{self.order}"]
        if self.order == "random":
            parts[0] += f".s{self.seed}"
        if self.order != "given":
            parts.append(f"v{self.validation_ratio}-t{self.test_ratio}")
        elif not has_validation:
            parts.append(f"v{self.validation_ratio}.s{self.seed}")
        parts.append("label" if self.label_above is None else f"above{self.label_above:g}")
        parts.append(f"n{self.negatives}.{self.sampling}.s{self.seed}" if self.negatives else "shown")
        return "-".join([*parts, f"rare{self.rare}", VERSION])
