"""What the fields of impressions are, for whoever reads their numbers; how they are numbered is told in ``recbench.data.clicks.fields``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Stands in the item table for all items that training does not know; they share one number, the last.
UNKNOWN_ITEMS = "(items unknown to training)"
#: Numbers of a category: missing, unknown to training, and the first that is known.
MISSING, UNKNOWN, FIRST = 0, 1, 2


@dataclass(frozen=True)
class Fields:
    """What the fields of a data set are, in the order of their columns: categories name -> size (with missing and unknown), numbers, several."""

    categories: Mapping[str, int]
    numbers: tuple[str, ...]
    several: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """All fields, in the order in which a model sees them."""
        return (*self.categories, *self.numbers, *self.several)

    def as_dict(self) -> dict[str, Any]:
        return {"categories": dict(self.categories), "numbers": list(self.numbers), "several": dict(self.several)}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Fields:
        return cls(dict(stored["categories"]), tuple(stored["numbers"]), dict(stored["several"]))
